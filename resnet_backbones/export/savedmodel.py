"""TensorFlow SavedModels with a serving signature, in float32 or bfloat16.

The graph holds its weights as constants: it is for serving, and loads without Keras and without this library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from resnet_backbones.export.bfloat16 import in_bfloat16
from resnet_backbones.export.contents import Census
from resnet_backbones.export.graph import ExportGraph, build_graph
from resnet_backbones.export.preprocess import image_size
from resnet_backbones.export.request import Emitted, ExportRequest
from resnet_backbones.keras_compat import input_signature
from resnet_backbones.quantization import context

SIGNATURE = "serving_default"
#: Where TensorFlow leaves files of other tools alone.
METADATA = Path("assets.extra") / "resnet_backbones.json"


def check(model: Any, request: ExportRequest) -> None:
    """Raises ``ValueError`` if the model takes something else than images."""
    del request  # float of any model
    specs = tf.nest.flatten(input_signature(model))
    if len(specs) != 1 or len(specs[0].shape) != 4:
        raise ValueError(
            f"{model.name!r} takes {', '.join(str(tuple(spec.shape)) for spec in specs)}; export_model writes "
            "SavedModels of models that take images (batch, height, width, channels). Write one with "
            "model.export(path)."
        )


def emit(model: Any, request: ExportRequest) -> Emitted:
    """Makes the serving function of a model, in float: images as the Keras model takes them, any number.

    Args:
        model: a built Keras model; ranges of a quantized one are left out.
        request: what is asked for.
    """
    size = request.preprocessing or image_size(model, request.input_shape)
    graph = build_graph(
        model,
        split_outputs=False,
        mode=context.FLOAT,
        batch=None,
        input_shape=request.input_shape,
        preprocessing=size,
    )
    frozen = convert_variables_to_constants_v2(graph.function)
    if request.precision == "bfloat16":
        frozen = in_bfloat16(frozen)
    return Emitted(_Served(frozen, graph), Census(), graph.metadata)


class _Served(tf.Module):
    """What is saved."""

    def __init__(self, frozen: Any, graph: ExportGraph) -> None:
        super().__init__()
        names = graph.part_names

        @tf.function(input_signature=[tf.TensorSpec(graph.input_shape, tf.float32, name="images")], autograph=False)
        def serve(images):
            return dict(zip(names, tf.nest.flatten(frozen(images)), strict=True))

        self.serve = serve


def write(emitted: Emitted, metadata: dict[str, Any], path: Path) -> None:
    """Writes the folder.

    Args:
        emitted: what :func:`emit` made.
        metadata: see ``runtime.metadata``.
        path: where to.
    """
    # It is for serving: custom gradients, such as SiLU's, read tensors that a frozen function has no more.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(emitted.data, str(path), signatures={SIGNATURE: emitted.data.serve}, options=options)
    (path / METADATA).parent.mkdir(exist_ok=True)
    (path / METADATA).write_text(json.dumps(metadata, indent=1, allow_nan=False), encoding="utf-8")


def runner(path: Path, _: ExportRequest) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The folder as a function of images, run by TensorFlow."""
    loaded = tf.saved_model.load(str(path))

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = loaded.signatures[SIGNATURE](images=tf.constant(images))
        return {name: np.asarray(value) for name, value in outputs.items()}

    return run
