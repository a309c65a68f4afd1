"""Where registered names come from: the library's own catalogue and plug-ins. Knows no Keras.

Plug-ins are packages with an entry point in the group ``resnet_backbones.plugins``. It names a module, whose import
registers, or a function, which is called:

    [project.entry-points."resnet_backbones.plugins"]
    my_backbones = "my_package.backbones"
"""

from __future__ import annotations

import importlib
import importlib.metadata
import threading
import warnings

GROUP = "resnet_backbones.plugins"

# Held while modules are imported. The registries' own locks are held for dictionary work only, so that a module
# which registers while another thread imports it never waits here.
_catalogue_lock = threading.RLock()
_plugins_lock = threading.RLock()
_catalogue_state = "absent"
_plugins_loaded = False
_local = threading.local()
_working: list[str] = []
_broken: list[str] = []


def current() -> str | None:
    """The plug-in this thread is loading: the owner of what it registers."""
    return getattr(_local, "plugin", None)


def load_catalogue() -> None:
    """Registers the library's own backbones and blocks, once."""
    global _catalogue_state
    if _catalogue_state == "loaded":
        return
    with _catalogue_lock:
        if _catalogue_state == "absent":  # while "loading", the catalogue itself comes by here
            _catalogue_state = "loading"
            importlib.import_module("resnet_backbones.variants")
            _catalogue_state = "loaded"


def load() -> None:
    """Loads every plug-in, once. A broken one warns, by name, and leaves the rest working."""
    global _plugins_loaded
    if _plugins_loaded or current():  # a plug-in that lists names while it loads sees what is there so far
        return
    with _plugins_lock:
        if _plugins_loaded:
            return
        for entry_point in importlib.metadata.entry_points(group=GROUP):
            package = entry_point.dist.name if entry_point.dist else "unknown"
            label = f"plug-in {entry_point.name!r} of package {package!r}"
            _local.plugin = label
            try:
                register = entry_point.load()
                if callable(register):
                    register()
                _working.append(entry_point.name)
            except Exception as error:  # whatever foreign code raises must not take the library down
                _broken.append(entry_point.name)
                warnings.warn(
                    f"{label} ({entry_point.value}) could not be loaded and is left out: "
                    f"{type(error).__name__}: {error}",
                    stacklevel=3,
                )
            finally:
                _local.plugin = None
        _plugins_loaded = True


def summary() -> str:
    """One sentence on the plug-ins found, for error messages."""
    text = f"Plug-ins loaded: {', '.join(_working) or 'none'}"
    return f"{text}; broken: {', '.join(_broken)}." if _broken else f"{text}."
