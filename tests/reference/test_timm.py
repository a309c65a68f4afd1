"""Our ResNets, v1 and v2, against timm's, an independent implementation, with random weights and no download."""

import pytest
import timm
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

import resnet_backbones as rb
from resnet_backbones.backbones.catalogue import CATALOGUE
from tests.reference.harness import (
    CLASSES,
    classifier_of,
    compare,
    compare_with_timm,
    random_images,
    randomised,
    record,
    torch_outputs,
    within_bound,
)

RESNETS = [name for name, variant in CATALOGUE.items() if variant.family == "resnet"]
NAMES = [name for name in RESNETS if timm.is_model(name)]
NAMES_V2 = [name for name, variant in CATALOGUE.items() if variant.family == "resnetv2" and timm.is_model(name)]
# Depths and letters that timm can build and has given no name, and none of its strides in the 1x1 convolution.
NAMELESS = [name for name in RESNETS if name not in NAMES and "_" not in name]


def normed_sums(model, images):
    """Of timm's v2: the stem, and each stage's sum after the norm and activation that follow it."""
    x, normed = model.stem(images), [model.stem[: model.stem_feat_idx + 1](images)]
    stages = list(model.stages)
    for number, stage in enumerate(stages):
        x = stage(x)
        norm = model.norm if stage is stages[-1] else stages[number + 1].blocks[0].norm1
        normed.append(norm(x))
    return normed


def test_there_are_timm_names_to_compare():
    assert len(NAMES) >= 24
    assert len(NAMES_V2) == 11


@pytest.mark.parametrize("name", NAMES)
def test_every_level_and_the_logits_equal_timm(name):
    within_bound(compare_with_timm(name))


@pytest.mark.parametrize("name", NAMES_V2)
def test_every_normed_level_and_the_logits_of_v2_equal_timm(name):
    within_bound(compare_with_timm(name, levels=normed_sums))


@pytest.mark.parametrize("name", NAMELESS)
def test_letters_and_depths_without_a_name_equal_timms_class(name):
    spec = rb.backbone_info(name).spec
    block = {"basic": BasicBlock, "bottleneck": Bottleneck}[spec.block]
    stem_type = {"7x7": ""}.get(spec.stem, spec.stem)
    reference = randomised(
        ResNet(
            block,
            spec.depths,
            num_classes=CLASSES,
            stem_type=stem_type,
            stem_width=spec.stem_width,
            avg_down=spec.shortcut == "avg_pool",
        )
    )
    images = random_images()
    expected, logits = torch_outputs(reference, images)
    backbone = rb.create_backbone(name)
    classifier = classifier_of(backbone)
    rb.weights.from_timm(classifier, reference.state_dict())
    errors = compare(backbone, classifier, images, expected, logits)
    record("timm", name, errors)
    within_bound(errors)


@pytest.mark.parametrize("name", ["resnetv2_18", "resnetv2_50d"])
def test_raw_levels_of_v2_equal_timms_sums(name):
    within_bound(compare_with_timm(name, raw_levels=True))


@pytest.mark.parametrize("size", [(96, 128), (97, 131)], ids=["even", "odd"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d"])
def test_every_level_and_the_logits_equal_timm_at_other_sizes(name, size):
    within_bound(compare_with_timm(name, size=size))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet26d", "resnetv2_18", "resnetv2_50d"])
def test_dilated_stages_equal_timm(name, output_stride):
    options = {"output_stride": output_stride}
    levels = normed_sums if "v2" in name else None
    within_bound(compare_with_timm(name, size=(97, 64), levels=levels, timm_options=options, **options))


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("name", ["resnet10t", "resnetv2_18"])
def test_any_number_of_input_channels_equals_timm(name, channels):
    levels = normed_sums if "v2" in name else None
    within_bound(compare_with_timm(name, size=(64, 64), levels=levels, channels=channels))


@pytest.mark.parametrize("activation", ["silu", "elu", "gelu"])
def test_activations_below_zero_equal_timm_at_borders_too(activation):
    """Max pooling must not see the zeros of its own padding where features are negative."""
    options = {"act_layer": activation}
    within_bound(compare_with_timm("resnet18", size=(65, 64), timm_options=options, activation=activation))
