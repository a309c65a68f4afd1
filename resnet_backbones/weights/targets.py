"""What weights are put into: a backbone, alone or within a classifier, weight by weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resnet_backbones.backbones.model import Backbone
from resnet_backbones.keras_compat import leaf_and_nested_layers
from resnet_backbones.weights.names import CLASSIFIER

# What a layer holds, by the name of its class. Weights have Keras 3's names; tf_keras says depthwise_kernel.
_WEIGHTS = {
    "DepthwiseConv2D": ("kernel", "bias"),
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}


@dataclass(frozen=True)
class Slot:
    """One weight of a model.

    Args:
        layer: name of the layer, ``CLASSIFIER`` for the head of a classifier.
        weight: ``"kernel"``, ``"bias"``, ``"gamma"`` ...
        kind: name of the layer's class, of those whose axis order is known; ``""`` for others.
        variable: where the values are.
    """

    layer: str
    weight: str
    kind: str
    variable: Any

    @property
    def name(self) -> str:
        """The weight's own name, as files of this library have it."""
        return f"{self.layer}.{self.weight}"

    @property
    def value(self) -> Any:
        """The values, a numpy array."""
        return self.variable.numpy()

    @property
    def shape(self) -> tuple[int, ...]:
        """The variable's shape."""
        return tuple(self.variable.shape)


@dataclass(frozen=True)
class Target:
    """A backbone and, if it is part of a classifier, the classifier's dense layer.

    Args:
        model: what the user passed.
        backbones: the backbone in it, or itself; several in a model of several, of which nobody chose one.
        head: the dense layer, or ``None``.
        complete: whether backbone and head are all of ``model`` that has weights.
    """

    model: Any
    backbones: tuple[Backbone, ...]
    head: Any
    complete: bool

    @property
    def backbone(self) -> Backbone:
        """The backbone.

        Raises:
            ValueError: the model has several; the message names them.
        """
        if len(self.backbones) > 1:
            names = [backbone.name for backbone in self.backbones]
            listed = ", ".join(f"{name!r} ({_described(one)})" for name, one in zip(names, self.backbones, strict=True))
            how = f"backbone={names[0]!r}" if len(set(names)) == len(names) else "backbone= and the backbone itself"
            raise ValueError(
                f"{self.model.name!r} holds {len(names)} backbones: {listed}. Choose the one that is meant with {how}, "
                "or pass that backbone in place of the model. A file of the whole model (.keras, .weights.h5) needs no "
                "choice."
            )
        return self.backbones[0]

    @property
    def is_backbone(self) -> bool:
        """Whether the user passed the backbone itself."""
        return self.model is self.backbones[0]

    def slots(self) -> list[Slot]:
        """Every weight of the backbone, then the head's."""
        slots = slots_of(self.backbone)
        return slots if self.head is None else slots + _slots(CLASSIFIER, self.head)

    def stem(self) -> Slot | None:
        """The kernel that reads the image, if a convolution is the first layer with weights."""
        return _stem_of(self.backbone)

    def stems(self) -> list[Slot]:
        """The stem of each backbone that has one."""
        return [stem for stem in map(_stem_of, self.backbones) if stem is not None]

    def others(self) -> list[str]:
        """Names of the layers directly in the model that have weights outside the backbones, head included."""
        inside = {id(one) for backbone in self.backbones for one in (backbone, *leaf_and_nested_layers(backbone))}
        return [
            layer.name
            for layer in self.model._flatten_layers(include_self=False, recursive=False)
            if any(
                id(part) not in inside and (_kind(part) or own_variables(part))
                for part in (layer, *leaf_and_nested_layers(layer))
            )
        ]


