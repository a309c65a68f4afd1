"""Blocks that normalise first, keras.applications' strides, and shortcuts without parameters, by small nets."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.backbones.block_registry import _blocks
from resnet_backbones.backbones.cost import outline
from resnet_backbones.keras_compat import keras
from resnet_backbones.layers.feature_maps import ChannelPad
from tests.support.families import BackboneFamily
from tests.support.nets import images, randomise

BASIC = rb.ResNetSpec(block="preact_basic", depths=(1, 2, 1), widths=(8, 16, 24), stem_width=8)
SPECS = {
    "basic": BASIC,
    "bottleneck": BASIC.replace(block="preact_bottleneck", stem="deep", shortcut="avg_pool"),
    "keras": BASIC.replace(
        block="preact_bottleneck",
        depths=(2, 2, 2),
        stage_strides=(2, 2, 1),
        stride_in_last=True,
        stem_pool="max_zeros",
        shortcut="max_pool",
        conv_bias=True,
    ),
    "wide": BASIC.replace(stem="3x3", stem_pool="none"),
    "pad": BASIC.replace(block="basic", stem="3x3", stem_pool="none", shortcut="pad", zero_init_last=False),
}


class TestResNetV2(BackboneFamily):
    specs = SPECS
    int8 = tuple(SPECS)
    as_classifier = True
    cosine = 0.99
    wrong = [
        (lambda: rb.create_backbone(BASIC, groups=2), ValueError, "knows no groups"),
        (lambda: rb.create_backbone(SPECS["bottleneck"], antialias="blur"), ValueError, "knows no antialias"),
        (
            lambda: rb.create_backbone(SPECS["bottleneck"], depths=(2, 1, 2), stride_in_last=True),
            ValueError,
            "two or more blocks",
        ),
    ]


def create(kind, input_shape=(64, 64, 3), **overrides):
    return rb.create_backbone(SPECS[kind], input_shape=input_shape, **overrides)


@pytest.mark.parametrize(
    ("kind", "strides", "layers"),
    [
        ("basic", (2, 4, 8, 16), ("stem_conv1", "stage2_block1_act1", "stage3_block1_act1", "final_act")),
        ("bottleneck", (2, 4, 8, 16), ("stem_conv3", "stage2_block1_act1", "stage3_block1_act1", "final_act")),
        ("keras", (2, 4, 8, 16), ("stem_conv1", "stage1_block2_act1", "stage2_block2_act1", "final_act")),
        ("wide", (1, 1, 2, 4), ("stage1_block1_act1", "stage2_block1_act1", "stage3_block1_act1", "final_act")),
        ("pad", (1, 1, 2, 4), ("stem_act1", "stage1_block1_out", "stage2_block2_out", "stage3_block1_out")),
    ],
)
def test_levels_are_given_after_norm_and_activation_at_their_own_stride(kind, strides, layers):
    info = create(kind).feature_info
    assert tuple(level.stride for level in info.values()) == strides
    assert tuple(level.layer_name for level in info.values()) == layers


@pytest.mark.parametrize("kind", ["basic", "keras"])
def test_raw_levels_are_the_sums_that_the_levels_are_made_of(kind):
    normed, raw = create(kind), create(kind, raw_levels=True)
    raw.set_weights(randomise(normed).get_weights())
    x = images(2, 64, 64, 3)
    np.testing.assert_array_equal(np.asarray(normed(x)), np.asarray(raw(x)))  # the output is normed in both
    sums, levels = raw.feature_extractor()(x), normed.feature_extractor()(x)
    assert np.asarray(sums["P4"]).min() < 0
    norm = normed.get_layer("final_bn")
    expected = np.maximum(np.asarray(norm(sums["P4"], training=False)), 0)
    np.testing.assert_allclose(np.asarray(levels["P4"]), expected, rtol=1e-5, atol=1e-5)
    assert [info.stride for info in raw.feature_info.values()] == [info.stride for info in normed.feature_info.values()]


def test_biases_stand_where_no_batch_norm_follows():
    backbone = create("keras")
    biased = {layer.name for layer in backbone.layers if getattr(layer, "use_bias", False)}
    convolutions = {layer.name for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)}
    assert biased == {name for name in convolutions if name.endswith(("stem_conv1", "shortcut_conv", "_conv3"))}


def test_a_stage_that_strides_in_its_last_block_dilates_in_it_too():
    backbone = create("keras", output_stride=8)
    strides = {layer.name: tuple(layer.strides) for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)}
    assert strides["stage1_block2_conv2"] == (2, 2)
    assert strides["stage2_block2_conv2"] == (1, 1)
    dilations = [backbone.get_layer(f"stage{stage}_conv2").dilation_rate for stage in ("2_block2", "3_block1")]
    assert [tuple(dilation) for dilation in dilations] == [(1, 1), (2, 2)]


def test_a_border_of_zeros_wins_over_values_below_zero_in_kerass_pooling_only():
    x = -np.ones((1, 16, 16, 3), "float32")

    def pooled(stem_pool):
        backbone = create("keras", (16, 16, 3), stem_pool=stem_pool)
        stem = backbone.get_layer("stem_conv1")
        stem.set_weights(
            [np.ones_like(weight) * scale for weight, scale in zip(stem.get_weights(), (1, 0), strict=True)]
        )
        name = "stem_pool" if stem_pool == "max_zeros" else "stem_pool_stride"
        return np.asarray(keras.Model(backbone.inputs[0], backbone.get_layer(name).output)(x))

    assert pooled("max_zeros")[0, 0].max() == 0
    assert pooled("max")[0, 0].max() < 0


def test_shortcuts_without_parameters_pass_channels_on_between_zeros():
    backbone = create("pad", (8, 8, 3))
    assert not [layer.name for layer in backbone.layers if "shortcut_conv" in layer.name]
    before, after = (backbone.get_layer(name).output for name in ("stage1_block1_out", "stage2_block1_shortcut_pad"))
    x, padded = (np.asarray(y) for y in keras.Model(backbone.inputs[0], [before, after])(images(2, 8, 8, 3)))
    np.testing.assert_array_equal(padded[..., 4:12], x[:, ::2, ::2])
    assert not padded[..., :4].any()
    assert not padded[..., 12:].any()
    with pytest.raises(ValueError, match="has 8 of 16: take shortcut='conv'"):
        rb.create_backbone(SPECS["pad"].replace(widths=(16, 8, 8)))
    with pytest.raises(ValueError, match="0 or more"):
        ChannelPad(-1, 2)


def test_a_block_that_says_it_normalises_first_must_do_so():
    @rb.register_block("says_preactivation", preactivation=True)
    def block(net, x, plan):
        return net.merge(
            net.conv(x, plan.filters, 3, plan.name, 1, strides=plan.strides),
            net.shortcut(x, plan, plan.filters),
            plan,
            act=False,
        )

    try:
        with pytest.raises(ValueError, match=r"did not call net\.preactivate"):
            rb.create_backbone(BASIC.replace(block="says_preactivation"))
    finally:
        _blocks.pop("says_preactivation")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # In millions, as the papers have them.
        ("resnet20", 0.27),
        ("resnet32", 0.46),
        ("resnet44", 0.66),
        ("resnet56", 0.85),
        ("resnet110", 1.7),
        ("resnet164", 1.7),
        ("wrn_16_8", 11.0),
        ("wrn_28_10", 36.5),
        ("wrn_40_4", 8.9),
    ],
)
def test_nets_for_cifar_have_the_parameters_of_their_papers(name, parameters):
    info = rb.backbone_info(name)
    assert round(outline(info.spec).parameters / 1e6, 2 if parameters < 1 else 1) == parameters
    assert list(info.levels.values())[-1][1] == 4
