"""What a model takes, what is in it, how its symbolic tensors came about, and what ``training`` it runs with.

Keras 3.15 runs a model inside a functional one with the outer model's ``training``, whatever it was called with when
the outer one was built, ``backbone(x, training=False)``; and a layer such as ``Resizing`` or ``RandomFlip``, whose
``call`` has ``training=True`` by default, leaves that to the layers after it where the outer model is told nothing.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from resnet_backbones.keras_compat.running import IS_KERAS_3, keras, saved_model_folders


def leaf_and_nested_layers(model: Any) -> list[Any]:
    """Every layer below ``model`` (itself excluded), nested models' and composite layers' included."""
    return list(model._flatten_layers(include_self=False))


def rename(layer: Any, name: str) -> None:
    """Gives a layer or model another name."""
    setattr(layer, "name" if IS_KERAS_3 else "_name", name)


def is_writing_saved_model() -> bool:
    """Whether tf_keras writes (``model.save(folder, save_format="tf")``) or reads a SavedModel folder just now."""
    return not IS_KERAS_3 and saved_model_folders().in_tf_saved_model_scope()


@contextlib.contextmanager
def serialized_as_in_keras_files() -> Iterator[None]:
    """Within it, tf_keras serializes objects as for ``.keras`` files: for a SavedModel it takes layers alone."""
    if not is_writing_saved_model():
        yield
        return
    folders = saved_model_folders()
    with folders.keras_option_scope(folders.should_save_traces(), in_tf_saved_model_scope=False):
        yield


def input_signature(model: Any) -> Any:
    """The ``tf.TensorSpec`` (or nest of them) a built model takes; ``None`` when it cannot be told.

    Batch and other unknown axes are ``None``.
    """
    import tensorflow as tf

    inputs = getattr(model, "input", None) if getattr(model, "inputs", None) else None
    if inputs is not None:
        return tf.nest.map_structure(lambda t: tf.TensorSpec(tuple(t.shape), t.dtype), inputs)
    if IS_KERAS_3:
        shapes = getattr(model, "_build_shapes_dict", None) or {}
        if len(shapes) != 1:
            return None
        (shape,) = shapes.values()  # a list where the model was built from a saved configuration
        return _any_batch(shape, model.input_dtype) if isinstance(shape, (tuple, list)) else None
    saved = getattr(model, "_saved_model_inputs_spec", None)
    if saved is not None:
        return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), saved)
    shape = getattr(model, "_build_input_shape", None)  # built from a saved configuration, never called
    return _any_batch(tuple(shape), keras.backend.floatx()) if isinstance(shape, tf.TensorShape) else None


def _any_batch(shape: Any, dtype: Any) -> Any:
    """The ``tf.TensorSpec`` of a batch of any size; ``None`` for a nest of shapes, whose order is unknown."""
    import tensorflow as tf

    if not all(size is None or isinstance(size, int) for size in shape):
        return None
    return tf.TensorSpec((None, *shape[1:]), dtype)


def producer(tensor: Any) -> tuple[list[Any], Any]:
    """How a symbolic tensor came about.

    Returns:
        The symbolic tensors it was computed from (none for a model's input), and a function of their shapes, a dict
        from ``id`` to shape, that gives its own: what the layer would make of inputs of those shapes.
    """
    layer, node_index, tensor_index = tensor._keras_history
    node = layer._inbound_nodes[node_index]
    if node.is_input:
        return [], None

    def of_keras_3(shapes: dict[int, tuple]) -> Any:
        values = {key: keras.KerasTensor(shape) for key, shape in shapes.items()}
        args, kwargs = node.arguments.fill_in(values)
        return keras.tree.flatten(layer.compute_output_spec(*args, **kwargs))[tensor_index].shape

    def of_tf_keras(shapes: dict[int, tuple]) -> Any:
        import tensorflow as tf

        if type(layer).__name__ == "TFOpLambda":  # a bare operation, as in x + y, knows no shapes: trace it
            with tf.Graph().as_default():
                values = {id(t): tf.compat.v1.placeholder(t.dtype, shapes[id(t)]) for t in node.keras_inputs}
                # One copy for each use: map_arguments takes them out one by one.
                uses = {str(key): [value] * len(node.keras_inputs) for key, value in values.items()}
                args, kwargs = node.map_arguments(uses)
                output = layer.function(*args, **kwargs)
            return tf.nest.flatten(output)[tensor_index].shape
        inputs = tf.nest.map_structure(lambda value: tf.TensorShape(shapes[id(value)]), node.call_args[0])
        output = layer.compute_output_shape(inputs)
        single = isinstance(output, tf.TensorShape) or all(size is None or isinstance(size, int) for size in output)
        return output if single else output[tensor_index]

    return (list(node.input_tensors), of_keras_3) if IS_KERAS_3 else (list(node.keras_inputs), of_tf_keras)


_BUILT_WITH = "built_with_training"  # an argument that outer models keep for the call, and save


class KeepsTraining:
    """Mixed in before ``keras.Model``: a functional model that runs in the mode it was called with, as in tf_keras.

    Inside a functional model: what it was called with when that was built; else the outer model's mode, and inference
    where that is told nothing.
    """

    if IS_KERAS_3:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = args[:1], {**dict(zip(("training", "mask"), args[1:], strict=False)), **kwargs}
            symbolic = any(isinstance(value, keras.KerasTensor) for value in keras.tree.flatten((args, kwargs)))
            if _BUILT_WITH in kwargs:  # an outer model is run, or built again
                training = kwargs[_BUILT_WITH] if kwargs[_BUILT_WITH] is not None else kwargs.get("training")
                if not symbolic:
                    kwargs["training"] = False if training is None else training
            elif symbolic:
                kwargs[_BUILT_WITH] = kwargs.get("training")
            return super().__call__(*args, **kwargs)  # type: ignore[misc]

        def call(self, inputs: Any, training: Any = None, mask: Any = None, built_with_training: Any = None) -> Any:
            """The graph, in inference where nobody says otherwise: the layers in it are told so."""
            del built_with_training
            return super().call(inputs, training=False if training is None else training, mask=mask)  # type: ignore[misc]

        def compute_output_spec(self, inputs: Any, training: Any = None, mask: Any = None, **_: Any) -> Any:
            """The symbolic outputs for symbolic inputs."""
            return super().compute_output_spec(inputs, training=training, mask=mask)  # type: ignore[misc]

    else:

        @property
        def trainable(self) -> bool:
            """Whether it trains; set, its layers do alike."""
            return self._trainable

        @trainable.setter
        def trainable(self, value: bool) -> None:
            if is_writing_saved_model():  # or reads one: what was built has the layers' own
                self._trainable = value
            else:
                keras.Model.trainable.fset(self, value)


@contextlib.contextmanager
def step_by_step() -> Iterator[None]:
    """Within it, recurrent layers without ``unroll``, as tf_keras' convolutional ones, have no loop.

    Keras 3's layers all have ``unroll``.
    """
    if IS_KERAS_3:
        yield
        return
    backend = keras.src.backend
    before = backend.rnn
    backend.rnn = functools.partial(before, unroll=True)
    try:
        yield
    finally:
        backend.rnn = before
