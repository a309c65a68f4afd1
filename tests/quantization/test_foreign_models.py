"""Models this library did not build: nested, from keras.applications, KerasCV and KerasHub, and subclassed."""

from __future__ import annotations

import keras_cv
import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import randomise

layers = keras.layers
models = keras_cv.models
SHAPE = (64, 64, 3)
COMPUTE = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "SUB", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D",
    "LOGISTIC", "HARD_SWISH", "CONCATENATION", "RELU", "RELU6", "SOFTMAX",
}  # fmt: skip


def pictures(count=8):
    """Of 0 to 255, smooth and unlike each other, so that what comes out differs from image to image."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (count, 8, 8, 3)) * random.uniform(0.2, 1, (count, 1, 1, 3))
    return tf.image.resize(coarse, SHAPE[:2], "bicubic").numpy().clip(0, 255).astype("float32")


def check(model, path, int8_operators=COMPUTE):
    """Quantizes, exports and compares; the report."""
    batch = pictures()
    randomise(model, scales=(0.7, 1.3), offset=0.3, variances=(0.3, 0.8))
    rb.quantize_post_training(model, calibration_data=batch)
    report = rb.export_model(model, path / "it.tflite", parity_data=batch)
    assert {dtype for kind, dtype in report.operators if kind in int8_operators} == {"int8"}, report.float_operators
    assert report.int8_mac_share == 1.0
    assert not report.left_in_float
    values = np.concatenate([np.ravel(value) for value in tf.nest.flatten(model(batch, training=False))])
    assert len(np.unique(values.round(6))) > 12, "outputs that hardly differ would agree whatever was computed"
    for parity in report.parity:
        assert parity.cosine > 0.999
        assert parity.mean_steps < 3  # of deep networks nobody trained, which use few of the 256
    return report


def features(base):
    """A functional wrapper with preprocessing in front, which returns a map of logits."""
    image = layers.Input(SHAPE)
    scaled = layers.Rescaling(1 / 127.5, -1.0)(image)
    return keras.Model(image, layers.Conv2D(4, 1, name="logits")(base(scaled)))


def test_resnet50_of_keras_applications_in_a_sequential_model(tmp_path):
    base = keras.applications.ResNet50(weights=None, include_top=False, input_shape=SHAPE)
    model = keras.Sequential(
        [layers.Input(SHAPE), layers.Rescaling(1 / 255), base, layers.GlobalAveragePooling2D(), layers.Dense(10)]
    )
    report = check(model, tmp_path)
    assert report.operators["CONV_2D", "int8"] == 53
    assert report.operators["ADD", "int8"] == 16
    assert {dtype for _, dtype in report.operators} == {"int8"}


def test_mobilenet_v2_of_keras_applications_in_a_functional_model(tmp_path):
    base = keras.applications.MobileNetV2(weights=None, include_top=False, alpha=0.35, input_shape=SHAPE)
    report = check(features(base), tmp_path)
    assert report.operators["DEPTHWISE_CONV_2D", "int8"] == 17
    assert report.operators["ADD", "int8"] == 10
    assert {dtype for _, dtype in report.operators} == {"int8"}


def test_two_preprocessing_layers_in_a_row_leave_the_file_together(tmp_path):
    image = layers.Input(SHAPE)
    scaled = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(layers.Rescaling(1 / 255)(image))
    report = check(keras.Model(image, layers.Conv2D(4, 3)(scaled)), tmp_path)
    assert report.operators == {("CONV_2D", "int8"): 1}


STAGES = {"stackwise_filters": [16, 24, 32, 48], "stackwise_blocks": [2] * 4, "stackwise_strides": [1, 2, 2, 2]}
DARK = {"stackwise_channels": [16, 24, 32, 48], "stackwise_depth": [1] * 4}
BOTTLENECKS = {
    "stackwise_kernel_sizes": [3, 3, 5],
    "stackwise_num_repeats": [1, 1, 1],
    "stackwise_input_filters": [32, 16, 24],
    "stackwise_output_filters": [16, 24, 40],
    "stackwise_expansion_ratios": [1, 6, 6],
    "stackwise_strides": [1, 2, 2],
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "dropout_rate": 0.2,
}
BACKBONES = {
    "ResNetBackbone": {**STAGES, "block_type": "block"},
    "ResNetV2Backbone": STAGES,
    "CSPDarkNetBackbone": DARK,
    "MobileNetV3Backbone": {
        "stackwise_expansion": [1, 4, 6],
        "stackwise_filters": [16, 24, 40],
        "stackwise_kernel_size": [3, 3, 5],
        "stackwise_stride": [2, 2, 2],
        "stackwise_se_ratio": [0.25, None, 0.25],
        "stackwise_activation": ["relu", "relu", "hard_swish"],
    },
    "EfficientNetLiteBackbone": BOTTLENECKS,
    "EfficientNetV1Backbone": {**BOTTLENECKS, "stackwise_squeeze_and_excite_ratios": [0.25] * 3},
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_of_keras_cv_in_its_classifier(name, tmp_path, recwarn):
    backbone = getattr(models, name)(**BACKBONES[name], include_rescaling=True, input_shape=SHAPE)
    model = models.ImageClassifier(backbone=backbone, num_classes=24, activation=None)
    report = check(model, tmp_path)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert not [w for w in recwarn if "stay" in str(w.message)]


def test_a_backbone_of_keras_cv_in_a_detector(tmp_path):
    backbone = models.ResNetBackbone(**BACKBONES["ResNetBackbone"], include_rescaling=True, input_shape=SHAPE)
    report = check(models.RetinaNet(backbone=backbone, num_classes=3, bounding_box_format="xywh"), tmp_path)
    assert {dtype for _, dtype in report.operators} == {"int8"}


def test_a_backbone_of_keras_hub(tmp_path):
    keras_hub = pytest.importorskip("keras_hub", exc_type=ImportError) if keras.__version__ >= "3" else None
    if keras_hub is None:
        pytest.skip("KerasHub runs on Keras 3 only")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64, 24, 32, 48],
        stackwise_num_blocks=[1] * 4, stackwise_num_strides=[1, 2, 2, 2], block_type="basic_block", image_shape=SHAPE,
    )  # fmt: skip
    report = check(features(backbone), tmp_path)
    assert {dtype for _, dtype in report.operators} == {"int8"}


class Subclassed(keras.Model):
    """Layers and bare operations in a ``call``."""

    def __init__(self):
        super().__init__()
        self.stem = layers.Conv2D(8, 3, padding="same", activation="relu")
        self.branch = [layers.Conv2D(8, 3, padding="same", activation="relu"), layers.Conv2D(8, 3, padding="same")]
        self.head = layers.Conv2D(4, 1)

    def call(self, inputs):
        x = self.stem(inputs)
        for conv in self.branch:
            x = tf.nn.relu(x + conv(x))
        return self.head(x)


def test_a_subclassed_model_keeps_its_convolutions_int8(tmp_path):
    """Bare operations that feed bare operations stay in float, and are named; what multiplies is in int8."""
    model = Subclassed()
    model(pictures())
    report = check(model, tmp_path, {"CONV_2D", "DEPTHWISE_CONV_2D"})
    assert report.operators["CONV_2D", "int8"] == 4
    assert all("no range" in reason for reason in report.float_operators.values())
