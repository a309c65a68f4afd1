import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.errors import UnknownNameError
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

SPEC = rb.ResNetSpec(block="basic", depths=(1, 1, 1), widths=(4, 8, 16), stem_width=4)
LEVELS = {"P1": "stem_act1", "P2": "stage1_block1_out", "P3": "stage2_block1_out", "P4": "stage3_block1_out"}


@pytest.fixture(scope="module")
def backbone():
    return rb.create_backbone(SPEC, input_shape=(64, 96, 3))


def pyramid(height=64, width=64):
    """Three levels, the finer ones made of the coarser ones, and a vector."""
    image = keras.Input((height, width, 3))
    c3 = keras.layers.Conv2D(8, 3, 8, "same", name="c3")(image)
    c4 = keras.layers.Conv2D(8, 3, 2, "same", name="c4")(c3)
    p3 = keras.layers.Add(name="p3")([c3, keras.layers.UpSampling2D(2, name="up")(c4)])
    vector = keras.layers.GlobalAveragePooling2D(name="vector")(p3)
    return keras.Model(image, [p3, c4, vector])


@pytest.mark.parametrize(
    "input_shape", [(64, 96, 3), (97, 131, 3), (33, 33, 3), (8, 8, 3), (None, None, 3), (None, 64, 1)]
)
def test_channels_and_strides_are_read_off_the_graph(input_shape):
    info = rb.create_backbone(SPEC, input_shape=input_shape).feature_info
    assert [(level, feature.channels, feature.stride) for level, feature in info.items()] == [
        ("P1", 4, 2),
        ("P2", 4, 4),
        ("P3", 8, 8),
        ("P4", 16, 16),
    ]
    assert {level: feature.layer_name for level, feature in info.items()} == LEVELS


def test_layers_and_tensors_of_each_level_agree(backbone):
    assert backbone.pyramid_level_inputs == LEVELS
    outputs = backbone.pyramid_outputs
    assert list(outputs) == list(LEVELS)
    for level, name in LEVELS.items():
        assert outputs[level] is backbone.get_layer(name).output
        stride = backbone.feature_info[level].stride
        assert outputs[level].shape[1:3] == (64 // stride, 96 // stride)


def test_the_feature_extractor_returns_the_levels_asked_for(backbone):
    x = images(2, 64, 96, 3)
    features = backbone.feature_extractor(["P2", "P4"])(x)
    assert {level: tuple(feature.shape) for level, feature in features.items()} == {
        "P2": (2, 16, 24, 4),
        "P4": (2, 4, 6, 16),
    }
    np.testing.assert_array_equal(features["P4"], backbone(x))
    assert list(backbone.feature_extractor()(x)) == list(LEVELS)


def test_a_level_that_is_not_there_is_an_error(backbone):
    with pytest.raises(UnknownNameError, match="has no level 'P5'; it has P1, P2, P3, P4"):
        backbone.feature_extractor(["P3", "P5"])
    with pytest.raises(TypeError, match=r"write \['P3'\]"):
        backbone.feature_extractor("P3")


def test_any_functional_model_becomes_a_backbone():
    model = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.25)
    backbone = rb.from_model(model, {"P5": "conv_pw_13_relu", "P3": "conv_pw_5_relu"})
    assert backbone.feature_info == {
        "P3": rb.FeatureInfo(64, 8, "conv_pw_5_relu"),
        "P5": rb.FeatureInfo(256, 32, "conv_pw_13_relu"),
    }
    assert backbone.spec is None
    assert backbone.output.shape == (None, 2, 2, 256)
    assert backbone.get_layer("conv1") is model.get_layer("conv1")


def test_a_built_sequential_model_becomes_a_backbone():
    layers = [keras.layers.Conv2D(4, 3, 2, "same", name="half"), keras.layers.Conv2D(8, 3, 2, "same", name="quarter")]
    backbone = rb.from_model(keras.Sequential([keras.Input((32, 32, 3)), *layers]), {"P2": "quarter"})
    assert backbone.feature_info["P2"].stride == 4


def test_a_feature_pyramid_becomes_a_backbone_that_returns_every_level():
    backbone = rb.from_model(pyramid(), {"P3": "p3", "P4": "c4"})
    assert {level: info.stride for level, info in backbone.feature_info.items()} == {"P3": 8, "P4": 16}
    features = backbone(np.zeros((1, 64, 64, 3), "float32"))
    assert {level: tuple(feature.shape) for level, feature in features.items()} == {
        "P3": (1, 8, 8, 8),
        "P4": (1, 4, 4, 8),
    }


def test_a_graph_that_takes_one_size_only_is_measured_at_that():
    image = keras.Input((64, 64, 3))
    patches = keras.layers.Reshape((64, 32))(keras.layers.Conv2D(32, 8, 8)(image))
    model = keras.Model(image, keras.layers.Reshape((8, 8, 32), name="grid")(keras.layers.Dense(32)(patches)))
    assert rb.from_model(model, {"P3": "grid"}).feature_info["P3"] == rb.FeatureInfo(32, 8, "grid")


def test_operations_between_layers_do_not_hide_a_stride():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, "same")(image)
    x = keras.layers.Conv2D(4, 3, 2, "same", name="quarter")(x * 2.0 + x)
    assert rb.from_model(keras.Model(image, x), {"P2": "quarter"}).feature_info["P2"].stride == 4


@pytest.mark.parametrize(
    ("levels", "error", "message"),
    [
        ({"P3": "p4"}, UnknownNameError, "level P3: .* has no layer 'p4'. Did you mean"),
        ({"stage3": "c3"}, ValueError, "'stage3' is no level's name: levels are 'P1', 'P2'"),
        ({"P3": "vector"}, ValueError, "level P3 ends in layer 'vector', whose output has shape"),
        ({}, TypeError, "levels must map levels to layer names"),
        (["p3"], TypeError, "levels must map levels to layer names"),
    ],
)
def test_levels_that_do_not_fit_are_errors(levels, error, message):
    with pytest.raises(error, match=message):
        rb.from_model(pyramid(), levels)


def test_a_stride_that_is_no_power_of_two_is_an_error():
    image = keras.Input((96, 96, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, 3, name="third")(image))
    with pytest.raises(
        ValueError, match=r"level P1 \(layer 'third'\) makes 170x170 of a 512x512 image: .* a power of two"
    ):
        rb.from_model(model, {"P1": "third"})


def test_a_model_that_is_not_functional_is_an_error():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (Subclassed(), keras.layers.Conv2D(1, 1), "resnet50"):
        with pytest.raises(TypeError, match="from_model takes a functional Keras model"):
            rb.from_model(model, {"P1": "x"})
    vector = keras.Input((8,))
    with pytest.raises(ValueError, match=r"has inputs of shapes \[\(None, 8\)\]"):
        rb.from_model(keras.Model(vector, keras.layers.Dense(2, name="d")(vector)), {"P1": "d"})
