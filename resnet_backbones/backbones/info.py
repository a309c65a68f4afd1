"""Which backbones there are and what is known of them before they are built. Knows no Keras."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resnet_backbones.backbones import plugins
from resnet_backbones.backbones.registry import BackboneEntry, all_entries, find_backbone
from resnet_backbones.backbones.spec import BackboneSpec
from resnet_backbones.errors import UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from resnet_backbones.backbones.cost import Outline


@dataclass(frozen=True)
class BackboneInfo:
    """What :func:`backbone_info` tells.

    The figures are followed through the spec, nothing is built. They are ``None`` (and ``levels`` empty) for a backbone
    whose model a function builds, and for one with a block that uses Keras layers of its own: then they are known once
    it is built (``feature_info``, ``count_params()``).

    Args:
        name: the backbone's main name.
        aliases: its other names.
        owner: module (or plug-in) that registered it.
        description: one line.
        family: the family it is listed under.
        paper: authors, year and link.
        spec: its spec; ``None`` for one whose model a function builds: finding out would mean building it.
        input_size: height and width of the images it was published for, in pixels.
        preprocessing: how its published weights want their images: a name of ``specs.PREPROCESSINGS``, or ``None``.
        weights: where weights are published.
        levels: level -> (channels, stride).
        parameters: trainable numbers, without a classifier.
        gmacs: 10^9 multiply-accumulates of its convolutions for one image of ``input_size``.
        quantizable: whether every operator has an int8 form in LiteRT.
        float_activations: the activations that have none.
        problem: why it cannot be built, e.g. a block that nobody registered; else ``None``.
    """

    name: str
    aliases: tuple[str, ...]
    owner: str
    description: str
    family: str
    paper: str
    spec: BackboneSpec | None
    input_size: int
    preprocessing: str | None
    weights: tuple[str, ...]
    levels: dict[str, tuple[int, int]] = field(default_factory=dict)
    parameters: int | None = None
    gmacs: float | None = None
    quantizable: bool | None = None
    float_activations: tuple[str, ...] = ()
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-able data."""
        levels = {level: {"channels": channels, "stride": stride} for level, (channels, stride) in self.levels.items()}
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data = {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
        return {**data, "levels": levels, "spec": self.spec.to_dict() if self.spec else None}


def backbone_info(name: str) -> BackboneInfo:
    """What is known of a backbone without building it; imports no Keras.

    A backbone that cannot be built, because its function fails or its spec names what nobody registered, says so in
    ``problem``: the rest of a list is not lost for it.

    Raises:
        UnknownNameError: nobody registered it.

    Example:
        >>> info = backbone_info("resnet50")
        >>> info.levels["P3"], info.parameters, info.quantizable
        ((512, 8), 23508032, True)
    """
    entry = find_backbone(name)
    spec, known = None, None
    figures: dict[str, Any] = {}
    try:
        with plugins.guarded():
            spec = spec_of(entry)
            known = spec and outline_of(spec, entry.input_size)
    except Exception as error:  # whatever a function of somebody else raises
        figures = {"problem": f"{type(error).__name__}: {error}"}
    if known:
        figures = {
            "levels": dict(known.levels),
            "parameters": known.parameters,
            "gmacs": known.multiply_accumulates / 1e9,
            "quantizable": not known.float_activations,
            "float_activations": known.float_activations,
        }
    registered = {field: value for field, value in vars(entry).items() if field != "source"}
    return BackboneInfo(**registered, spec=spec, **figures)


def list_backbones(
    pattern: str | None = None, *, family: str | None = None, quantizable: bool | None = None
) -> list[str]:
    """Names of all backbones, plug-ins' included, in natural order.

    Args:
        pattern: keeps names (or backbones with an alias) that match, e.g. ``"resnet*50*"``; as ``fnmatch``.
        family: keeps one family, e.g. ``"resnext"``; ``list_families()`` gives all.
        quantizable: ``True`` keeps those of which every operator has an int8 form, ``False`` those of which some
            operator has none. Where that is known only once built, a backbone is in neither list.

    Raises:
        UnknownNameError: no backbone is of that family; the message gives the nearest.

    Example:
        >>> list_backbones("resnet50?", family="resnet")
        ['resnet50c', 'resnet50d', 'resnet50s']
    """
    entries = [
        entry
        for entry in all_entries()
        if pattern is None or any(fnmatch.fnmatchcase(known, pattern) for known in (entry.name, *entry.aliases))
    ]
    if family is not None:
        families = list_families()
        if family not in families:
            raise UnknownNameError(
                f"no backbone is of a family {family!r}.{did_you_mean(str(family), families)} Families: "
                f"{', '.join(families)}."
            )
        entries = [entry for entry in entries if entry.family == family]
    if quantizable is not None:
        entries = [entry for entry in entries if backbone_info(entry.name).quantizable is quantizable]
    return sorted((entry.name for entry in entries), key=natural)


def list_families() -> list[str]:
    """The families of all backbones, the library's own first, in the catalogue's order."""
    return list(dict.fromkeys(entry.family for entry in all_entries()))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``resnet50`` before ``resnet101``: of two numbers, that with fewer digits first."""
    parts = re.split(r"0*([0-9]+)", name)  # digits of other scripts, such as ², are letters here
    return [(len(part) if number % 2 else 0, part) for number, part in enumerate(parts)]


def spec_of(entry: BackboneEntry) -> BackboneSpec | None:
    """The spec a backbone was registered with; ``None`` where its function builds a model."""
    if isinstance(entry.source, BackboneSpec):
        return entry.source
    if entry.builds_model:
        return None
    made = entry.source()
    return made if isinstance(made, BackboneSpec) else None


def outline_of(spec: BackboneSpec, input_size: int) -> Outline | None:
    """What a spec builds, found without Keras; ``None`` where a block cannot be followed so."""
    from resnet_backbones.backbones.cost import CannotSketch, outline  # not while names are only listed

    channels = (spec.preprocessing.channels if spec.preprocessing else None) or 3
    try:
        return outline(spec, (input_size, input_size, channels))
    except CannotSketch:
        return None


def architecture(spec: BackboneSpec) -> tuple[Any, ...]:
    """What makes a spec an architecture of its own: equal for specs that differ in mere settings.

    Settings are what every spec has (activation, batch norm, drop path, output stride, padding, preprocessing) and
    switches that are on or off (such as where a bottleneck strides, or whether convolutions have biases).

    Example:
        >>> architecture(ResNetSpec()) == architecture(ResNetSpec(stride_in_1x1=True, activation="silu"))
        True
    """
    settings = BackboneSpec.__dataclass_fields__
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__ if name not in settings}
    return (spec.family, *((name, value) for name, value in fields.items() if not isinstance(value, bool)))


def distinct_architectures(infos: Iterable[BackboneInfo]) -> int:
    """How many architectures there are among backbones: aliases and mere settings do not count."""
    return len({architecture(info.spec) for info in infos if info.spec is not None})
