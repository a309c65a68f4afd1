"""A backbone that shows only some of its levels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from resnet_backbones.backbones.model import Backbone
from resnet_backbones.keras_compat import keras, serializable


@serializable("LevelView")
class LevelView(Backbone):
    """The same layers as ``backbone``, fewer levels, and ``embedding_dims`` as KerasCV's SegFormer reads them.

    SegFormer takes every level in ``pyramid_level_inputs``, P1 at full cost too; this leaves the rest out.

    Args:
        backbone: a backbone of this library or of KerasCV.
        levels: the levels to show, in order.
        name: the model's name, by default the backbone's.
        trainable: the model's own flag, by default the backbone's; layers keep theirs.
    """

    def __init__(
        self, backbone: Any, levels: Iterable[str], name: str | None = None, trainable: bool | None = None
    ) -> None:
        layers = {level: backbone.pyramid_level_inputs[level] for level in levels}
        trainable = backbone.trainable if trainable is None else trainable
        super().__init__(backbone.inputs[0], backbone.output, layers, name=name or backbone.name, trainable=trainable)
        self.spec = getattr(backbone, "spec", None)
        # Kept for get_config only; Keras must not track it, its layers are this model's own already.
        object.__setattr__(self, "_viewed", backbone)

    @property
    def embedding_dims(self) -> list[int]:
        """Channels of each level, in order."""
        return [feature.channels for feature in self.feature_info.values()]

    def get_config(self) -> dict[str, Any]:
        """The viewed backbone, whole, and the levels shown."""
        return {
            "backbone": keras.saving.serialize_keras_object(self._viewed),
            "levels": list(self.pyramid_level_inputs),
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Backbone:
        """The view that :meth:`get_config` describes."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects=custom_objects)
        return cls(**{**config, "backbone": backbone})._loaded()
