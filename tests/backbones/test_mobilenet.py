"""Networks of inverted residuals, small ones; tests/reference compares the real ones with other libraries."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.backbones.cost import outline
from resnet_backbones.backbones.mobilenet.spec import round_channels
from resnet_backbones.keras_compat import keras
from tests.support.families import CountedFamily
from tests.support.nets import images, randomise

V2 = rb.MobileNetSpec(
    stages=(
        rb.MobileStage("separable", 8),
        rb.MobileStage("inverted", 16, (2, 2), stride=2),
        rb.MobileStage("inverted", 24, (3, 3), kernel=5, stride=2),
    ),
    stem_width=8,
    head_width=32,
)
V3 = rb.MobileNetSpec(
    stages=(
        rb.MobileStage("separable", 8, stride=2, se_ratio=0.5, activation="relu"),
        rb.MobileStage("inverted", 16, (3, 2.3), kernel=5, stride=2, se_ratio=0.25),
        rb.MobileStage("conv", 24, kernel=1),
    ),
    stem_width=8,
    activation="hard_swish",
    head="pooled",
    head_width=32,
)
SPECS = {"v2": V2, "v3": V3, "v2_same": V2.replace(padding="same"), "v3_same": V3.replace(padding="same")}


class TestMobileNets(CountedFamily):
    specs = {**SPECS, **{f"{name}_head": spec.replace(include_head=True) for name, spec in SPECS.items()}}
    int8 = ("v2_head", "v3_head")
    # Trainable numbers of timm's models of the same names, classifiers' left out; with the head.
    parameters = {
        "mobilenetv2_100": 2_223_872,
        "mobilenetv2_120d": 4_550_144,
        "mobilenetv3_small_050": 568_224,
        "mobilenetv3_large_100": 4_202_032,
        "efficientnet_lite0": 3_371_008,
        "efficientnet_lite4": 11_725_568,
    }
    wrong = [
        (lambda: rb.MobileStage("fused", 8), ValueError, "'inverted', 'separable', 'conv'"),
        (lambda: rb.MobileStage("inverted", 8, 6), TypeError, "one for each block; got 6"),
        (lambda: rb.MobileStage("inverted", 8, (0,)), ValueError, "expansions of a stage must be at least"),
        (lambda: rb.MobileStage("separable", 8, (6,)), ValueError, "only 'inverted' blocks expand"),
        (lambda: rb.MobileStage("inverted", 8, kernel=4), ValueError, "kernel of a stage=4 is not one of 1, 3, 5, 7"),
        (lambda: rb.MobileStage("inverted", 8, stride=3), ValueError, "stride of a stage=3"),
        (lambda: rb.MobileNetSpec(stages=()), TypeError, "stages must be a tuple of MobileStage"),
        (lambda: rb.MobileNetSpec(stages=({"blok": "inverted"},)), TypeError, r"\(block, channels, expansions"),
        (lambda: rb.MobileNetSpec(head="dense"), ValueError, "head='dense' is not one of 'conv', 'pooled'"),
        (lambda: rb.MobileNetSpec(include_head=1), TypeError, "include_head must be True or False"),
        (lambda: rb.MobileNetSpec(width_multiplier=0.0), ValueError, "width_multiplier must be at least"),
        (lambda: rb.MobileNetSpec().replace(width_multiply=0.5), TypeError, "Did you mean 'width_multiplier'"),
    ]

    def parameters_of(self, name):
        return outline(rb.backbone_info(name).spec.replace(include_head=True)).parameters

    def check_built(self, spec, backbone):
        assert backbone.output.shape[-1] == (32 if spec.include_head else 24)

    def check_report(self, spec, backbone, report):
        kinds = {kind for kind, _ in report.operators}
        assert kinds <= {"CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "ADD", "MEAN", "MUL", "HARD_SWISH"}
        # A gate's two rescalings are depthwise 1x1 convolutions, the first with its ReLU6 fused; then it multiplies.
        gates = sum(bool(plan.squeezed) for stage in spec.plan() for plan in stage)
        shortcuts = sum(layer.name.endswith("_out") and "_se_" not in layer.name for layer in backbone.layers)
        depthwise = sum(isinstance(layer, keras.layers.DepthwiseConv2D) for layer in backbone.layers)
        assert report.operators["ADD", "int8"] == shortcuts
        assert report.operators.get(("MUL", "int8"), 0) == gates
        assert report.operators["DEPTHWISE_CONV_2D", "int8"] == depthwise + 2 * gates


def test_a_level_ends_where_the_next_stage_strides():
    levels = rb.create_backbone("mobilenetv2_035", input_shape=(None, None, 3)).pyramid_level_inputs
    assert levels == {
        "P1": "stage1_block1_project_bn",
        "P2": "stage2_block2_out",
        "P3": "stage3_block3_out",
        "P4": "stage5_block3_out",
        "P5": "stage7_block1_project_bn",
    }
    levels = rb.create_backbone("mobilenetv3_small_050", input_shape=(None, None, 3)).pyramid_level_inputs
    assert (levels["P1"], levels["P5"]) == ("stem_act1", "stage6_block1_act")


def test_layer_names_say_where_they_are():
    names = [layer.name for layer in rb.create_backbone(V3.replace(include_head=True)).layers]
    assert len(set(names)) == len(names)
    for expected in [
        "stem_conv1",
        "stage1_block1_depthwise",
        "stage1_block1_se_reduce",
        "stage1_block1_se_gate",
        "stage2_block1_pad",
        "stage2_block2_expand_conv",
        "stage2_block2_depthwise_bn",
        "stage2_block2_project_conv",
        "stage2_block2_out",
        "stage3_block1_conv",
        "head_conv",
        "head_act",
    ]:
        assert expected in names


def test_blocks_are_dilated_behind_the_one_that_no_longer_strides():
    dilated = rb.create_backbone("mobilenetv3_small_050", output_stride=16)
    assert dilated.feature_info["P5"].stride == 16
    assert dilated.get_layer("stage5_block1_depthwise").dilation_rate == (1, 1)
    assert dilated.get_layer("stage5_block2_depthwise").dilation_rate == (2, 2)
    assert dilated(images(1, 64, 64, 3)).shape == (1, 4, 4, 288)


def test_channels_are_multiples_of_eight_and_never_much_less_than_asked_for():
    assert [round_channels(channels) for channels in (1, 8, 11.9, 12, 18, 64 * 0.35)] == [8, 8, 16, 16, 24, 24]


def test_multipliers_scale_the_ends_only_where_the_spec_says_so():
    wide = rb.MobileNetSpec(width_multiplier=2.0, depth_multiplier=2.0)
    kept = wide.replace(scale_ends=False)
    assert (wide.stem_channels, wide.head_channels) == (64, 2560)
    assert (kept.stem_channels, kept.head_channels) == (32, 1280)
    assert [len(stage) for stage in wide.plan()] == [2, 4, 6, 8, 6, 6, 2]
    assert [len(stage) for stage in kept.plan()] == [1, 4, 6, 8, 6, 6, 1]
    assert wide.replace(width_multiplier=0.5).head_channels == 1280
    assert [stage[0].filters for stage in wide.plan()] == [stage[0].filters for stage in kept.plan()]


def test_only_blocks_with_a_shortcut_start_as_it():
    backbone = rb.create_backbone(V2.replace(zero_init_last=True))
    scales = {
        name: float(np.abs(backbone.get_layer(f"{name}_project_bn").get_weights()[0]).max())
        for name in ("stage1_block1", "stage2_block1", "stage2_block2")
    }
    assert scales == {"stage1_block1": 0.0, "stage2_block1": 1.0, "stage2_block2": 0.0}


def test_a_gate_of_hard_sigmoid_is_written_out_with_the_same_values():
    backbone = rb.create_backbone(V3)
    gate = keras.Model(
        backbone.get_layer("stage1_block1_se_expand").output, backbone.get_layer("stage1_block1_se_gate").output
    )
    x = 4 * images(50, 1, 1, 8)
    np.testing.assert_allclose(gate(x), np.clip(x + 3, 0, 6) / 6, atol=1e-6)


@pytest.mark.parametrize("spec", [V2, V3], ids=["v2", "v3"])
def test_weights_train_through_the_quantizers(spec):
    backbone = randomise(rb.create_backbone(spec, input_shape=(32, 32, 3)))
    x = images(8, 32, 32, 3)
    rb.quantize_aware(backbone, calibration_data=x)
    backbone.compile("adam", "mse", run_eagerly=True)
    before = backbone.get_weights()
    history = backbone.fit(x, images(8, *backbone.output.shape[1:]), epochs=1, batch_size=8, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    kept = [old.shape for old, new in zip(before, backbone.get_weights(), strict=True) if np.array_equal(old, new)]
    assert [shape for shape in kept if shape] == []  # scalars are the quantizers' switches


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_weights_of_keras_applications_give_the_same_features_in_both_kerases(version):
    options = {"weights": None, "include_top": False, "input_shape": (64, 64, 3)}
    if version == "v2":
        reference = keras.applications.MobileNetV2(alpha=0.35, **options)
        backbone = rb.create_backbone("keras_mobilenetv2_035", include_head=True)
    else:
        reference = keras.applications.MobileNetV3Small(alpha=0.75, include_preprocessing=False, **options)
        backbone = rb.create_backbone("keras_mobilenetv3_small_075")
    rb.weights.from_keras_applications(backbone, randomise(reference))
    x = images(1, 64, 64, 3)
    expected = np.asarray(reference(x, training=False))
    np.testing.assert_allclose(backbone(x, training=False), expected, atol=1e-4 * np.abs(expected).max())


def test_a_backbone_that_pads_as_torch_refuses_weights_of_keras_applications():
    reference = keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False, input_shape=(64, 64, 3))
    backbone = rb.create_backbone("mobilenetv2_035", bn_epsilon=1e-3)
    before = backbone.get_weights()
    with pytest.raises(rb.weights.WeightsMismatchError, match="padding='same'"):
        rb.weights.from_keras_applications(backbone, reference)
    assert all((old == new).all() for old, new in zip(before, backbone.get_weights(), strict=True))
