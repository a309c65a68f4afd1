"""What a model takes, what is in it, and how its symbolic tensors came about."""

from __future__ import annotations

import contextlib
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
