"""Darknets and CSPNets against timm and KerasHub."""

import keras
import keras_hub
import pytest
from keras_hub.src.utils.timm import convert_cspnet
from timm.models import cspnet

import resnet_backbones as rb

from .harness import (
    CLASSES,
    SIZE,
    classifier_of,
    compare,
    compare_with_timm,
    random_images,
    randomised,
    record,
    within_bound,
)

NAMES = list(cspnet.model_cfgs)
KERAS_HUB = ["darknet53", "cspdarknet53", "cspresnet50", "cspresnext50"]  # those it has presets of


def strided_levels(model, images):
    """Feature maps of timm but those of stride 1, which are no levels of ours."""
    features = model.forward_intermediates(images, intermediates_only=True)
    return [feature for feature in features if feature.shape[2] < images.shape[2]]


def compared(name, **options):
    return compare_with_timm(name, levels=strided_levels, **options)


@pytest.mark.parametrize("name", NAMES)
def test_every_level_and_the_logits_equal_timm(name):
    within_bound(compared(name))


def test_the_catalogue_has_all_of_timms():
    assert set(NAMES) <= set(rb.list_backbones())


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["darknet17", "cspresnet50", "cs3darknet_s"])
def test_dilated_stages_equal_timm(name, stride):
    within_bound(compared(name, timm_options={"output_stride": stride}, output_stride=stride))


@pytest.mark.parametrize("channels", [1, 6])
def test_any_number_of_input_channels_equals_timm(channels):
    within_bound(compared("cs3darknet_focus_s", channels=channels))


# What KerasHub's presets of these names hold: its converter's settings for timm's models.
@pytest.mark.parametrize("name", KERAS_HUB)
def test_every_level_and_the_logits_equal_keras_hub(name):
    config = convert_cspnet.convert_backbone_config({"architecture": name})
    theirs = keras_hub.models.CSPNetBackbone(image_shape=(*SIZE, 3), **config)
    reference = randomised(keras_hub.models.CSPNetImageClassifier(theirs, num_classes=CLASSES))
    images = random_images()
    outputs = keras.Model(theirs.input, list(theirs.pyramid_outputs.values()))(images, training=False)
    backbone = rb.create_backbone(name)
    levels = list(backbone.feature_info)[-len(outputs) :]  # theirs are numbered otherwise, and begin with stage 1
    classifier = classifier_of(backbone)
    rb.weights.from_keras_hub(classifier, reference)
    expected = dict(zip(levels, outputs, strict=True))
    errors = compare(backbone, classifier, images, expected, reference(images, training=False))
    record("keras_hub", name, errors, size=list(SIZE))
    within_bound(errors)
