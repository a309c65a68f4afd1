"""Our batch norm against the running Keras' own: the same numbers, by the fused kernel."""

import numpy as np
import pytest
import tensorflow as tf

from resnet_backbones.keras_compat import KERAS_FUSES_BATCH_NORM, float32_variable, keras
from resnet_backbones.layers import BatchNormalization
from resnet_backbones.layers.batch_norm import normalize_with_moving_statistics
from resnet_backbones.quantization.rules import rule_of

Kerass = keras.layers.BatchNormalization
SHAPE = (4, 5, 6, 7)
FUSED = "FusedBatchNormV3"


def pixels(shape=SHAPE, seed=0, mean=2.0, deviation=3.0):
    return np.random.default_rng(seed).normal(mean, deviation, shape).astype("float32")


def pair(shape=SHAPE, **arguments):
    """Our layer and Keras', with the same random weights."""
    layers = [cls(**arguments) for cls in (BatchNormalization, Kerass)]
    random = np.random.default_rng(1)
    for layer in layers:
        layer.build(shape)
    weights = [random.uniform(0.5, 2.0, weight.shape) for weight in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def step(layer, x, **call):
    """One training step on ``x``: the output, and the gradients of x, gamma and beta, as float64."""
    x = tf.constant(x)
    variables = [float32_variable(variable) for variable in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True, **call)
        upstream = pixels(output.shape, seed=2, mean=0.0, deviation=1.0)
        loss = tf.reduce_sum(tf.cast(output, "float64") * upstream)
    gradients = tape.gradient(loss, [x, *variables])
    for variable, gradient in zip(variables, gradients[1:], strict=True):
        variable.assign_sub(0.01 * gradient)
    return [np.asarray(tf.cast(value, "float64")) for value in (output, *gradients)]


def statistics(layer):
    """The moving mean and variance."""
    return [np.asarray(weight, "float64") for weight in layer.get_weights()[-2:]]


def assert_close(ours, theirs, tolerance):
    """The largest difference against the largest magnitude."""
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() <= tolerance * max(np.abs(other).max(), 1.0)


# float16 and bfloat16 gradients are sums of products rounded at different places: 11 and 8 bits.
POLICIES = {"float32": 2e-6, "mixed_float16": 2e-3, "mixed_bfloat16": 1e-2, "float64": 0.0}


@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("policy", POLICIES)
def test_ten_training_steps_are_keras_own(policy, affine):
    center, scale = affine
    ours, theirs = pair(dtype=policy, center=center, scale=scale, momentum=0.9)
    for number in range(10):
        x = pixels((number + 1, 5, 6, 7), seed=number)
        mine, other = step(ours, x), step(theirs, x)
        assert len(mine) == 2 + center + scale
        assert_close(mine, other, POLICIES[policy])
    assert_close(statistics(ours), statistics(theirs), 1e-6)
    x = pixels(seed=11)
    assert_close([np.asarray(ours(x), "float64")], [np.asarray(theirs(x), "float64")], POLICIES[policy])
    assert ours(x, training=True).dtype == theirs(x, training=True).dtype
    assert [str(weight.dtype) for weight in ours.weights] == [str(weight.dtype) for weight in theirs.weights]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 1.0])
def test_momentum_moves_the_statistics_as_keras_does(momentum):
    ours, theirs = pair(momentum=momentum)
    before = statistics(ours)
    for layer in (ours, theirs):
        step(layer, pixels(seed=3))
    assert_close(statistics(ours), statistics(theirs), 1e-6)
    assert (momentum < 1.0) == bool(np.abs(statistics(ours)[1] - before[1]).max() > 0.01)


def test_epsilon_is_taken_as_given():
    """tf.compat.v1's fused batch norm takes 1.001e-5 for 1e-5, which shows where a channel hardly varies."""
    ours, theirs = pair(epsilon=1e-5)
    x = pixels(mean=0.0, deviation=1e-4)
    assert_close(step(ours, x), step(theirs, x), 1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_pixels_are_keras_own(count):
    ours, theirs = pair((count, 1, 1, 7))
    x = pixels((count, 1, 1, 7))
    assert_close(step(ours, x), step(theirs, x), 1e-5)
    assert_close(statistics(ours), statistics(theirs), 1e-6)
    assert np.isfinite(statistics(ours)).all()


def test_a_large_mean_costs_no_more_precision_than_in_keras():
    ours, theirs = pair()
    x = pixels(mean=1000.0, deviation=1.0)
    exact = x.astype("float64")
    exact = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + ours.epsilon)
    gamma, beta = (np.asarray(weight, "float64") for weight in ours.get_weights()[:2])
    errors = [np.abs(step(layer, x)[0] - (exact * gamma + beta)).max() for layer in (ours, theirs)]
    assert errors[0] <= max(errors[1], 1e-3)


def test_second_derivatives_are_keras_own():
    """As a gradient penalty takes them."""

    def penalty(layer):
        x = tf.constant(pixels())
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, training=True) ** 3)
            size = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return [gradient.numpy() for gradient in outer.gradient(size, [x, float32_variable(layer.gamma)])]

    assert_close(*map(penalty, pair()), 1e-5)


