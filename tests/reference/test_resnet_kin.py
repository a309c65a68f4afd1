"""ResNeXt, wide, SE, ECA, CBAM, Res2Net, ResNet-RS and antialiased ResNets against timm."""

import pytest
import timm
import torch

import resnet_backbones as rb
from resnet_backbones.backbones.catalogue import CATALOGUE
from resnet_backbones.backbones.specs import PREPROCESSINGS
from tests.reference import harness
from tests.reference.harness import compare_with_timm, within_bound

CBAM = sorted(name for name, variant in CATALOGUE.items() if variant.family == "cbamresnet")
KIN = ("resnext", "wide_resnet", "seresnet", "seresnext", "ecaresnet", "ecaresnext", "res2net", "resnetrs")
TIMM = [
    name
    for name, variant in CATALOGUE.items()
    if variant.family in (*KIN, "resnetblur", "resnetaa") and name != "resnext26_32x4d"
]


def size_of(name):
    """In timm, average antialiasing drops an odd row where its shortcut keeps it, and then cannot add the two.

    63x95 becomes 32x48 in the stem and stays even until stride 16.
    """
    return (63, 95) if CATALOGUE[name].family == "resnetaa" else harness.SIZE


def is_deep_and_gated(name):
    """More than 20 gated blocks one after the other: see ``harness.randomised``."""
    spec = rb.backbone_info(name).spec
    return spec.attention is not None and max(spec.depths) > 20


@pytest.mark.parametrize("name", TIMM)
def test_every_level_and_the_logits_equal_timm(name):
    within_bound(compare_with_timm(name, size=size_of(name), calm=is_deep_and_gated(name)))


@pytest.mark.parametrize("name", CBAM)
def test_cbam_equals_timms_in_its_resnets(name):
    """For timm has the module and no model of this name."""
    options = {"block_args": {"attn_layer": "cbam"}}
    errors = compare_with_timm(name, timm_name=name.removeprefix("cbam"), timm_options=options)
    harness.record("timm", name, errors, size=list(harness.SIZE))
    within_bound(errors)


def test_resnext26_equals_timms_blocks():
    """A depth timm has no name for."""
    name, options = "resnext26_32x4d", {"layers": (2, 2, 2, 2)}
    errors = compare_with_timm(name, timm_name="resnext50_32x4d", timm_options=options)
    harness.record("timm", name, errors, size=list(harness.SIZE))
    within_bound(errors)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnetblur18", "resnetaa34d", "res2net50_48w_2s", "seresnext26t_32x4d"])
def test_dilated_stages_equal_timm(name, output_stride):
    options = {"output_stride": output_stride}
    within_bound(compare_with_timm(name, size=size_of(name), timm_options=options, **options))


@pytest.mark.parametrize("output_stride", [8, 32])
def test_wide_shortcuts_equal_timm_dilated_too(output_stride):
    """SENet-154's, in a shallow net of two widths of groups."""
    options = {"layers": (1, 1, 1, 2), "output_stride": output_stride}
    within_bound(compare_with_timm("senet154", timm_options=options, depths=(1, 1, 1, 2), output_stride=output_stride))


def test_an_antialiased_convolution_in_place_of_the_pooling_equals_timm():
    options = {"aa_layer": timm.layers.BlurPool2d, "replace_stem_pool": True}
    within_bound(compare_with_timm("resnetblur18", timm_options=options, stem_pool="conv"))


@pytest.mark.parametrize("name", TIMM)
def test_input_sizes_and_preprocessing_are_timms(name):
    config = timm.get_pretrained_cfg(name)
    info = rb.backbone_info(name)
    assert info.input_size == config.input_size[-1]
    preprocessing = PREPROCESSINGS[info.preprocessing]
    mean, std = (torch.tensor(values) for values in (config.mean, config.std))
    torch.testing.assert_close(torch.tensor(preprocessing.scale), 1 / (255 * std))
    torch.testing.assert_close(torch.tensor(preprocessing.offset), -mean / std)
