"""RegNets against timm, torchvision and tf_keras' keras.applications (Keras 3's has none)."""

import keras
import pytest
import tf_keras
import timm
import torchvision

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
    torch_outputs,
    within_bound,
)

NAMES = rb.list_backbones("regnet[xy]_*")
TORCHVISION = [f"regnet_{kind}_{cost}" for kind in "xy" for cost in ("400mf", "800mf", "1_6gf", "3_2gf")]
# Those that keras.applications has too; torchvision's forms have other widths.
KERAS = [name for name in NAMES if not name.endswith("_tv")]


@pytest.mark.parametrize("name", NAMES)
def test_every_level_and_the_logits_equal_timm(name):
    within_bound(compare_with_timm(name))


@pytest.mark.parametrize("name", NAMES)
def test_widths_and_depths_are_timms(name):
    model = timm.create_model(name, pretrained=False, num_classes=0)
    spec = rb.backbone_info(name).spec
    stages = [getattr(model, f"s{number}") for number in range(1, 5)]
    assert spec.depths == tuple(len(list(stage.children())) for stage in stages)
    assert spec.widths == tuple(stage.b1.conv3.conv.out_channels for stage in stages)
    assert [stage[0].groups for stage in spec.plan()] == [stage.b1.conv2.conv.groups for stage in stages]


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["regnetx_002", "regnety_002"])
def test_dilated_stages_equal_timm(name, stride):
    within_bound(compare_with_timm(name, timm_options={"output_stride": stride}, output_stride=stride))


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_level_and_the_logits_equal_torchvision(name):
    reference = randomised(torchvision.models.get_model(name, num_classes=CLASSES))
    images = random_images()
    modules = ["stem", *(f"trunk_output.block{number}" for number in range(1, 5))]
    expected, logits = torch_outputs(reference, images, levels=modules)
    backbone = rb.create_backbone(name)
    classifier = classifier_of(backbone)
    rb.weights.from_torchvision(classifier, reference.state_dict())
    errors = compare(backbone, classifier, images, expected, logits)
    record("torchvision", name, errors, size=list(SIZE))
    within_bound(errors)


def keras_model(name):
    """tf_keras' RegNet of one of our names, random."""
    build = getattr(tf_keras.applications.regnet, f"RegNet{name[6].upper()}{name[-3:]}")
    return randomised(build(weights=None, input_shape=(*SIZE, 3), classes=CLASSES, include_preprocessing=False))


@pytest.mark.parametrize("name", KERAS)
def test_every_level_and_the_logits_equal_keras_applications(name):
    reference = keras_model(name)
    ends = [f"{reference.name}_stem_relu"]
    for number, depth in enumerate(rb.backbone_info(name).spec.depths):
        ends.append(f"{reference.name}_Stage_{number}_{name[6].upper()}Block_{depth - 1}_exit_relu")
    outputs = [*(reference.get_layer(end).output for end in ends), reference.output]
    images = random_images()
    *expected, logits = (array.numpy() for array in tf_keras.Model(reference.input, outputs)(images, training=False))
    backbone = rb.create_backbone(name, padding="same")
    classifier = classifier_of(backbone)
    rb.weights.from_keras_applications(classifier, reference)
    errors = compare(backbone, classifier, images, expected, logits)
    record("keras_applications", name, errors, size=list(SIZE))
    within_bound(errors)


def test_keras_applications_weights_are_refused_where_padding_differs():
    assert not hasattr(keras.applications, "regnet")  # else it should be in the test above
    with pytest.raises(rb.weights.WeightsMismatchError, match="padding='same'"):
        rb.weights.from_keras_applications(rb.create_backbone("regnetx_002"), keras_model("regnetx_002"))
