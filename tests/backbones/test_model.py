import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.families import levels_of, trained_numbers
from tests.support.nets import TWO_STAGES, images, randomise, two_stages
from tests.support.processes import run_python

BOTTLENECKS = TWO_STAGES.replace(block="bottleneck")
DEEP = ("resnet101", "resnet152", "resnet200")

# Trainable numbers in timm's models of the same names, without their classifiers.
PARAMETERS = {
    "resnet10t": 4_922_488,
    "resnet14t": 8_032_632,
    "resnet18": 11_176_512,
    "resnet18d": 11_195_744,
    "resnet26": 13_946_176,
    "resnet26d": 13_965_408,
    "resnet34": 21_284_672,
    "resnet34d": 21_303_904,
    "resnet50": 23_508_032,
    "resnet50c": 23_527_264,
    "resnet50d": 23_527_264,
    "resnet50s": 23_631_808,
    "resnet101": 42_500_160,
    "resnet101d": 42_519_392,
    "resnet152": 58_143_808,
    "resnet152d": 58_163_040,
    "resnet200": 62_624_832,
    "resnet200d": 62_644_064,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_backbone_has_the_levels_its_spec_promises(name):
    backbone = rb.create_backbone(name, input_shape=(64, 64, 3))
    levels = levels_of(backbone)
    assert levels == rb.backbone_info(name).levels
    assert list(levels) == ["P1", "P2", "P3", "P4", "P5"]
    assert backbone.output.shape == (None, 2, 2, levels["P5"][0])
    assert trained_numbers(backbone) == PARAMETERS[name]
    if not name.startswith(DEEP):
        features = backbone(images(1, 64, 64, 3))
        assert np.isfinite(np.asarray(features)).all()


def test_layer_names_say_where_they_are():
    names = [layer.name for layer in rb.create_backbone("resnet50d", drop_path_rate=0.1).layers]
    assert len(set(names)) == len(names)
    for expected in [
        "stem_conv1",
        "stem_bn3",
        "stem_act3",
        "stem_pool",
        "stage1_block1_shortcut_conv",
        "stage2_block1_shortcut_pool",
        "stage3_block2_conv1",
        "stage3_block2_bn3",
        "stage3_block2_drop_path",
        "stage4_block3_add",
        "stage4_block3_out",
    ]:
        assert expected in names


def test_everything_in_the_graph_is_a_plain_keras_layer_without_bias():
    backbone = rb.create_backbone("resnet18d", output_stride=16, drop_path_rate=0.1, preprocessing="imagenet")
    allowed = "InputLayer Rescaling ZeroPadding2D Conv2D BatchNormalization Activation Add Dropout"
    assert {type(layer).__name__ for layer in backbone.layers} == {*allowed.split(), "MaxPooling2D", "AveragePooling2D"}
    assert not any(getattr(layer, "use_bias", False) for layer in backbone.layers)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_output_stride_keeps_later_stages_large_and_dilates_them(output_stride):
    backbone = rb.create_backbone("resnet18", input_shape=(64, 64, 3), output_stride=output_stride)
    assert [info.stride for info in backbone.feature_info.values()] == [min(2**n, output_stride) for n in range(1, 6)]
    assert backbone.output.shape == (None, 64 // output_stride, 64 // output_stride, 512)
    dilation = backbone.get_layer("stage4_block2_conv1").dilation_rate
    assert tuple(dilation) == (32 // output_stride,) * 2


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_a_bottleneck_strides_in_the_3x3_or_as_v1_in_the_1x1(stride_in_1x1):
    backbone = two_stages(BOTTLENECKS, stride_in_1x1=stride_in_1x1)
    strides = [tuple(backbone.get_layer(f"stage2_block1_conv{number}").strides) for number in (1, 2, 3)]
    assert strides == ([(2, 2), (1, 1), (1, 1)] if stride_in_1x1 else [(1, 1), (2, 2), (1, 1)])


@pytest.mark.parametrize("zero_init_last", [False, True])
def test_zero_init_last_starts_each_block_as_its_shortcut(zero_init_last):
    backbone = two_stages(BOTTLENECKS, zero_init_last=zero_init_last)
    last = np.asarray(backbone.get_layer("stage2_block1_bn3").gamma)
    assert np.all(last == (0.0 if zero_init_last else 1.0))
    assert np.all(np.asarray(backbone.get_layer("stage2_block1_bn2").gamma) == 1.0)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_input_channels(channels):
    assert two_stages(input_shape=(None, None, channels))(images(1, 33, 40, channels)).shape == (1, 5, 5, 8)


def test_preprocessing_is_part_of_the_graph():
    plain = randomise(two_stages())
    built_in = two_stages(preprocessing={"scale": [0.5, 1.0, 2.0], "offset": [0.0, -1.0, 1.0]})
    built_in.set_weights(plain.get_weights())
    x = images(2, 32, 32, 3)
    expected = plain(x * np.float32([0.5, 1.0, 2.0]) + np.float32([0.0, -1.0, 1.0]))
    np.testing.assert_allclose(built_in(x), expected, rtol=1e-5, atol=1e-5)
    assert built_in.layers[1].name == "preprocessing"
    with pytest.raises(ValueError, match=r"made for 3 channels, input_shape=\(32, 32, 1\) has 1"):
        two_stages(preprocessing="imagenet", input_shape=(32, 32, 1))


def test_stochastic_depth_drops_whole_samples_in_training_only():
    spec = TWO_STAGES.replace(depths=(1, 2), drop_path_rate=0.5, zero_init_last=False)
    backbone = two_stages(spec)
    branch = keras.Model(backbone.inputs[0], backbone.get_layer("stage2_block2_drop_path").output)
    x = np.repeat(images(1, 32, 32, 3), 64, axis=0)
    kept = np.asarray(branch(x, training=False))
    dropped = np.abs(np.asarray(branch(x, training=True))).max(axis=(1, 2, 3)) == 0
    assert np.abs(kept).max(axis=(1, 2, 3)).min() > 0
    assert 10 < dropped.sum() < 54


@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("size", [8, 9])
def test_stem_pooling_pads_evenly_with_nothing(activation, size):
    backbone = two_stages(activation=activation, input_shape=(2 * size, 2 * size, 3))
    pool = "stem_pool" if activation == "relu" else "stem_pool_stride"
    model = keras.Model(backbone.inputs[0], [backbone.get_layer(name).output for name in ("stem_act1", pool)])
    before, after = (np.asarray(tensor) for tensor in model(images(2, 2 * size, 2 * size, 3)))
    padded = np.pad(before, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    count = (size + 1) // 2
    expected = [
        [padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].max(axis=(1, 2)) for column in range(count)]
        for row in range(count)
    ]
    np.testing.assert_array_equal(after, np.transpose(expected, (2, 0, 1, 3)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activations": "silu"}, TypeError, "Did you mean 'activation'"),
        ({"output_stride": 4}, ValueError, "output_stride=4 is not one of 8, 16, 32"),
        (
            {"input_shape": (32, 32)},
            ValueError,
            r"must be \(height, width, channels\) without the batch; got \(32, 32\)",
        ),
        ({"input_shape": (32, 32, None)}, ValueError, "must end in a known number of channels"),
        ({"input_shape": (32, 0, 3)}, ValueError, "positive integers or None"),
        ({"block": "resnest"}, ValueError, "Registered: basic, bottle2neck, bottleneck"),
    ],
)
def test_a_wrong_argument_says_what_is_allowed(arguments, error, message):
    with pytest.raises(error, match=message):
        rb.create_backbone("resnet18", **arguments)


def test_a_backbone_trains_inside_a_model():
    backbone = two_stages(drop_path_rate=0.1)
    model = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.array(weight) for weight in backbone.get_weights()]
    history = model.fit(images(8, 32, 32, 3), np.arange(8) % 2, epochs=2, batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    changed = [not np.array_equal(old, new) for old, new in zip(before, backbone.get_weights(), strict=True)]
    assert np.mean(changed) > 0.9


def test_a_mixed_precision_backbone_keeps_its_policy_in_its_config():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        backbone = two_stages()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    again = type(backbone).from_config(backbone.get_config())
    assert again.get_layer("stage1_block1_conv1").compute_dtype == "float16"
    assert np.asarray(again(images(1, 32, 32, 3))).dtype == np.float16


def test_saved_backbones_load_in_a_fresh_process(tmp_path):
    spec = TWO_STAGES.replace(
        activation="hard_swish", preprocessing="imagenet", shortcut="avg_pool", drop_path_rate=0.1
    )
    trunk = rb.from_model(two_stages(BOTTLENECKS), {"P2": "stage1_block1_out", "P3": "stage2_block1_out"})
    x = images(2, 32, 32, 3)
    np.save(tmp_path / "x.npy", x)
    for name, backbone in (("built", two_stages(spec)), ("wrapped", trunk)):
        randomise(backbone).save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", np.asarray(backbone(x)))
    code = """
import sys
import numpy as np
import resnet_backbones.backbones.model
from resnet_backbones.keras_compat import keras
folder = sys.argv[1]
x = np.load(f"{folder}/x.npy")
for name in ("built", "wrapped"):
    backbone = keras.saving.load_model(f"{folder}/{name}.keras")
    difference = np.abs(np.load(f"{folder}/{name}.npy") - np.asarray(backbone(x)))
    print(type(backbone).__name__, *backbone.feature_info, difference.max())
    if name == "built":
        print(backbone.spec.to_dict())
"""
    built, written, wrapped = run_python(code, tmp_path).splitlines()
    assert built == "SpecBackbone P1 P2 P3 0.0"
    assert written == str(spec.to_dict())
    assert wrapped == "WrappedBackbone P2 P3 0.0"
