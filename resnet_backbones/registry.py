"""Names of backbones. Knows no Keras, so that listing names stays fast.

A name leads to a :class:`ResNetSpec` or to a function that returns one, or that returns a model. The library's own
catalogue (``variants``) registers here like anybody else; packages join through the entry-point group
``resnet_backbones.plugins``, which is read when a name is listed or not found otherwise.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from resnet_backbones import plugins
from resnet_backbones.block_registry import find_block
from resnet_backbones.errors import DuplicateNameError, UnknownNameError, did_you_mean
from resnet_backbones.spec import ResNetSpec


@dataclass(frozen=True)
class BackboneEntry:
    """What the registry holds about one backbone.

    Args:
        name: the name it was registered by.
        source: a spec, or a function returning a spec or a model.
        owner: module (or plug-in) that registered it.
        aliases: its other names.
        description: one line, from the function's docstring or given.
    """

    name: str
    source: ResNetSpec | Callable[..., Any]
    owner: str
    aliases: tuple[str, ...] = ()
    description: str = ""

    @property
    def builds_model(self) -> bool:
        """Whether ``source`` is a function that takes ``input_shape`` and so returns a model."""
        return callable(self.source) and "input_shape" in inspect.signature(self.source).parameters


@dataclass(frozen=True)
class BackboneInfo:
    """What :func:`backbone_info` tells.

    Args:
        name: the backbone's main name.
        aliases: its other names.
        owner: module (or plug-in) that registered it.
        description: one line.
        spec: its spec; ``None`` for one whose model a function builds: finding out would mean building it.
        levels: level -> (channels, stride); empty where ``spec`` is ``None``.
    """

    name: str
    aliases: tuple[str, ...]
    owner: str
    description: str
    spec: ResNetSpec | None
    levels: dict[str, tuple[int, int]] = field(default_factory=dict)


_lock = threading.RLock()
_backbones: dict[str, BackboneEntry] = {}
_aliases: dict[str, str] = {}


def register_backbone(
    name: str,
    source: ResNetSpec | Callable[..., Any] | None = None,
    *,
    aliases: Iterable[str] = (),
    description: str = "",
    overwrite: bool = False,
) -> Any:
    """Registers a backbone by name, as a call or as a decorator.

    Args:
        name: the name ``create_backbone`` will know.
        source: a :class:`ResNetSpec`; a function without parameters returning one; or a function with an
            ``input_shape`` parameter returning a model: ``from_model(model, levels)`` or ``(model, levels)``.
            Left out, a decorator is returned.
        aliases: further names for it.
        description: one line; by default the first line of the function's docstring.
        overwrite: takes the name away from its present owner.

    Returns:
        ``source``, or the decorator.

    Raises:
        DuplicateNameError: the name or an alias is taken.
        TypeError: ``source`` is neither a spec nor a function.

    Example:
        >>> @register_backbone("resnet26_mine", aliases=["r26m"])
        ... def resnet26_mine():
        ...     '''ResNet-26 with SiLU.'''
        ...     return ResNetSpec(depths=(2, 2, 2, 2), activation="silu")
    """
    _check_name(name)
    if isinstance(aliases, str):
        raise TypeError(f"aliases must be a list of names; got the string {aliases!r}: write [{aliases!r}].")
    aliases = tuple(aliases)
    for alias in aliases:
        _check_name(alias)
    owner = plugins.current() or sys._getframe(1).f_globals.get("__name__", "?")

    def register(source: Any) -> Any:
        if not isinstance(source, ResNetSpec) and not callable(source):
            raise TypeError(
                f"register_backbone({name!r}) takes a ResNetSpec, or a function returning a spec or a model; "
                f"got {source!r}."
            )
        text = description or ("" if isinstance(source, ResNetSpec) else _first_line(source))
        _add(BackboneEntry(name, source, owner, aliases, text), overwrite)
        return source

    return register if source is None else register(source)


def list_backbones(pattern: str | None = None) -> list[str]:
    """Names of all backbones, plug-ins' included, in natural order.

    Args:
        pattern: keeps names (or backbones with an alias) that match, e.g. ``"resnet*50*"``; as ``fnmatch``.

    Example:
        >>> list_backbones("resnet50?")
        ['resnet50c', 'resnet50d', 'resnet50s']
    """
    plugins.load_catalogue()
    plugins.load()
    with _lock:
        entries = list(_backbones.values())
    return sorted(
        (
            entry.name
            for entry in entries
            if pattern is None or any(fnmatch.fnmatchcase(known, pattern) for known in (entry.name, *entry.aliases))
        ),
        key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)],
    )


def find_backbone(name: str) -> BackboneEntry:
    """The entry behind a name or alias.

    Raises:
        UnknownNameError: nobody registered it; the message gives the nearest names.
    """
    if not isinstance(name, str):
        raise TypeError(f"a backbone is asked for by name, e.g. 'resnet50'; got {name!r}.")
    plugins.load_catalogue()
    entry = _lookup(name)
    if entry is None:
        plugins.load()
        entry = _lookup(name)
    if entry is None:
        with _lock:
            known = [*_backbones, *_aliases]
        raise UnknownNameError(
            f"no backbone is called {name!r}.{did_you_mean(name, known)} list_backbones() gives every name. If it "
            f"comes from another package, is the plug-in installed? {plugins.summary()}"
        )
    return entry


def backbone_info(name: str) -> BackboneInfo:
    """What is known of a backbone without building it; imports no Keras.

    Raises:
        UnknownNameError: nobody registered it.

    Example:
        >>> backbone_info("resnet50").levels["P3"]
        (512, 8)
    """
    entry = find_backbone(name)
    spec = None if entry.builds_model else entry.source() if callable(entry.source) else entry.source
    levels = {}
    if isinstance(spec, ResNetSpec):
        expansion = find_block(spec.block, load=False).expansion
        channels = [spec.stem_channels, *(width * expansion for width in spec.widths)]
        strides = spec.level_strides()
        levels = dict(zip(strides, zip(channels, strides.values(), strict=True), strict=True))
    else:
        spec = None
    return BackboneInfo(entry.name, entry.aliases, entry.owner, entry.description, spec, levels)


def _add(entry: BackboneEntry, overwrite: bool) -> None:
    plugins.load_catalogue()
    with _lock:
        names = (entry.name, *entry.aliases)
        for name in names:
            present = _lookup(name)
            if present is not None and not overwrite:
                raise DuplicateNameError(
                    f"backbone {name!r} is already registered by {present.owner}. Choose another name, or pass "
                    "overwrite=True to replace it."
                )
        for name in names:
            _remove(name)
        _backbones[entry.name] = entry
        _aliases.update(dict.fromkeys(entry.aliases, entry.name))


def _remove(name: str) -> None:
    """Frees a name: the whole entry if it is its main name, else that alias only."""
    if name in _backbones:
        for alias in _backbones.pop(name).aliases:
            _aliases.pop(alias, None)
    elif name in _aliases:
        owner = _backbones[_aliases.pop(name)]
        _backbones[owner.name] = replace(owner, aliases=tuple(alias for alias in owner.aliases if alias != name))


def _lookup(name: str) -> BackboneEntry | None:
    with _lock:
        return _backbones.get(name) or _backbones.get(_aliases.get(name, ""))


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a backbone is registered under names, such as 'resnet50'; got {name!r}.")


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
