"""Backbones: functional Keras models with named levels.

Level P1 leaves the stem at stride 2; P2, P3 ... end stages 1, 2 ... at strides 4, 8 ...; each has the shape
(batch, height / stride, width / stride, channels). The model's own output is the last level.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from resnet_backbones.backbones.builder import build
from resnet_backbones.backbones.features import FeatureInfo, read_features
from resnet_backbones.backbones.keras_builder import KerasParts
from resnet_backbones.backbones.spec import BackboneSpec
from resnet_backbones.backbones.specs import spec_from_dict
from resnet_backbones.errors import UnknownNameError, did_you_mean
from resnet_backbones.keras_compat import (
    KeepsTraining,
    LayersAsMade,
    TrainableFlags,
    global_policy_name,
    keras,
    named_with_parts,
    serializable,
    serialized_as_in_keras_files,
)


@serializable("FeatureExtractor")
class FeatureExtractor(KeepsTraining, keras.Model):
    """A functional model that :meth:`Backbone.feature_extractor` makes."""


class Backbone(KeepsTraining, keras.Model):
    """A functional model whose pyramid levels end in named layers. ``create_backbone`` and ``from_model`` make them.

    It has what KerasCV's tasks read of a backbone (``pyramid_level_inputs``), what KerasHub's read
    (``pyramid_outputs``), and ``feature_info``, which says the true channels and strides.

    Inside another functional model it runs as it was called: ``backbone(x, training=False)`` stays in inference while
    the outer model trains, which plain models do not on Keras 3.
    """

    #: What the backbone was built from; ``None`` for one made by :func:`from_model`.
    spec: BackboneSpec | None = None
    #: Of its preprocessing, where the weights do not say: ``"chosen"`` by the user, or ``"in doubt"``.
    pixels: str | None = None
    _flags_loaded: TrainableFlags | None = None

    def __init__(
        self, inputs: Any, outputs: Any, levels: Mapping[str, str], *, name: str, trainable: bool = True
    ) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        self._trainable = trainable  # the layers keep their own: Keras 3 would set theirs too
        self._level_layers = tuple(levels.items())
        self._feature_info: tuple[tuple[str, FeatureInfo], ...] | None = None

    @property
    def pyramid_level_inputs(self) -> dict[str, str]:
        """Level -> name of the layer it ends in: ``{"P1": "stem_act1", ...}``."""
        return dict(self._level_layers)

    @property
    def pyramid_outputs(self) -> dict[str, Any]:
        """Level -> symbolic tensor."""
        return {level: self.get_layer(name).output for level, name in self._level_layers}

    @property
    def feature_info(self) -> dict[str, FeatureInfo]:
        """Level -> :class:`FeatureInfo`: channels, stride and layer name, read off the graph."""
        if self._feature_info is None:
            self._feature_info = tuple(read_features(self, self.pyramid_level_inputs).items())
        return dict(self._feature_info)

    def feature_extractor(self, levels: Iterable[str] | None = None) -> Any:
        """A Keras model on the same layers that returns ``{level: feature map}``.

        Args:
            levels: the levels to return, e.g. ``("P3", "P4", "P5")``; by default all.

        Raises:
            UnknownNameError: the backbone has no such level.

        Example:
            >>> create_backbone("resnet18").feature_extractor(["P3"])(images)["P3"].shape  # images: (1, 96, 96, 3)
            (1, 12, 12, 128)
        """
        outputs = self.pyramid_outputs
        if isinstance(levels, str):
            raise TypeError(f"levels must be a list of levels; got the string {levels!r}: write [{levels!r}].")
        chosen = list(outputs if levels is None else levels)
        for level in chosen:
            if level not in outputs:
                raise UnknownNameError(f"backbone {self.name!r} has no level {level!r}; it has {', '.join(outputs)}.")
        features = {level: outputs[level] for level in chosen}
        return FeatureExtractor(self.inputs[0], features, name=f"{self.name}_features")

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Backbone:
        """A backbone from what ``get_config`` gave; Keras' own would give a plain ``keras.Model``."""
        return cls(**config)._loaded()

    def _loaded(self) -> Backbone:
        """Note which layers train: Keras 3 sets it again in a task that passes ``trainable`` on; see ``load_model``."""
        self._flags_loaded = TrainableFlags(self)
        return self


@serializable("SpecBackbone")
class SpecBackbone(Backbone):
    """The network that ``spec`` describes.

    Args:
        spec: a :class:`ResNetSpec` or another family's spec, or its dictionary.
        input_shape: (height, width, channels); height and width may be ``None``.
        name: the model's name.
        dtype: dtype policy of its layers, by name; by default the global one.
        trainable: whether its weights train.

    Raises:
        ValueError: the input shape or something the spec names does not exist or does not fit.
    """

    spec: BackboneSpec

    def __init__(
        self,
        spec: BackboneSpec | Mapping[str, Any],
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        name: str = "backbone",
        dtype: str | None = None,
        trainable: bool = True,
    ) -> None:
        spec = spec if isinstance(spec, BackboneSpec) else spec_from_dict(spec)
        shape = _image_shape(input_shape, spec)
        policy = dtype or global_policy_name()
        # Not the global floatx: a file is the same network under any.
        image = keras.Input(shape, name="image", dtype="float64" if policy == "float64" else "float32")
        net = KerasParts(spec, policy)
        levels, x = build(net, image)
        _allow_depth(net.layers_added)
        super().__init__(image, x, levels, name=name)
        self._as_made = LayersAsMade(named_with_parts(self.layers))
        self.trainable = trainable
        self.spec = spec
        self._policy_name = policy

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, and what was changed on the layers since.

        Raises:
            NotImplementedError: a layer was replaced, or has weights of other shapes.
        """
        changes = self._as_made.changes(self, _REMEDY)
        return {
            **({"layer_changes": changes} if changes else {}),
            "spec": self.spec.to_dict(),
            "input_shape": list(self.inputs[0].shape[1:]),
            "name": self.name,
            "dtype": self._policy_name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Backbone:
        """The backbone that ``get_config`` described."""
        arguments = dict(config)
        changes = arguments.pop("layer_changes", {})
        backbone = cls(**arguments)
        backbone._as_made.change(backbone, backbone.trainable, changes)
        return backbone._loaded()


_REMEDY = (
    "A backbone is saved as its spec with the changed arguments of its layers. Saved layer by layer: "
    "from_model(keras.Model(backbone.input, backbone.output), backbone.pyramid_level_inputs)."
)


def _allow_depth(layers: int) -> None:
    """Lets Python recurse as deep as the network is.

    Keras walks a graph recursively, a call for each layer, whenever a model is made of it: of ResNet-RS-420's 1,700
    layers too many for Python's default limit. A detector round the backbone walks it later, so the limit stays.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 2 * layers + 1000))


