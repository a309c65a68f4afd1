"""MobileNets and EfficientNet-Lites against timm, torchvision, keras.applications and KerasHub."""

import keras
import keras_hub
import pytest
import timm
import torchvision
from keras_hub.src.utils.timm import convert_efficientnet, convert_mobilenet

import resnet_backbones as rb
from resnet_backbones.backbones.spec_values import PREPROCESSINGS

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

TIMM = [
    name
    for pattern in ("mobilenetv[23]_*", "tf_mobilenetv3_*", "efficientnet_lite?", "tf_efficientnet_lite?")
    for name in rb.list_backbones(pattern)
    if not name.startswith("keras")
]

# Level -> the modules of torchvision that end it.
TORCHVISION = {
    "mobilenet_v2": (1, 3, 6, 13, 17),
    "mobilenet_v3_small": (0, 1, 3, 8, 12),
    "mobilenet_v3_large": (1, 3, 6, 12, 16),
}

KERAS_V2_LEVELS = ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "block_16_project_BN")
KERAS_V3_LEVELS = {
    # The activations have no names of their own: the levels that end in one are their batch norm, activated here.
    "small": ("conv_bn", "expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_7_add", "conv_1_bn"),
    "large": ("expanded_conv_add", "expanded_conv_2_add", "expanded_conv_5_add", "expanded_conv_11_add", "conv_1_bn"),
}


def keras_outputs(model, layers, images, activation=None):
    """Outputs of a Keras model's layers, then its logits; of a batch norm that is not a block's end, activated."""
    outputs = [model.get_layer(layer).output for layer in layers]
    outputs = [
        activation(output) if layer.startswith("conv") and activation else output
        for layer, output in zip(layers, outputs, strict=True)
    ]
    *levels, logits = keras.Model(model.input, [*outputs, model.output])(images, training=False)
    return levels, logits


@pytest.mark.parametrize("name", TIMM)
def test_every_level_and_the_logits_equal_timm(name):
    errors = compare_with_timm(name, include_head=True)
    record("timm", name, errors, size=list(SIZE))
    within_bound(errors)


@pytest.mark.parametrize("name", TIMM)
def test_input_size_and_preprocessing_are_timms(name):
    info, theirs = rb.backbone_info(name), timm.get_pretrained_cfg(name)
    assert info.input_size == theirs.input_size[1]
    ours = PREPROCESSINGS[info.preprocessing].scale
    assert (ours if isinstance(ours, tuple) else (ours,) * 3) == pytest.approx([1 / (255 * std) for std in theirs.std])


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("name", ["mobilenetv2_050", "efficientnet_lite0", "tf_efficientnet_lite0"])
def test_dilated_stages_equal_timm(name, stride):
    options = {"output_stride": stride}
    within_bound(compare_with_timm(name, timm_options=options, include_head=True, output_stride=stride))


@pytest.mark.parametrize("channels", [1, 6])
def test_any_number_of_input_channels_equals_timm(channels):
    within_bound(compare_with_timm("mobilenetv3_small_050", channels=channels, include_head=True))


def test_without_the_head_timms_head_is_left_out():
    reference = randomised(timm.create_model("mobilenetv2_035", num_classes=CLASSES))
    images = random_images()
    expected, _ = torch_outputs(reference, images)
    backbone = rb.create_backbone("mobilenetv2_035")
    rb.weights.from_timm(backbone, reference.state_dict())
    within_bound(compare(backbone, None, images, expected, None))


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_level_and_the_logits_equal_torchvision(name):
    reference = randomised(getattr(torchvision.models, name)(num_classes=CLASSES))
    images = random_images()
    modules = [f"features.{index}" for index in TORCHVISION[name]]
    expected, logits = torch_outputs(reference, images, levels=modules)
    backbone = rb.create_backbone(name, include_head=True)
    classifier = classifier_of(backbone)
    rb.weights.from_torchvision(classifier, reference.state_dict())
    errors = compare(backbone, classifier, images, expected, logits)
    record("torchvision", name, errors, size=list(SIZE))
    within_bound(errors)


