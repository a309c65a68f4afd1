"""Plug-ins: packages that register names, loaded when names are listed or one is unknown. Knows no Keras.

Plug-ins are packages with an entry point in the group ``resnet_backbones.plugins``. It names a module, whose import
registers, or a function, which is called:

    [project.entry-points."resnet_backbones.plugins"]
    my_backbones = "my_package.backbones"
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from resnet_backbones._util.text import visible

GROUP = "resnet_backbones.plugins"
PATIENCE = 10.0  # seconds that a plug-in may take to load before a warning names it

#: Held for work on tables of registered names only, so that a module which registers while another thread imports it
#: never waits.
lock = threading.RLock()
_tables: list[tuple[dict[Any, Any], Callable[[], None]]] = []
_plugins_lock = threading.RLock()  # held while modules are imported
_plugins_loaded = False
_local = threading.local()
_loading = ""  # the plug-in that some thread loads now
_seen: set[tuple[str, str]] = set()
_working: list[str] = []
_broken: list[str] = []


def current() -> str | None:
    """The plug-in this thread is loading: the owner of what it registers."""
    return getattr(_local, "plugin", None)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Runs code of others: what it prints goes to stderr, and ``sys.exit`` in it is an error like any other."""
    with contextlib.redirect_stdout(_Diverted(sys.stdout)):
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit, and what test runners and event loops raise
            raise RuntimeError(f"{type(error).__name__}: {error}") from error


class _Diverted:
    """A stream as it is, but for the thread that made this: what that prints goes to stderr."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if threading.get_ident() == self._thread else self._stream, name)


def note_table(table: dict[Any, Any], after: Callable[[], None] = lambda: None) -> None:
    """Makes known what plug-ins can register in: of one that breaks, what it registered there is taken back.

    Args:
        table: name -> what was registered; values may have an ``owner``.
        after: called when the table was put back.
    """
    _tables.append((table, after))


def load() -> None:
    """Loads every plug-in, once. A broken one warns, by name, and leaves nothing; the rest works.

    One that takes longer than ``PATIENCE`` is named in a warning. A thread that waits for another one to load plug-ins
    then goes on without: it may be importing the very module that the other one needs.
    """
    global _plugins_loaded
    if _plugins_loaded or current():  # a plug-in that lists names while it loads sees what is there so far
        return
    if not _plugins_lock.acquire(timeout=PATIENCE):
        _warn(f"{_loading} is still being loaded by another thread; this one goes on without it.")
        return
    try:
        if not _plugins_loaded:
            for entry_point in importlib.metadata.entry_points(group=GROUP):
                if (entry_point.name, entry_point.value) not in _seen:  # of a load that Ctrl-C interrupted
                    _load(entry_point)
            _plugins_loaded = True
    finally:
        _plugins_lock.release()


def summary() -> str:
    """One sentence on the plug-ins found, for error messages."""
    text = f"Plug-ins loaded: {', '.join(_working) or 'none'}"
    return f"{text}; broken: {', '.join(_broken)}." if _broken else f"{text}."


def _load(entry_point: importlib.metadata.EntryPoint) -> None:
    global _loading
    package = entry_point.dist.name if entry_point.dist else "unknown"
    _local.plugin = _loading = label = f"plug-in {entry_point.name!r} of package {package!r}"
    slow = f"{label} ({entry_point.value}) has not finished loading after {PATIENCE:g} s, and everything waits for it. "
    timer = threading.Timer(PATIENCE, _warn, [f"{slow}If it never does: pip uninstall {package}"])
    timer.daemon = True
    timer.start()
    before = [(table, after, dict(table)) for table, after in _tables]
    try:
        with guarded():
            register = entry_point.load()
            if callable(register):
                register()
    except BaseException as error:
        _restore(before, label)
        if isinstance(error, KeyboardInterrupt):  # of the user: the next call tries again
            raise
        _broken.append(entry_point.name)
        _seen.add((entry_point.name, entry_point.value))
        what = f"{type(error).__name__}: {error}"
        _warn(f"{label} ({entry_point.value}) could not be loaded and is left out: {what}")
    else:
        _seen.add((entry_point.name, entry_point.value))
        _working.append(entry_point.name)
    finally:
        timer.cancel()
        _local.plugin, _loading = None, ""


def _restore(before: list[tuple[dict[Any, Any], Callable[[], None], dict[Any, Any]]], label: str) -> None:
    """Undoes what a plug-in registered or replaced; what other threads registered meanwhile stays."""
    with lock:
        for table, after, old in before:
            others = {key: value for key, value in table.items() if getattr(value, "owner", label) != label}
            table.clear()
            table.update({**old, **{key: value for key, value in others.items() if key not in old}})
            after()


def _warn(message: str) -> None:
    warnings.warn(visible(message), stacklevel=4)
