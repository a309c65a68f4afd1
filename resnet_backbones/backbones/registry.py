"""Names of backbones. Knows no Keras, so that listing names stays fast.

A name leads to a :class:`ResNetSpec` or to a function that returns one, or that returns a model. The library's own
names are those of ``catalogue.py``; packages join through the entry-point group ``resnet_backbones.plugins``, which is
read when a name is listed or not found otherwise.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from resnet_backbones._util.checks import one_of, positive_integers
from resnet_backbones._util.text import check_name
from resnet_backbones.backbones import plugins
from resnet_backbones.backbones.catalogue import CATALOGUE, sources_of
from resnet_backbones.backbones.spec import BackboneSpec
from resnet_backbones.backbones.spec_values import PREPROCESSINGS
from resnet_backbones.errors import DuplicateNameError, UnknownNameError, did_you_mean

#: The family of a backbone that was registered without one.
CUSTOM = "custom"


@dataclass(frozen=True)
class BackboneEntry:
    """What the registry holds about one backbone.

    Args:
        name: the name it was registered by.
        source: a spec, or a function returning a spec or a model.
        owner: module (or plug-in) that registered it.
        aliases: its other names.
        description: one line, from the function's docstring or given.
        family: the family it is listed under.
        paper: authors, year and link.
        input_size: height and width of the images it was published for, in pixels.
        preprocessing: how its published weights want their images, by name; ``None`` where that is not known.
        weights: where weights are published, e.g. ``"hf-hub:timm/resnet50.a1_in1k"``.
    """

    name: str
    source: BackboneSpec | Callable[..., Any]
    owner: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    family: str = CUSTOM
    paper: str = ""
    input_size: int = 224
    preprocessing: str | None = None
    weights: tuple[str, ...] = ()

    @property
    def builds_model(self) -> bool:
        """Whether ``source`` is a function that takes ``input_shape`` and so returns a model."""
        if not callable(self.source):
            return False
        try:
            return "input_shape" in inspect.signature(self.source).parameters
        except (TypeError, ValueError):  # of what has no signature, such as classes written in C
            return False


#: Who registered the names of the catalogue.
OWNER = "resnet_backbones.backbones.catalogue"
_backbones: dict[str, BackboneEntry] = {
    name: BackboneEntry(name, source=about.pop("spec"), owner=OWNER, weights=sources_of(name), **about)
    for name, about in ((name, dict(vars(variant))) for name, variant in CATALOGUE.items())
}
_aliases: dict[str, str] = {}


def register_backbone(
    name: str,
    source: BackboneSpec | Callable[..., Any] | None = None,
    *,
    aliases: Iterable[str] = (),
    description: str = "",
    family: str = CUSTOM,
    paper: str = "",
    input_size: int = 224,
    preprocessing: str | None = None,
    weights: Iterable[str] = (),
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
        family: what ``list_backbones(family=...)`` finds it by.
        paper: authors, year and link.
        input_size: height and width of the images it is meant for, in pixels.
        preprocessing: how its published weights want their images: a name of ``specs.PREPROCESSINGS``.
        weights: where weights for it are published, e.g. ``["hf-hub:me/my-weights"]``.
        overwrite: takes the name away from its present owner.

    Returns:
        ``source``, or the decorator.

    Raises:
        DuplicateNameError: the name or an alias is taken.
        TypeError: ``source`` is neither a spec nor a function, or something told about it is of the wrong type.
        ValueError: there is no such preprocessing, or a name holds control characters.

    Example:
        >>> @register_backbone("resnet26_mine", aliases=["r26m"])
        ... def resnet26_mine():
        ...     '''ResNet-26 with SiLU.'''
        ...     return ResNetSpec(depths=(2, 2, 2, 2), activation="silu")
    """
    check_name("a backbone", name)
    if not isinstance(description, str):
        raise TypeError(f"description must be text, one line; got {description!r}.")
    for field, value in (("aliases", aliases), ("weights", weights)):
        if isinstance(value, str):
            raise TypeError(f"{field} must be a list; got the string {value!r}: write [{value!r}].")
    aliases = tuple(aliases)
    for alias in aliases:
        check_name("a backbone", alias)
    weights = tuple(weights)
    for address in weights:
        check_name("a source of weights", address)
    about: dict[str, Any] = {"family": family, "paper": paper, "input_size": input_size, "preprocessing": preprocessing}
    _check_about(**about)
    owner = plugins.current() or sys._getframe(1).f_globals.get("__name__", "?")

    def register(source: Any) -> Any:
        if not isinstance(source, BackboneSpec) and not callable(source):
            raise TypeError(
                f"register_backbone({name!r}) takes a spec, or a function returning a spec or a model; got {source!r}."
            )
        text = description or ("" if isinstance(source, BackboneSpec) else _first_line(source))
        _add(BackboneEntry(name, source, owner, aliases, text, weights=weights, **about), overwrite)
        return source

    return register if source is None else register(source)


def all_entries() -> list[BackboneEntry]:
    """Every backbone, plug-ins' included, in the order they were registered."""
    plugins.load()
    with plugins.lock:
        return list(_backbones.values())


def find_backbone(name: str) -> BackboneEntry:
    """The entry behind a name or alias.

    Raises:
        UnknownNameError: nobody registered it; the message gives the nearest names.
    """
    if not isinstance(name, str):
        raise TypeError(f"a backbone is asked for by name, e.g. 'resnet50'; got {name!r}.")
    entry = _lookup(name)
    if entry is None:
        plugins.load()
        entry = _lookup(name)
    if entry is None:
        with plugins.lock:
            known = [*_backbones, *_aliases]
        raise UnknownNameError(
            f"no backbone is called {name!r}.{did_you_mean(name, known)} list_backbones() gives every name. If it "
            f"comes from another package, is the plug-in installed? {plugins.summary()}"
        )
    return entry


def index_aliases() -> None:
    """Finds the aliases again, of the backbones there are."""
    with plugins.lock:
        _aliases.clear()
        _aliases.update({alias: entry.name for entry in _backbones.values() for alias in entry.aliases})


index_aliases()
plugins.note_table(_backbones, index_aliases)


def _add(entry: BackboneEntry, overwrite: bool) -> None:
    with plugins.lock:
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
    with plugins.lock:
        return _backbones.get(name) or _backbones.get(_aliases.get(name, ""))


def _check_about(family: Any, paper: Any, input_size: Any, preprocessing: Any) -> None:
    check_name("a family", family)
    if not isinstance(paper, str):
        raise TypeError(f"paper must be text: authors, year and link; got {paper!r}.")
    positive_integers("input_size", (input_size,))
    if preprocessing is not None:
        one_of("preprocessing", preprocessing, tuple(PREPROCESSINGS))


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
