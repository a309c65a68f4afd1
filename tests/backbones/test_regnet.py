"""RegNets, small ones; tests/reference compares the real ones with other libraries."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from tests.support.families import BackboneFamily

X = rb.RegNetSpec(depth=6, w0=8, wa=6.0, wm=2.0, group_width=4, stem_width=8)

# name: (widths, depths), from table 5 and 6 of the paper's appendix D
PAPER = {
    "regnetx_002": ((24, 56, 152, 368), (1, 1, 4, 7)),
    "regnetx_004": ((32, 64, 160, 384), (1, 2, 7, 12)),
    "regnetx_006": ((48, 96, 240, 528), (1, 3, 5, 7)),
    "regnetx_008": ((64, 128, 288, 672), (1, 3, 7, 5)),
    "regnetx_016": ((72, 168, 408, 912), (2, 4, 10, 2)),
    "regnetx_032": ((96, 192, 432, 1008), (2, 6, 15, 2)),
    "regnety_002": ((24, 56, 152, 368), (1, 1, 4, 7)),
    "regnety_004": ((48, 104, 208, 440), (1, 3, 6, 6)),
    "regnety_006": ((48, 112, 256, 608), (1, 3, 7, 4)),
    "regnety_008": ((64, 128, 320, 768), (1, 3, 8, 2)),
    "regnety_016": ((48, 120, 336, 888), (2, 6, 17, 2)),
    "regnety_032": ((72, 216, 576, 1512), (2, 5, 13, 1)),
}


class TestRegNets(BackboneFamily):
    specs = {"x": X, "y": X.replace(se_ratio=0.25), "same": X.replace(padding="same", se_ratio=0.25)}
    int8 = ("y",)
    wrong = [
        ({"w0": 20}, ValueError, "w0 must be a multiple of 8; got 20"),
        ({"depth": 0}, ValueError, "depth must be at least 1"),
        ({"wa": -1.0}, ValueError, "wa must be at least 0"),
        ({"wm": 1.0}, ValueError, "wm must be more than 1"),
        ({"group_width": 2.5}, TypeError, "group_width must hold integers"),
        ({"se_ratio": 2}, ValueError, "se_ratio must be at least 0"),
        ({"se_ration": 0.25}, TypeError, "Did you mean 'se_ratio'"),
    ]

    def check_report(self, spec, backbone, report):
        assert report.operators["ADD", "int8"] == spec.depth


@pytest.mark.parametrize(("name", "expected"), PAPER.items(), ids=PAPER)
def test_widths_and_depths_are_the_papers(name, expected):
    spec = rb.backbone_info(name).spec
    assert (spec.widths, spec.depths) == expected


def test_torchvisions_names_are_aliases_and_it_rounds_otherwise():
    assert rb.backbone_info("regnet_x_400mf").spec.widths == (32, 64, 160, 400)
    assert rb.backbone_info("regnet_y_800mf").spec.widths == (64, 144, 320, 784)
    assert rb.backbone_info("regnet_y_1_6gf").name == "regnety_016"


def test_squeezed_channels_are_a_share_of_what_enters_the_block():
    backbone = rb.create_backbone("regnety_002")
    assert backbone.get_layer("stage1_block1_se_reduce").filters == 8  # a quarter of the stem's 32
    assert backbone.get_layer("stage2_block1_se_reduce").filters == 6  # of stage 1's 24
    assert backbone.get_layer("stage4_block7_se_reduce").filters == 92