def against_keras(name, reference, layers, source, activation=None):
    """The errors of our backbone against a Keras model that gives logits."""
    randomised(reference)
    images = random_images()
    expected, logits = keras_outputs(reference, layers, images, activation)
    backbone = rb.create_backbone(name, include_head=True, input_shape=(*SIZE, 3))
    classifier = classifier_of(backbone)
    rb.weights.from_keras_applications(classifier, reference)
    errors = compare(backbone, classifier, images, expected, logits)
    record(source, name, errors, size=list(SIZE))
    return errors


OPTIONS = {"weights": None, "input_shape": (*SIZE, 3), "classes": CLASSES, "classifier_activation": None}


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_every_level_and_the_logits_equal_keras_applications_v2(alpha):
    # Their model pads as for even sizes where it does not know the size, so it is told.
    reference = keras.applications.MobileNetV2(alpha=alpha, **OPTIONS)
    name = f"keras_mobilenetv2_{round(100 * alpha):03d}"
    within_bound(against_keras(name, reference, KERAS_V2_LEVELS, "keras_applications"))


@pytest.mark.parametrize(
    ("size", "alpha", "minimal"),
    [(size, *rest) for size in ("small", "large") for rest in ((0.75, False), (1.0, False), (1.0, True))],
)
def test_every_level_and_the_logits_equal_keras_applications_v3(size, alpha, minimal):
    build = {"small": keras.applications.MobileNetV3Small, "large": keras.applications.MobileNetV3Large}[size]
    reference = build(alpha=alpha, minimalistic=minimal, include_preprocessing=False, **OPTIONS)
    name = f"keras_mobilenetv3_{size}_{'minimal_' * minimal}{round(100 * alpha):03d}"
    activation = keras.layers.Activation("relu" if minimal else "hard_swish")
    within_bound(against_keras(name, reference, KERAS_V3_LEVELS[size], "keras_applications", activation))


HUB_MOBILENETS = {
    "mobilenetv3_small_050": (1024, ("input_batch_norm", "block_0_0", "block_1_1", "block_3_1", "block_5_0")),
    "mobilenetv3_small_100": (1024, ("input_batch_norm", "block_0_0", "block_1_1", "block_3_1", "block_5_0")),
    "mobilenetv3_large_100": (1280, ("block_0_0", "block_1_1", "block_2_2", "block_4_1", "block_6_0")),
}
HUB_LITE_LEVELS = ("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "block7a_project_bn")


def against_keras_hub(name, reference, layers):
    """The errors of our backbone against a KerasHub classifier."""
    randomised(reference)
    images = random_images()
    outputs = {layer: reference.backbone.get_layer(layer).output for layer in layers}
    activation = keras.layers.Activation("hard_swish")  # theirs has no name of its own
    outputs = [activation(x) if layer == "input_batch_norm" else x for layer, x in outputs.items()]
    expected = keras.Model(reference.backbone.input, outputs)(images, training=False)
    backbone = rb.create_backbone(name, include_head=True)
    classifier = classifier_of(backbone)
    rb.weights.from_keras_hub(classifier, reference)
    errors = compare(backbone, classifier, images, expected, reference(images, training=False))
    record("keras_hub", name, errors, size=list(SIZE))
    return errors


# What KerasHub's presets of these names hold: its converter's settings for timm's models.
@pytest.mark.parametrize("name", HUB_MOBILENETS)
def test_every_level_and_the_logits_equal_keras_hub_mobilenet(name):
    width, layers = HUB_MOBILENETS[name]
    config = convert_mobilenet.convert_backbone_config({"architecture": name})
    backbone = keras_hub.models.MobileNetBackbone(image_shape=(*SIZE, 3), **config)
    reference = keras_hub.models.MobileNetImageClassifier(backbone, num_classes=CLASSES, num_features=width)
    within_bound(against_keras_hub(name, reference, layers))


def test_every_level_and_the_logits_equal_keras_hub_efficientnet_lite():
    config = convert_efficientnet.convert_backbone_config({"architecture": "efficientnet_lite0"})
    backbone = keras_hub.models.EfficientNetBackbone(input_shape=(*SIZE, 3), **config)
    reference = keras_hub.models.EfficientNetImageClassifier(backbone, num_classes=CLASSES)
    within_bound(against_keras_hub("efficientnet_lite0", reference, HUB_LITE_LEVELS))
