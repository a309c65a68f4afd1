"""Our ResNets against torchvision's, with random weights and no download."""

import pytest
import torchvision

import resnet_backbones as rb
from tests.reference.harness import (
    CLASSES,
    classifier_of,
    compare,
    random_images,
    randomised,
    record,
    torch_outputs,
    within_bound,
)

LEVELS = ("relu", "layer1", "layer2", "layer3", "layer4")
NAMES = [name for name in torchvision.models.list_models() if name.startswith(("resnet", "resnext", "wide_resnet"))]


def test_every_resnet_of_torchvision_is_in_the_catalogue():
    assert set(NAMES) <= set(rb.list_backbones())
    assert len(NAMES) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_every_level_and_the_logits_equal_torchvision(name):
    reference = randomised(torchvision.models.get_model(name, weights=None, num_classes=CLASSES))
    images = random_images()
    expected, logits = torch_outputs(reference, images, levels=LEVELS)
    backbone = rb.create_backbone(name)
    classifier = classifier_of(backbone)
    rb.weights.from_torchvision(classifier, reference.state_dict())
    errors = compare(backbone, classifier, images, expected, logits)
    record("torchvision", name, errors)
    within_bound(errors)
