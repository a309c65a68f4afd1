"""The quantized Keras model adds biases as integer kernels do: those of the file, whatever layer adds them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.export.litert import emitter as litert
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import float32_variable, keras
from resnet_backbones.quantization import context
from resnet_backbones.quantization.hooks import hook_of, hooks_of
from tests.support.nets import images, randomise

layers = keras.layers
SIZE = 16
# Off an integer by more: a bias that the converter, which folds in float32, may round to the next.
NEAR_AN_EDGE = 0.02


def bias():
    """An initializer for each layer: one for all gives them the same values."""
    return {"bias_initializer": keras.initializers.RandomNormal(stddev=0.3)}


def norm(x):
    return layers.BatchNormalization()(x)


KINDS = {
    "convolution": lambda x: layers.Conv2D(6, 3, **bias())(x),
    "with its ReLU": lambda x: layers.Conv2D(6, 3, activation="relu", **bias())(x),
    "with another activation": lambda x: layers.Conv2D(6, 3, activation="silu", **bias())(x),
    "with batch norm": lambda x: layers.ReLU()(norm(layers.Conv2D(6, 3, use_bias=False)(x))),
    "with bias and batch norm": lambda x: norm(layers.Conv2D(6, 3, **bias())(x)),
    "padded before": lambda x: norm(layers.Conv2D(6, 3)(layers.ZeroPadding2D(1)(x))),
    "pooled before": lambda x: layers.Conv2D(6, 3, **bias())(layers.MaxPooling2D(2)(x)),
    "grouped": lambda x: layers.Conv2D(8, 3, groups=2, **bias())(x),
    "depthwise": lambda x: norm(layers.DepthwiseConv2D(3)(x)),
    "separable": lambda x: norm(layers.SeparableConv2D(6, 3, **bias())(x)),
    "transposed": lambda x: layers.Conv2DTranspose(6, 3, **bias())(x),
    "dense": lambda x: layers.Dense(6, **bias())(layers.GlobalAveragePooling2D()(x)),
    "batch norm alone": lambda x: norm(layers.MaxPooling2D(2)(x)),
}
WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}


def built(kind, scheme="edge_int8", **options):
    """A convolution, the kind of layer, and a convolution of its result where that is an image; quantized."""
    keras.utils.set_random_seed(0)
    image = layers.Input((SIZE, SIZE, 3))
    x = KINDS[kind](layers.Conv2D(8, 3, activation="relu", name="first", **bias())(image))
    x = layers.Conv2D(4, 1, name="last", **bias())(x) if len(x.shape) == 4 else x
    model = randomise(keras.Model(image, x, name="net"))
    return rb.quantize_post_training(model, scheme, calibration_data=images(8, SIZE, SIZE, 3), **options)


def biases_of_file(model):
    """(steps of the accumulator, integers) of every operator with a bias."""
    data = litert.emit(model, ExportRequest("litert", "int8")).data
    file = tf.lite.Interpreter(model_content=data)
    file.allocate_tensors()
    details = {detail["index"]: detail for detail in file.get_tensor_details()}
    found = []
    for operator in file._get_ops_details():
        place = list(operator["inputs"])[-1]
        if operator["op_name"] in WEIGHTED and details[place]["dtype"] == np.int32:
            found.append((details[place]["quantization_parameters"]["scales"], file.get_tensor(place)))
    return [entry for entry in found if np.any(entry[1])]  # that of a depthwise convolution within another layer


def biases_of_keras(model):
    """What each layer of the quantized model adds to its accumulators, and the same without rounding."""
    found = []
    for hook in hooks_of(model):
        for rounding in hook.biases.values():
            layer, instead = hook.layer, rounding.rounded(hook.layer)
            if "bias" in instead:
                found.append((np.asarray(instead["bias"]), np.asarray(layer.bias)))
            elif "beta" in instead:
                factor = np.asarray(layer.gamma, float) / np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
                own = getattr(rounding.weighted, "bias", None) if rounding.weighted is not layer else None
                mean = np.asarray(layer.moving_mean, float) - (0.0 if own is None else np.asarray(own))
                found.append(
                    (np.asarray(instead["beta"]) - mean * factor, np.asarray(layer.beta, float) - mean * factor)
                )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_holds_the_biases_that_keras_adds(kind):
    model = built(kind)
    files, kerases = biases_of_file(model), biases_of_keras(model)
    assert len(files) == len(kerases)
    for steps, integers in files:
        size = len(integers)
        near = [  # by the values: operators and layers need not be in one order
            (np.abs(added / steps - integers), exact / steps)
            for added, exact in kerases
            if added.shape == integers.shape and np.allclose(exact / steps, integers, atol=0.6)
        ]
        assert len(near) == 1, f"{size} integers belong to {len(near)} layers"
        off, exact = near[0]
        on_an_edge = np.abs(exact % 1.0 - 0.5) < NEAR_AN_EDGE
        assert np.all(off[~on_an_edge] < NEAR_AN_EDGE)
        assert np.max(np.abs(exact - integers)) > 0.1, "nothing was rounded"


@pytest.mark.parametrize("bits", [3, 4])
def test_kernels_of_fewer_bits_have_the_steps_that_the_file_holds_them_in(bits):
    model = built("with batch norm", override={"conv2d*": {"kernel_bits": bits}})
    for (steps, integers), (added, _) in zip(
        sorted(biases_of_file(model), key=lambda one: one[1].size),
        sorted(biases_of_keras(model), key=lambda one: one[0].size),
        strict=True,
    ):
        assert np.median(np.abs(added / steps - integers)) < NEAR_AN_EDGE


def test_calls_of_a_shared_layer_round_by_what_each_reads(tmp_path):
    image = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    shared = layers.Conv2D(6, 3, padding="same", name="shared", **bias())
    other = layers.Conv2D(6, 3, padding="same", activation="relu", **bias())(x)  # of another range
    model = keras.Model(image, layers.Add()([shared(x), shared(other)]))
    rb.quantize_post_training(model, calibration_data=images(4, SIZE, SIZE, 3))
    roundings = hook_of(shared).biases
    assert sorted(roundings) == [0, 1]
    first, second = (np.asarray(roundings[index].rounded(shared)["bias"]) for index in (0, 1))
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=images(4, SIZE, SIZE, 3))
    assert report.passed
    assert first.shape == second.shape == (6,)
    assert not np.array_equal(first, second)


def net_of_blocks(wrap):
    """Two blocks of convolution and batch norm, each a model or a layer by itself."""
    keras.utils.set_random_seed(0)
    image = layers.Input((SIZE, SIZE, 3))
    return randomise(keras.Model(image, layers.Conv2D(4, 1, **bias())(wrap(8, wrap(8, image)))))


def nested(filters, x):
    inside = layers.Input(x.shape[1:])
    y = layers.ReLU()(norm(layers.Conv2D(filters, 3, padding="same")(inside)))
    return keras.Model(inside, y)(x)


class Block(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.convolution, self.norm = layers.Conv2D(filters, 3, padding="same"), layers.BatchNormalization()

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.norm.build((*input_shape[:-1], self.convolution.filters))
        self.built = True

    def call(self, inputs, training=None):
        return tf.nn.relu(self.norm(self.convolution(inputs), training=training))


@pytest.mark.parametrize("wrap", [nested, lambda filters, x: Block(filters)(x)], ids=["nested", "subclassed"])
def test_biases_within_models_and_blocks_are_found(wrap):
    model = rb.quantize_post_training(net_of_blocks(wrap), calibration_data=images(4, SIZE, SIZE, 3))
    assert len(biases_of_keras(model)) == len(biases_of_file(model)) == 3


def test_behind_twenty_convolutions_a_file_gives_the_values_of_keras(tmp_path):
    """Without the rounding, half of the values are more than two steps off."""
    keras.utils.set_random_seed(0)
    batch = images(4, SIZE, SIZE, 3)
    x = image = layers.Input((SIZE, SIZE, 3))
    for _ in range(20):
        x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.0)(x))
    model = keras.Model(image, layers.Conv2D(8, 1)(x))
    model(batch, training=True)  # sets the batch norms' statistics
    rb.quantize_post_training(model, calibration_data=batch)
    (entry,) = rb.export_model(model, tmp_path / "deep.tflite", parity_data=batch).parity
    (runtime,) = rb.export_model(model, tmp_path / "deep.onnx", target="onnxruntime", parity_data=batch).parity
    for hook in hooks_of(model):
        hook.biases.clear()
    (without,) = rb.export_model(model, tmp_path / "deep.tflite", parity_data=batch).parity
    assert without.mean_steps > 2.0
    assert max(entry.mean_steps, runtime.mean_steps) < without.mean_steps / 3


def test_nothing_is_rounded_for_tensorrt_nor_in_float_nor_in_calibration():
    model, batch = built("convolution", "portable_int8"), images(2, SIZE, SIZE, 3)
    expected = np.asarray(model(batch, training=False))
    biases = {id(hook): hook.biases for hook in hooks_of(model)}

    def run(view="litert", mode=context.QUANTIZE):
        with context.use_view(view), context.use_mode(mode):
            return np.asarray(model(batch, training=False))

    with_them = [run(), run("tensorrt"), run(mode=context.FLOAT), run(mode=context.CALIBRATE)]
    for hook in hooks_of(model):
        hook.biases = {}
    without = [run(), run("tensorrt"), run(mode=context.FLOAT), run(mode=context.CALIBRATE)]
    assert any(biases.values())
    assert np.array_equal(with_them[0], expected)
    for one, other in zip(with_them[1:], without[1:], strict=True):
        assert np.array_equal(one, other)
    assert not any(hook.biases for hook in hooks_of(built("convolution", "gpu_int8")))


def test_gradients_pass_through_the_rounding():
    model = built("convolution")
    layer = model.get_layer("last")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images(2, SIZE, SIZE, 3), training=True))
    (gradient,) = tape.gradient(loss, [float32_variable(layer.bias)])
    assert np.min(np.abs(gradient)) > 1.0


def test_it_is_there_again_in_a_loaded_model_and_gone_from_a_stripped_one(tmp_path):
    model, batch = built("with batch norm"), images(2, SIZE, SIZE, 3)
    model.save(tmp_path / "m.keras")
    loaded = rb.load_model(tmp_path / "m.keras")
    assert np.array_equal(loaded(batch, training=False), model(batch, training=False))
    assert len(biases_of_keras(loaded)) == len(biases_of_keras(model)) == 3
    assert not hooks_of(rb.strip_quantization(loaded))


def test_channels_that_a_batch_norm_switches_off_stay_finite():
    model = built("with batch norm")
    batch_norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    gamma = np.asarray(batch_norm.gamma)
    gamma[:2] = 0.0, 1e-12
    batch_norm.gamma.assign(gamma)
    rounded = np.asarray(hook_of(batch_norm).biases[0].rounded(batch_norm)["beta"])
    assert np.array_equal(rounded[:2], np.asarray(batch_norm.beta)[:2])
    assert np.all(np.isfinite(model(images(2, SIZE, SIZE, 3), training=False)))
