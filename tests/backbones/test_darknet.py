"""Darknets and CSPNets, small ones; tests/reference compares the real ones with other libraries."""

from __future__ import annotations

import numpy as np

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.families import CountedFamily
from tests.support.nets import images

DARK = rb.DarkNetSpec(depths=(1, 2, 1), widths=(16, 24, 32), stem_widths=(8,))
CSP = DARK.replace(
    stage="csp",
    block="bottleneck",
    stage_strides=(1, 2, 2),
    stem_kernel=7,
    stem_stride=2,
    stem_pool="max",
    expand_ratio=2.0,
    linear_expansion=True,
    groups=(1, 2, 4),
)
CS3 = DARK.replace(stage="cs3", block_ratio=0.5, bottleneck_ratio=1.0, activation="silu", stem_stride=2)
SPECS = {
    "dark": DARK,
    "aa": DARK.replace(down="avg_pool", attention="se"),
    "csp": CSP,
    "early": CSP.replace(early_growth=True, linear_expansion=False, stem_pool="none"),
    "cs3": CS3,
    "edge": CS3.replace(block="edge", attention="se", attention_ratio=0.25),
    "focus": CS3.replace(stem_kernel=6),
    "same": CS3.replace(stem_kernel=6, padding="same"),
}


class TestDarkNets(CountedFamily):
    specs = SPECS
    int8 = ("aa", "csp", "edge")  # every block
    # Trainable numbers of timm's models of the same names, classifiers' left out.
    parameters = {
        "darknet53": 40_584_928,
        "cspdarknet53": 26_617_184,
        "cspresnet50": 20_591_168,
        "cs3darknet_l": 20_139_168,
    }
    wrong = [
        ({"stage": "dark"}, ValueError, "stage='dark' is not one of 'plain', 'csp', 'cs3'"),
        ({"block": "basic"}, ValueError, "'dark', 'bottleneck', 'edge'"),
        ({"depths": (1, 1)}, ValueError, "different numbers of stages"),
        ({"stage_strides": (1, 2, 3)}, ValueError, "stage_strides=3 is not one of 1, 2"),
        ({"groups": (1, 2)}, ValueError, r"groups=\(1, 2\) has 2 numbers for 3 stages"),
        ({"bottleneck_ratio": 0.0}, ValueError, "bottleneck_ratio must be at least"),
        ({"block_ratio": 0.5}, ValueError, "stage1 would give 8 channels and get 16.*takes block_ratio=1"),
        ({"stage": "csp"}, ValueError, "stage1 would give 16 channels and get 8.*half of expand_ratio"),
        ({"stem_kernel": 6}, ValueError, "stem_kernel=6 takes one convolution of stride 2"),
        ({"early_growth": 1}, TypeError, "early_growth must be True or False"),
        ({"blok": "dark"}, TypeError, "Did you mean 'block'"),
    ]

    def check_report(self, spec, backbone, report):
        assert report.operators["ADD", "int8"] == sum(spec.depths)
        assert ("LEAKY_RELU", "int8") in report.operators or spec.activation == "silu"


def test_a_level_is_the_last_feature_map_of_its_stride():
    assert rb.create_backbone(DARK).pyramid_level_inputs == {
        "P1": "stage1_block1_out",
        "P2": "stage2_block2_out",
        "P3": "stage3_block1_out",
    }
    assert rb.create_backbone(CSP).pyramid_level_inputs == {
        "P1": "stem_act1",
        "P2": "stage1_join_act",
        "P3": "stage2_join_act",
        "P4": "stage3_join_act",
    }
    for name in ("darknet53", "cspdarknet53", "cspresnet50", "cs3darknet_focus_l"):
        assert [stride for _, stride in rb.backbone_info(name).levels.values()] == [2, 4, 8, 16, 32]


def test_average_pooling_and_the_focus_stem_drop_an_odd_row_as_timm_does():
    pooled = rb.create_backbone(SPECS["aa"], input_shape=(None, None, 3)).feature_extractor()(images(1, 47, 64, 3))
    assert [feature.shape[1:3] for feature in pooled.values()] == [(23, 32), (11, 16), (5, 8)]
    focus = rb.create_backbone(SPECS["focus"], input_shape=(None, None, 3)).feature_extractor()(images(1, 47, 64, 3))
    assert [feature.shape[1:3] for feature in focus.values()] == [(23, 32), (12, 16), (6, 8), (3, 4)]


def test_blocks_are_dilated_behind_a_convolution_that_no_longer_strides():
    dilated = rb.create_backbone(CS3, output_stride=8)
    assert dilated.get_layer("stage3_down_conv").dilation_rate == (1, 1)
    assert dilated.get_layer("stage3_block1_conv2").dilation_rate == (2, 2)


def test_leaky_relu_has_timms_slope():
    backbone = rb.create_backbone(DARK)
    activation = keras.Model(backbone.get_layer("stem_bn1").output, backbone.get_layer("stem_act1").output)
    x = images(1, 4, 4, 8)
    np.testing.assert_allclose(activation(x), np.where(x < 0, 0.01 * x, x), rtol=1e-6)
