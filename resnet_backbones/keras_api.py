"""The one place that knows which Keras is running.

Keras 3 is the default; ``TF_USE_LEGACY_KERAS=1`` in the environment, set before the first import,
chooses tf_keras (Keras 2). Everything else in this library asks this module, never the environment.

The helpers below hide the few places where the two differ: serialisation names, activations that
tf_keras lacks, adding a tracked child to a layer that is already built, and finding a model's inputs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

IS_KERAS_3: bool = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() not in ("1", "true")

if IS_KERAS_3:
    import keras
else:
    import tf_keras as keras  # type: ignore[no-redef]

PACKAGE = "resnet_backbones"


def _ops() -> Any:
    """The few operations our own layers use: ``keras.ops``, and for tf_keras TensorFlow's by the same names."""
    if IS_KERAS_3:
        return keras.ops
    import tensorflow as tf

    def depthwise_conv(inputs, kernel, strides, padding):
        return tf.nn.depthwise_conv2d(inputs, kernel, [1, strides, strides, 1], padding.upper())

    return SimpleNamespace(
        cast=tf.cast,
        convert_to_tensor=tf.convert_to_tensor,
        depthwise_conv=depthwise_conv,
        max=tf.reduce_max,
        mean=tf.reduce_mean,
        pad=tf.pad,
    )


ops = _ops()

# tf_keras always runs on TensorFlow; Keras 3 on what KERAS_BACKEND or its configuration file says.
ON_TENSORFLOW: bool = not IS_KERAS_3 or keras.backend.backend() == "tensorflow"

# tf_keras trains batch norm with TensorFlow's fused kernel; Keras 3 does not, see layers/batch_norm.py.
KERAS_FUSES_BATCH_NORM: bool = not IS_KERAS_3


def keras_name() -> str:
    """The running Keras with its version, e.g. ``"Keras 3.15.1"`` or ``"tf_keras 2.21.0"``."""
    return f"{'Keras' if IS_KERAS_3 else 'tf_keras'} {keras.__version__}"


def serializable(name: str | None = None):
    """Class decorator: registers a class as ``resnet_backbones>name`` for saving and loading."""
    return keras.saving.register_keras_serializable(package=PACKAGE, name=name)


_ADDED_CHILDREN = "_added_children"


def add_child(parent: Any, name: str, child: Any) -> None:
    """Sets ``parent.name = child`` so that the child's variables are tracked and saved.

    Keras 3 locks a layer's tracker once it is built; the lock is lifted for this one attribute and put
    back (as Keras' own ``enable_lora`` does).
    """
    with _unlocked(parent):
        setattr(parent, name, child)
    parent.__dict__.setdefault(_ADDED_CHILDREN, []).append(name)


def added_children(parent: Any) -> list[str]:
    """Names of the attributes that :func:`add_child` set on the layer."""
    return list(parent.__dict__.get(_ADDED_CHILDREN, ()))


def remove_child(parent: Any, name: str) -> None:
    """Takes back :func:`add_child`: the attribute is gone, and no longer tracked, saved or listed among the layers."""
    child = getattr(parent, name)
    if IS_KERAS_3:
        with _unlocked(parent):
            parent._tracker.untrack(child)
            delattr(parent, name)
    else:
        delattr(parent, name)
        parent._delete_tracking(name)  # tf_keras' own __delattr__ leaves it in checkpoints
    names = parent.__dict__[_ADDED_CHILDREN]
    names.remove(name)
    if not names:
        del parent.__dict__[_ADDED_CHILDREN]


@contextlib.contextmanager
def _unlocked(layer: Any) -> Iterator[None]:
    """Within it, Keras 3 tracks new attributes of a layer that is already built."""
    tracker: Any = getattr(layer, "_tracker", None) if IS_KERAS_3 else None
    locked = tracker is not None and tracker.locked
    if locked:
        tracker.unlock()
    try:
        yield
    finally:
        if locked:
            tracker.lock()


def leaf_and_nested_layers(model: Any) -> list[Any]:
    """Every layer below ``model`` (itself excluded), nested models' and composite layers' included."""
    return list(model._flatten_layers(include_self=False))


# The attribute that holds a DepthwiseConv2D's kernel.
DEPTHWISE_KERNEL = "kernel" if IS_KERAS_3 else "depthwise_kernel"


def float32_variable(variable: Any) -> Any:
    """The ``tf.Variable`` behind a Keras variable, without the cast that mixed precision puts round it."""
    variable = getattr(variable, "_value", variable) if IS_KERAS_3 else variable
    return getattr(variable, "_variable", variable)  # tf_keras' AutoCastVariable


def same_on_every_replica() -> Any:
    """How ``add_weight`` is told that all replicas of a ``tf.distribute`` strategy assign a variable the same value."""
    if IS_KERAS_3:
        return "only_first_replica"
    import tensorflow as tf

    return tf.VariableAggregation.ONLY_FIRST_REPLICA