def test_a_frozen_layer_keeps_its_statistics_and_uses_them():
    ours, theirs = pair(momentum=0.5)
    for trainable in (True, False, True):
        ours.trainable = theirs.trainable = trainable
        before = statistics(ours)
        assert_close(step(ours, pixels(seed=4)), step(theirs, pixels(seed=4)), 2e-6)
        assert_close(statistics(ours), statistics(theirs), 1e-6)
        assert np.array_equal(before, statistics(ours)) != trainable


@pytest.mark.skipif(KERAS_FUSES_BATCH_NORM, reason="tf_keras is fused already")
@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_normalizing_with_moving_statistics_is_inference_in_one_kernel(policy, affine):
    scale, center = affine
    _, layer = pair(dtype=policy, scale=scale, center=center)
    x = tf.cast(pixels(), layer.compute_dtype)
    variables = [float32_variable(variable) for variable in layer.trainable_variables]

    def values_and_gradients(call):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = call(x)
            loss = tf.reduce_sum(tf.cast(output, "float64") * pixels(seed=2, mean=0.0, deviation=1.0))
        assert output.dtype == layer.compute_dtype
        return [np.asarray(tf.cast(value, "float64")) for value in (output, *tape.gradient(loss, [x, *variables]))]

    fused = values_and_gradients(lambda x: normalize_with_moving_statistics(layer, x))
    assert_close(fused, values_and_gradients(lambda x: layer(x, training=False)), POLICIES[policy])


ELSEWHERE = {
    "dense": ({}, (6, 7), {}),
    "sequence": ({}, (3, 5, 7), {}),
    "video": ({}, (2, 3, 4, 5, 7), {}),
    "channels first": ({"axis": 1}, SHAPE, {}),
    "synchronized": ({"synchronized": True}, SHAPE, {}),
    "masked": ({}, SHAPE, {"mask": np.arange(4 * 5 * 6).reshape(4, 5, 6) % 3 > 0}),
    "float64": ({"dtype": "float64"}, SHAPE, {}),
}


@pytest.mark.filterwarnings("ignore:Masking is not supported")  # says tf_keras
@pytest.mark.parametrize("case", ELSEWHERE)
def test_where_the_kernel_has_no_place_keras_own_code_runs(case):
    arguments, shape, call = ELSEWHERE[case]
    ours, theirs = pair(shape, **arguments)
    if case not in ("synchronized", "masked"):  # they matter to a batch's own statistics alone
        assert normalize_with_moving_statistics(ours, tf.cast(pixels(shape), ours.compute_dtype)) is None
    for mine, other in zip(step(ours, pixels(shape), **call), step(theirs, pixels(shape), **call), strict=True):
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(statistics(ours), statistics(theirs))


def operations(layer, **call):
    """Names of the operations of a traced call."""

    @tf.function
    def traced(x):
        return layer(x, **call)

    graph = traced.get_concrete_function(tf.TensorSpec((None, None, None, 7), "float32")).graph
    return {operation.type for operation in graph.get_operations()}


def test_training_is_one_fused_kernel():
    (ours, _) = pair()
    assert FUSED in operations(ours, training=True)
    assert "Rsqrt" not in operations(ours, training=True)


def model_of(cls, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, use_bias=False, name="conv")(image)
    x = cls(momentum=0.8, name="bn")(x)
    x = keras.layers.Conv2D(5, 3, activation="relu")(x)
    x = cls(name="last_bn")(x)
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))


@pytest.mark.parametrize("how", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "xla", "eager"])
def test_fit_is_keras_own(how):
    x = pixels((24, 8, 8, 3))
    y = x.mean((1, 2))[:, :2]
    found = []
    for cls in (BatchNormalization, Kerass):
        model = model_of(cls)
        model.compile(keras.optimizers.SGD(0.05), "mse", **{"jit_compile": False, **how})
        losses = model.fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0).history["loss"]
        found.append([np.array(losses), *model.get_weights()])
    assert_close(*found, 2e-5)


def test_weights_files_are_interchangeable_with_keras_own(tmp_path):
    for first, second in ((BatchNormalization, Kerass), (Kerass, BatchNormalization)):
        saved, loaded = model_of(first, seed=1), model_of(second, seed=2)
        saved.set_weights([np.random.default_rng(5).uniform(0.5, 2, w.shape) for w in saved.get_weights()])
        saved.save_weights(tmp_path / "model.weights.h5")
        loaded.load_weights(tmp_path / "model.weights.h5")
        x = pixels((2, 8, 8, 3))
        np.testing.assert_array_equal(loaded(x), saved(x))


def test_a_saved_model_comes_back_with_our_layer(tmp_path):
    model = model_of(BatchNormalization)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("bn")) is BatchNormalization
    np.testing.assert_array_equal(loaded(pixels((2, 8, 8, 3))), model(pixels((2, 8, 8, 3))))


def test_it_is_keras_layer_by_type_name_and_configuration():
    ours, theirs = pair(momentum=0.7, epsilon=1e-4, scale=False, name="bn")
    assert isinstance(ours, Kerass)
    assert type(ours).__name__ == "BatchNormalization"
    assert ours.get_config() == theirs.get_config()
    assert BatchNormalization.from_config(ours.get_config()).get_config() == ours.get_config()
    assert rule_of(ours).role == "batch_norm"
