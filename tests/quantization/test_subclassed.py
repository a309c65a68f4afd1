"""Models written as classes, whose sums and ReLUs are no layers: as tutorials write their ResNets."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise

layers = keras.layers


@keras.saving.register_keras_serializable("test_subclassed")
class Block(layers.Layer):
    """A residual block whose sum and activations are bare operations."""

    def __init__(self, filters, project=False, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.project = filters, project
        self.first = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.first_norm = layers.BatchNormalization()
        self.second = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.second_norm = layers.BatchNormalization()
        self.projection = layers.Conv2D(filters, 1) if project else None

    def build(self, shape):
        inner = (*shape[:-1], self.filters)
        self.first.build(shape)
        self.first_norm.build(inner)
        self.second.build(inner)
        self.second_norm.build(inner)
        if self.projection is not None:
            self.projection.build(shape)
        super().build(shape)

    def call(self, inputs, training=None):
        x = tf.nn.relu(self.first_norm(self.first(inputs), training=training))
        x = self.second_norm(self.second(x), training=training)
        return tf.nn.relu(x + (inputs if self.projection is None else self.projection(inputs)))

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "project": self.project}


@keras.saving.register_keras_serializable("test_subclassed")
class Net(keras.Model):
    """Stem, four blocks, pooling, a layer of logits."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stem = layers.Conv2D(8, 3, padding="same")
        self.blocks = [Block(8), Block(8), Block(16, project=True), Block(16)]
        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(5)

    def build(self, shape):
        self.stem.build(shape)
        inner = (*shape[:-1], 8)
        for block in self.blocks:
            block.build(inner)
            inner = (*inner[:-1], block.filters)
        self.head.build((None, inner[-1]))
        super().build(shape)

    def call(self, inputs, training=None):
        x = tf.nn.relu(self.stem(inputs))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.pool(x))


class InputInASum(keras.Model):
    """A residual sum with the model's own input, in the model's own call."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (layers.Conv2D(3, 3, padding="same") for _ in range(2))

    def call(self, inputs):
        return self.second(tf.nn.relu(self.first(inputs) + inputs))


class Chained(keras.Model):
    """Bare operations that read each other within one call: nothing stands between them that could have a range."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (layers.Conv2D(3, 3, padding="same") for _ in range(2))

    def call(self, inputs):
        x = tf.nn.relu(self.first(inputs))
        return self.second(x * tf.sigmoid(x))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(8, 24, 24, 3)).astype("float32")


@pytest.fixture(scope="module")
def net(images):
    model = Net()
    model.build((None, 24, 24, 3))
    model(images)
    return rb.quantize_post_training(randomise(model), calibration_data=images)


def built(model, images):
    model(images)
    return rb.quantize_post_training(model, calibration_data=images)


def test_a_resnet_of_classes_is_int8_from_end_to_end(net, images, tmp_path):
    report = rb.export_model(net, tmp_path / "net.tflite", parity_data=images)
    assert report.operators == {
        ("CONV_2D", "int8"): 10, ("ADD", "int8"): 4, ("MEAN", "int8"): 1, ("FULLY_CONNECTED", "int8"): 1
    }  # fmt: skip
    (parity,) = report.parity
    assert parity.cosine > 0.999
    assert parity.within_two_steps >= 0.99


def test_nothing_stands_between_a_convolution_and_a_bare_relu(net):
    assert "output" not in {port for _, port in net.stem._quantization_hook.quantizers}
    first = net.blocks[0].first_norm
    assert not first._quantization_hook.quantizers


def test_it_is_saved_and_loaded_with_its_ranges(net, images, tmp_path):
    net.save(tmp_path / "net.keras")
    loaded = rb.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded(images), net(images))
    assert len(rb.quantization.quantizers_of(loaded)) == len(rb.quantization.quantizers_of(net))


def test_an_excluded_block_stays_in_float(images):
    model = Net()
    model.build((None, 24, 24, 3))
    model(images)
    rb.quantize_post_training(model, calibration_data=images, exclude=[model.blocks[1].name])
    assert model.blocks[1].__dict__.get("_quantization_hook") is None
    assert model.blocks[1].first.__dict__.get("_quantization_hook") is None
    assert model.blocks[0].first.__dict__.get("_quantization_hook") is not None


def test_a_sum_with_the_model_s_own_input_is_int8(images, tmp_path):
    report = rb.export_model(built(InputInASum(), images), tmp_path / "sum.tflite", parity_data=images)
    assert report.operators == {("CONV_2D", "int8"): 2, ("ADD", "int8"): 1}
    assert report.parity[0].within_two_steps >= 0.99


def test_what_has_no_range_is_float_and_reported(images, tmp_path):
    report = rb.export_model(built(Chained(), images), tmp_path / "chained.tflite", parity_data=images)
    assert {kind for kind, dtype in report.operators if dtype == "float32"} >= {"LOGISTIC", "MUL"}
    assert any("MUL" in reason for reason in report.float_operators.values())
    assert report.parity[0].cosine > 0.999


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_a_portable_resnet_of_classes_has_both_onnx_files(target, images, tmp_path):
    """Behind a bare ReLU, whose range is symmetric, a sum reads the rounded values and not the integers."""
    keras.utils.set_random_seed(0)
    net = Net()
    net(images[:1])
    randomise(net)
    rb.quantize_post_training(net, "portable_int8", calibration_data=images)
    report = rb.export_model(net, tmp_path / "net.onnx", target=target, parity_data=images)
    assert report.verdict == "PASSED"
    assert report.int8_mac_share == 1.0
    if target == "tensorrt":
        assert rb.export.tensorrt.check(report.path).ok
