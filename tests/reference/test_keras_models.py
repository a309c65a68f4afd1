"""Our ResNets against keras.applications' and KerasHub's, with random weights and no download."""

import keras
import keras_hub
import numpy as np
import pytest

import resnet_backbones as rb
from tests.reference.harness import (
    CLASSES,
    SIZE,
    classifier_of,
    compare,
    random_images,
    randomised,
    record,
    within_bound,
)

DEPTHS = {18: (2, 2, 2, 2), 26: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
DEPTHS |= {152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}

# Our name: theirs in keras.applications
APPLICATIONS = {
    "keras_resnet50": "ResNet50",
    "keras_resnet101": "ResNet101",
    "keras_resnet152": "ResNet152",
    "keras_resnet50v2": "ResNet50V2",
    "keras_resnet101v2": "ResNet101V2",
    "keras_resnet152v2": "ResNet152V2",
}

# Our name: layers, KerasHub's kind. Its vd of 18 and 34 layers project in the first block too, unlike ours.
HUB = {f"resnet{layers}": (layers, "") for layers in (18, 26, 34, 50, 101, 152)}
HUB |= {f"resnet{layers}d": (layers, "vd") for layers in (50, 101, 152, 200)}
HUB |= {f"resnetv2_{layers}": (layers, "v2") for layers in (18, 34, 50, 101, 152)}


def outputs(model, images, layers):
    """What layers of a Keras model give, and the model itself."""
    tensors = [model.get_layer(layer).output for layer in layers]
    *features, logits = keras.Model(model.inputs[0], [*tensors, model.output])(images, training=False)
    return [np.asarray(feature) for feature in features], np.asarray(logits)


def errors_against_applications(name, layers, **overrides):
    function = getattr(keras.applications, APPLICATIONS[name])
    options = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    reference = randomised(function(input_shape=(*SIZE, 3), **options))
    images = random_images()
    expected, logits = outputs(reference, images, layers)
    backbone = rb.create_backbone(name, **overrides)
    classifier = classifier_of(backbone)
    rb.weights.from_keras_applications(classifier, reference)
    return compare(backbone, classifier, images, expected, logits)


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if "v2" not in name])
def test_every_level_and_the_logits_equal_keras_applications(name):
    depths = rb.backbone_info(name).spec.depths
    blocks = [f"conv{stage}_block{depth}_out" for stage, depth in enumerate(depths, start=2)]
    errors = errors_against_applications(name, ["conv1_relu", *blocks])
    record("keras.applications", name, errors)
    within_bound(errors)


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if "v2" in name])
def test_every_normed_level_and_the_logits_equal_keras_applications_v2(name):
    """The level of a stride is what enters the block that strides next, after its norm and activation."""
    depths = rb.backbone_info(name).spec.depths
    blocks = [f"conv{stage}_block{depth}_preact_relu" for stage, depth in enumerate(depths[:-1], start=2)]
    errors = errors_against_applications(name, ["conv1_conv", *blocks, "post_relu"])
    record("keras.applications", name, errors)
    within_bound(errors)


def test_raw_levels_equal_keras_applications_v2():
    sums = ["conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "conv5_block3_out"]
    within_bound(errors_against_applications("keras_resnet50v2", ["conv1_conv", *sums], raw_levels=True))


def errors_against_hub(name, **overrides):
    layers, kind = HUB[name]
    deep, v2 = kind == "vd", kind == "v2"
    block = "basic_block" if layers in (18, 34) else "bottleneck_block"
    hub = keras_hub.models.ResNetBackbone(
        input_conv_filters=[32, 32, 64] if deep else [64],
        input_conv_kernel_sizes=[3, 3, 3] if deep else [7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(DEPTHS[layers]),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=f"{block}_vd" if deep else block,
        use_pre_activation=v2,
        image_shape=(None, None, 3),
    )
    reference = randomised(keras_hub.models.ResNetImageClassifier(hub, num_classes=CLASSES, activation=None))
    images = random_images()
    if v2 and not overrides:
        names = ["conv1_conv", *(f"stack{stage}_block0_pre_activation_relu" for stage in (1, 2, 3)), "post_relu"]
    else:
        names = [f"stack{stage}_block{depth - 1}_out" for stage, depth in enumerate(DEPTHS[layers])]
        names = ["conv1_conv" if v2 else f"conv{3 if deep else 1}_relu", *names]
    expected, _ = outputs(hub, images, names)
    logits = np.asarray(reference(images, training=False))
    backbone = rb.create_backbone(name, **overrides)
    classifier = classifier_of(backbone)
    rb.weights.from_keras_hub(classifier, reference)
    return compare(backbone, classifier, images, expected, logits)


@pytest.mark.parametrize("name", HUB)
def test_every_level_and_the_logits_equal_keras_hub(name):
    errors = errors_against_hub(name)
    record("keras_hub", name, errors)
    within_bound(errors)


def test_raw_levels_equal_keras_hub_v2():
    within_bound(errors_against_hub("resnetv2_18", raw_levels=True))