def kept_in_checkpoints(layer: Any, name: str, variable: Any) -> Any:
    """The variable, known to TensorFlow too, for ``tf.train.Checkpoint`` and SavedModels.

    Keras 3 makes variables known to TensorFlow only where they are set as attributes; tf_keras in ``add_weight``.
    """
    if IS_KERAS_3:
        layer._track_trackable(variable, name=name)
    return variable


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


def global_policy_name() -> str:
    """The global dtype policy, e.g. ``"float32"`` or ``"mixed_float16"``."""
    return (keras.config.dtype_policy if IS_KERAS_3 else keras.mixed_precision.global_policy)().name


def _own_activations() -> dict[str, Any]:
    """Activations that tf_keras lacks, written as Keras 3 has them."""
    if IS_KERAS_3:
        return {}
    import tensorflow as tf

    def relu6(x):
        return tf.nn.relu6(x)

    def leaky_relu(x):
        return tf.nn.leaky_relu(x, alpha=0.2)

    def celu(x):
        return tf.where(x > 0, x, tf.math.expm1(x))

    def hard_silu(x):
        return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)

    def hard_tanh(x):
        return tf.clip_by_value(x, -1.0, 1.0)

    # tf_keras has two hard sigmoids; this is torch's, Keras 3's and hard_silu's.
    def hard_sigmoid(x):
        return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)

    functions = {
        function.__name__: function for function in (relu6, leaky_relu, celu, hard_silu, hard_tanh, hard_sigmoid)
    }
    for name, function in functions.items():
        serializable(name)(function)
    return {**functions, "hard_swish": hard_silu, "silu": keras.activations.swish}


@serializable("leaky_relu_001")
def leaky_relu_001(x):
    """Leaky ReLU of slope 0.01, torch's and Darknet's in timm; Keras' ``leaky_relu`` has 0.2."""
    if IS_KERAS_3:
        return keras.ops.leaky_relu(x, negative_slope=0.01)
    import tensorflow as tf

    return tf.nn.leaky_relu(x, alpha=0.01)


_OWN_ACTIVATIONS = {**_own_activations(), "leaky_relu_001": leaky_relu_001}


def activation_function(name: str) -> Any:
    """The activation called ``name``, the same function in both Kerases (``leaky_relu`` has slope 0.2).

    Args:
        name: a name of ``keras.activations``, or ``"package>function"`` of a function registered with
            ``keras.saving.register_keras_serializable``.

    Raises:
        ValueError: there is no such activation.
    """
    if name in _OWN_ACTIVATIONS:
        return _OWN_ACTIVATIONS[name]
    registered = keras.saving.get_registered_object(name)
    if registered is not None:
        return registered
    try:
        return keras.activations.get(name)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"no activation is called {name!r}. Any name of keras.activations will do: 'relu', 'relu6', 'elu', 'selu', "
            "'silu', 'gelu', 'leaky_relu', 'hard_swish' ...; or 'package>function' of one registered with "
            "keras.saving.register_keras_serializable."
        ) from error


def policy_of(layer: Any) -> Any:
    """A layer's dtype policy, to be handed on to the layers it is made of."""
    return layer.dtype_policy if IS_KERAS_3 else layer._dtype_policy


@contextlib.contextmanager
def computing_in_float32(model: Any) -> Iterator[None]:
    """Within it, every layer below a model computes in float32, whatever its policy of mixed precision.

    Variables are float32 under every mixed policy, so only computing changes. Functions traced before keep their own.

    Args:
        model: a built model.
    """
    float32 = keras.dtype_policies.DTypePolicy("float32") if IS_KERAS_3 else keras.mixed_precision.Policy("float32")
    layers = [layer for layer in model._flatten_layers() if policy_of(layer).name.startswith("mixed_")]
    before = [policy_of(layer) for layer in layers]
    try:
        for layer in layers:
            _set_policy(layer, float32)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            _set_policy(layer, policy)


def _set_policy(layer: Any, policy: Any) -> None:
    if IS_KERAS_3:
        layer.dtype_policy = policy
    else:
        layer._set_dtype_policy(policy)


def tfmot_quantizers() -> Any:
    """TFMOT's quantizer classes, imported without its side effects.

    Importing TFMOT sets ``TF_USE_LEGACY_KERAS=1`` for the whole process, which would turn a ``tf.keras`` not yet
    loaded, and with it KerasCV, to tf_keras. Here ``tf.keras`` is resolved first and the variable put back.

    Raises:
        ImportError: TFMOT is not installed; the message names the extra that brings it.
    """
    import tensorflow as tf

    _ = tf.keras.layers  # resolves the lazy module, once for the process
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        from tensorflow_model_optimization.quantization.keras import quantizers
    except ImportError as error:
        raise ImportError(
            "Quantization needs TensorFlow Model Optimization: pip install 'resnet-backbones[quantization]'"
        ) from error
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return quantizers


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