def _image_shape(shape: Any, spec: BackboneSpec) -> tuple[int | None, int | None, int]:
    """``shape`` checked: (height, width, channels)."""
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(f"input_shape must be (height, width, channels) without the batch; got {shape!r}.")
    for size in shape[:2]:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"height and width of input_shape must be positive integers or None; got {shape!r}.")
    channels = shape[2]
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"input_shape must end in a known number of channels, e.g. (None, None, 3); got {shape!r}.")
    wanted = spec.preprocessing.channels if spec.preprocessing else None
    if wanted not in (None, channels):
        raise ValueError(
            f"the preprocessing is made for {wanted} channels, input_shape={tuple(shape)} has {channels}: give scale "
            "and offset for each channel, or one number for all."
        )
    return tuple(shape)


@serializable("WrappedBackbone")
class WrappedBackbone(Backbone):
    """Any functional model as a backbone; :func:`from_model` makes it."""

    def __init__(
        self, model: Any, levels: Mapping[str, str], name: str | None = None, trainable: bool | None = None
    ) -> None:
        outputs = {level: model.get_layer(layer).output for level, layer in levels.items()}
        last = outputs[list(levels)[-1]]
        within = {layer.name for layer in keras.Model(model.inputs[0], last).layers}
        # A feature pyramid's levels do not all lead to the last one: then the model returns them all.
        output = last if within.issuperset(levels.values()) else outputs
        trainable = model.trainable if trainable is None else trainable
        super().__init__(model.inputs[0], output, levels, name=name or model.name, trainable=trainable)

    def get_config(self) -> dict[str, Any]:
        """The graph itself, and the levels."""
        plain = keras.Model(self.inputs[0], self.output, name=self.name)
        with serialized_as_in_keras_files():
            model = keras.saving.serialize_keras_object(plain)
        return {"model": model, "levels": self.pyramid_level_inputs, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Backbone:
        """The backbone that ``get_config`` described."""
        with serialized_as_in_keras_files():
            model = keras.saving.deserialize_keras_object(config["model"], custom_objects=custom_objects)
        return cls(**{**config, "model": model})._loaded()


def from_model(model: Any, levels: Mapping[str, str], *, name: str | None = None) -> Backbone:
    """Makes a backbone of any functional Keras model; the layers, and so the weights, are shared with it.

    Args:
        model: a functional (or built sequential) model with one image input.
        levels: level -> name of the layer whose output it is, e.g. ``{"P3": "conv3_block4_out", ...}``.
        name: the backbone's name, by default the model's.

    Returns:
        A :class:`Backbone` that ends at the last level. Where other levels do not lead to it (the outputs of a feature
        pyramid), it returns ``{level: feature map}``.

    Raises:
        TypeError: ``model`` is not functional.
        UnknownNameError: there is no such layer.
        ValueError: a level's name or output is no level's.

    Example:
        >>> backbone = from_model(keras.applications.MobileNet(weights=None, include_top=False),
        ...                       {"P3": "conv_pw_5_relu", "P4": "conv_pw_11_relu", "P5": "conv_pw_13_relu"})
        >>> backbone.feature_info["P4"].stride
        16
    """
    inputs = getattr(model, "inputs", None)
    if not isinstance(model, keras.Model) or not inputs:
        raise TypeError(
            f"from_model takes a functional Keras model; got {type(model).__name__}"
            f"{'' if inputs is None else ' without inputs'}. Build it with keras.Model(inputs, outputs)."
        )
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise ValueError(
            f"a backbone has one input of images (height, width, channels); {model.name!r} has inputs of shapes "
            f"{[tuple(tensor.shape) for tensor in inputs]}."
        )
    if not isinstance(levels, Mapping) or not levels:
        raise TypeError(f"levels must map levels to layer names, e.g. {{'P3': 'conv3_block4_out'}}; got {levels!r}.")
    names = [layer.name for layer in model.layers]
    for level, layer in levels.items():
        if not isinstance(level, str) or not re.fullmatch(r"P[1-9]\d?", level):
            raise ValueError(f"{level!r} is no level's name: levels are 'P1', 'P2' ...")
        if layer not in names:
            raise UnknownNameError(
                f"level {level}: {model.name!r} has no layer {layer!r}.{did_you_mean(str(layer), names)}"
            )
    ordered = {level: levels[level] for level in sorted(levels, key=lambda level: int(level[1:]))}
    backbone = WrappedBackbone(model, ordered, name)
    _ = backbone.feature_info  # raises now, and not in a detector, if a level is no feature map
    return backbone
