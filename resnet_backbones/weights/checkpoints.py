"""Where in a checkpoint the network is: training scripts wrap it, prefix its names, and put other things beside it.

All names of a checkpoint are joined to paths, ``state_dict/module.backbone.conv1.weight``. What stands before one of
the network's own names is a prefix; the prefix under which most of the network's weights are found, of the right
shapes, is the network's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resnet_backbones.weights.readers import Array

_DEPTH = 5  # mappings within each other
# Wrappers that stand within a name, of torch.compile, FSDP and activation checkpointing.
_INNER = re.compile(r"(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_AVERAGED = re.compile(r"(^|_)ema($|_)")
_SHARE = 0.25  # of the network's weights: fewer are found anywhere by chance


class AmbiguousError(ValueError):
    """A checkpoint holds the network several times, ``fitting`` of its weights each time."""

    def __init__(self, message: str, fitting: int) -> None:
        super().__init__(message)
        self.fitting = fitting


@dataclass(frozen=True)
class Found:
    """The network in a checkpoint.

    Args:
        arrays: name -> array, without the prefix.
        prefix: what stood before each name, ``""`` if nothing did.
        outside: the modules beside it in the same mapping.
        fitting: how many of the network's weights are there in their shapes.
        all_inside: whether every name is under the prefix.
    """

    arrays: dict[str, Array]
    prefix: str
    outside: tuple[str, ...]
    fitting: int
    all_inside: bool

    @property
    def hint(self) -> str:
        """A sentence on where the weights were looked for, for an error that lists what does not fit."""
        prefix = self.prefix + ("" if self.fitting else _common_prefix(list(self.arrays)))
        if not prefix:
            return ""
        return f"In it {'all names' if self.all_inside else 'the names that fit best'} are under prefix {prefix!r}."


def find_network(
    state: Mapping[str, Any], fits: Mapping[str, Callable[[Array], bool]], *, where: str, prefix: str | None = None
) -> Found:
    """The part of a checkpoint in which most of a network's weights are.

    Of equal parts one that was averaged (``model_ema``) is taken, as timm does; others are ambiguous.

    Args:
        state: name -> array, or other such mappings, or anything else, which is passed over.
        fits: the network's names -> whether an array can be the weight of that name.
        where: what ``state`` is, for errors.
        prefix: takes the part under this prefix, or one that contains it, such as ``"teacher"``.

    Raises:
        TypeError: ``state`` is no mapping.
        ValueError: two parts hold equally much of the network, or none is under ``prefix``.
    """
    if hasattr(state, "state_dict"):  # a module in memory
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{where} must be a mapping from names to arrays, as model.state_dict() gives; got {type(state).__name__}."
        )
    paths = _flat(state)
    parts: dict[str, list[str]] = {}
    for path in paths:
        for at in [0, *(match.end() for match in re.finditer(r"[./]", path))]:
            if path[at:] in fits:
                parts.setdefault(path[:at], []).append(path)
    if prefix is not None:
        chosen = {part: names for part, names in parts.items() if _contains(part, prefix)}
        exact = {part: names for part, names in chosen.items() if prefix in (part, part.rpartition("/")[2])}
        chosen = exact or chosen
        if not chosen:
            raise ValueError(f"{where} has no weights of this network under prefix {prefix!r}.{_known(parts, fits)}")
        parts = chosen
    counts = {
        part: (sum(fits[path[len(part) :]](paths[path]) for path in names), len(names)) for part, names in parts.items()
    }
    best = max(counts.values(), default=(0, 0))
    if best[1] < _SHARE * len(fits) and prefix is None:
        wrappers = Counter(path.rpartition("/")[0] for path in paths)  # nothing fits: the largest mapping is shown
        likely = max(wrappers, key=lambda wrapper: wrappers[wrapper], default="")
        rivals = [f"{likely}/" if likely else ""]
    else:
        rivals = [part for part, count in counts.items() if count == best]
    averaged = [part for part in rivals if any(_AVERAGED.search(step) for step in _steps(part))]
    rivals = averaged if len(rivals) > 1 and averaged else rivals
    if len(rivals) > 1:
        raise AmbiguousError(
            f"{where} holds the network {len(rivals)} times: {best[0]} of its {len(fits)} weights are under each "
            f"of the prefixes {', '.join(map(repr, rivals))}. Choose one with prefix={rivals[0]!r}.",
            best[0],
        )
    (part,) = rivals
    wrapper = part[: part.rfind("/") + 1]
    beside = [path for path in paths if path.startswith(wrapper) and "/" not in path[len(wrapper) :]]
    inside = {path[len(part) :]: paths[path] for path in beside if path.startswith(part)}
    outside = {_first_other_step(path, part) for path in beside if not path.startswith(part)}
    return Found(inside, part, tuple(sorted(outside)), best[0], len(inside) == len(paths))


def _first_other_step(path: str, part: str) -> str:
    """``"neck"`` for ``model.neck.conv.weight`` beside ``model.backbone.``."""
    steps, shared = _steps(path), _steps(part)
    return next((step for at, step in enumerate(steps) if shared[at : at + 1] != [step]), path)


def foreign(names: list[str], expected: Any) -> list[str]:
    """Those of ``names`` that are of a module such as the network has none: a head, a neck, a queue of a loss.

    Modules of the same kind (``layer5``, or another layer in ``layer1``) are of another network.
    """
    own = {_kind(name) for name in expected}
    return [name for name in names if _kind(name) not in own]


def _kind(name: str) -> str:
    """``"layer#"`` for ``layer3.0.conv1.weight``."""
    return re.sub(r"\d+", "#", name.partition(".")[0])


def _flat(state: Mapping[str, Any], depth: int = _DEPTH) -> dict[str, Array]:
    """Path -> array, of all mappings within each other; batch counters left out."""
    found: dict[str, Array] = {}
    for name, value in state.items():
        if hasattr(value, "state_dict"):  # a module in memory
            value = value.state_dict()
        if isinstance(value, Mapping):
            if depth:
                found.update({f"{name}/{path}": array for path, array in _flat(value, depth - 1).items()})
        elif hasattr(value, "shape") and not str(name).endswith(("num_batches_tracked", "n_averaged")):
            found[str(name)] = Array.of(value)
    if depth == _DEPTH:
        plain = {_INNER.sub("", path): array for path, array in found.items()}
        return plain if len(plain) == len(found) else found
    return found


def _steps(part: str) -> list[str]:
    return [step for step in re.split(r"[./]", part) if step]


def _contains(part: str, prefix: str) -> bool:
    """Whether the steps of ``prefix`` are in ``part``, one after the other."""
    steps, wanted = _steps(part), _steps(prefix)
    return any(steps[at : at + len(wanted)] == wanted for at in range(len(steps) - len(wanted) + 1))


def _known(parts: Mapping[str, list[str]], fits: Any) -> str:
    known = [part for part, names in parts.items() if len(names) >= _SHARE * len(fits)]
    return f" There are some under {', '.join(map(repr, known))}." if known else ""


def _common_prefix(names: list[str]) -> str:
    first = names[0].split(".")[:-1] if names else []
    while first and not all(name.startswith(".".join(first) + ".") for name in names):
        first.pop()
    return ".".join(first) + "." if first else ""