def find_target(model: Any, chosen: str | Backbone | None = None) -> Target:
    """The backbone in ``model``, and its classifier.

    Args:
        model: a :class:`Backbone`, or a Keras model with one in it: KerasCV's ``ImageClassifier``, a
            ``keras.Sequential([backbone, pooling, Dense])``, a detector.
        chosen: which backbone, by name or itself; it alone is meant then.

    Raises:
        TypeError: there is no backbone in it.
        ValueError: there is no backbone of that name.
    """
    if isinstance(model, Backbone):
        below, found = [], [model]
    else:
        below = leaf_and_nested_layers(model) if hasattr(model, "_flatten_layers") else []
        within = [one for one in (getattr(model, "backbone", None), *below) if isinstance(one, Backbone)]
        parts = {id(part) for one in within for part in leaf_and_nested_layers(one)}
        found = list({id(one): one for one in within if id(one) not in parts}.values())
    if not found:
        raise TypeError(
            f"weights go into a backbone, or a model built round one as a layer; {type(model).__name__} "
            f"{getattr(model, 'name', '')!r} holds none. Pass the backbone itself: its weights are the model's."
        )
    if chosen is not None:
        named = [one for one in found if one is chosen or one.name == chosen]
        if len(named) != 1:
            raise ValueError(
                f"{model.name!r} holds {len(named) or 'no'} backbones {getattr(chosen, 'name', chosen)!r}; its "
                f"backbones are {', '.join(repr(one.name) for one in found)}. Pass backbone= a name that one of them "
                "has, or the backbone itself."
            )
        return find_target(named[0])
    if found[0] is model:
        return Target(model, (model,), None, True)
    inside = {id(layer) for backbone in found for layer in (backbone, *leaf_and_nested_layers(backbone))}
    others = [layer for layer in below if id(layer) not in inside and (_kind(layer) or own_variables(layer))]
    head = others[-1] if others and _kind(others[-1]) == "Dense" and len(found) == 1 else None
    return Target(model, tuple(found), head, len(found) == 1 and all(layer is head for layer in others))


def _stem_of(backbone: Backbone) -> Slot | None:
    first = next(iter(slots_of(backbone)), None)
    return first if first is not None and (first.kind, first.weight) == ("Conv2D", "kernel") else None


def _described(backbone: Backbone) -> str:
    spec = backbone.spec
    return f"{backbone.count_params():,} parameters" + (f", {spec.family}" if spec is not None else "")


def slots_of(model: Any) -> list[Slot]:
    """Every weight of ``model`` in the order of its layers. A model of either Keras will do."""
    return [slot for name, layer in named_layers(model).items() for slot in _slots(name, layer)]


def named_layers(model: Any) -> dict[str, Any]:
    """Name -> layer with weights: nested models' layers by their own name, composite layers' as ``outer/inner``."""
    found: dict[str, Any] = {}

    def visit(parent: Any, path: str, prefix: str) -> None:
        for layer in parent._flatten_layers(include_self=False, recursive=False):
            if type(layer).__module__.startswith("resnet_backbones.quantization"):
                continue  # ranges are no weights
            name = f"{prefix}{layer.name}"
            if _kind(layer) or own_variables(layer):
                found[name if name not in found else f"{path}{layer.name}"] = layer
            nested = any(cls.__name__ == "Model" for cls in type(layer).__mro__)
            visit(layer, f"{path}{layer.name}/", prefix if nested else f"{name}/")

    visit(model, "", "")
    return found


def own_variables(layer: Any) -> list[Any]:
    """The variables a layer holds itself; those of layers within it are left out."""
    names = ("_trainable_variables", "_non_trainable_variables", "_trainable_weights", "_non_trainable_weights")
    kept: dict[int, Any] = {}
    for name in names[:2] if hasattr(layer, names[0]) else names[2:]:
        kept.update({id(variable): variable for variable in getattr(layer, name, ())})
    return list(kept.values())


def _kind(layer: Any) -> str:
    """The class, or the nearest base class, whose weights are known by name."""
    return next((cls.__name__ for cls in type(layer).__mro__ if cls.__name__ in _WEIGHTS), "")


def _slots(name: str, layer: Any) -> list[Slot]:
    if kind := _kind(layer):
        weights = {weight: getattr(layer, weight, None) for weight in _WEIGHTS[kind]}
        if "kernel" in weights:
            weights["kernel"] = getattr(layer, "depthwise_kernel", None) if weights["kernel"] is None else layer.kernel
    else:
        attributes = {id(value): attribute for attribute, value in vars(layer).items()}
        weights = {
            attributes.get(id(variable), f"weight{number}"): variable
            for number, variable in enumerate(own_variables(layer))
        }
    return [Slot(name, weight, kind, variable) for weight, variable in weights.items() if variable is not None]
