"""What timm has not, CIFAR nets and v1 ResNets, against pytorchcv's, with random weights and no download."""

import re

import numpy as np
import pytest
import torch
from pytorchcv.models.preresnet_cifar import get_preresnet_cifar
from pytorchcv.models.resnet import resnet50, resnet101, resnet152
from pytorchcv.models.resnet_cifar import get_resnet_cifar
from pytorchcv.models.wrn_cifar import get_wrn_cifar

import resnet_backbones as rb
from resnet_backbones.backbones.catalogue import CATALOGUE
from tests.reference.harness import (
    CLASSES,
    SIZE,
    classifier_of,
    compare,
    random_images,
    randomised,
    record,
    torch_outputs,
    within_bound,
)

CIFAR_SIZE = (37, 32)
V1 = {"resnet50_v1": resnet50, "resnet101_v1": resnet101, "resnet152_v1": resnet152}
CIFAR = {name: variant for name, variant in CATALOGUE.items() if variant.family in ("cifar_resnet", "wrn")}
PLAIN = [name for name, variant in CIFAR.items() if variant.spec.block == "basic"]
PREACT = [name for name in CIFAR if name not in PLAIN]

# Their modules -> timm's
V1_NAMES = {
    r"features\.init_block\.(?:conv\.)?(conv|bn)\.": r"\g<1>1.",
    r"features\.stage(\d+)\.unit(\d+)\.body\.conv(\d)\.(conv|bn)\.": r"layer\1.{\2}.\4\3.",
    r"features\.stage(\d+)\.unit(\d+)\.identity_conv\.conv\.": r"layer\1.{\2}.downsample.0.",
    r"features\.stage(\d+)\.unit(\d+)\.identity_conv\.bn\.": r"layer\1.{\2}.downsample.1.",
    r"output\.": "fc.",
}
V2_NAMES = {
    r"features\.init_block\.": "stem.conv.",
    r"features\.stage(\d+)\.unit(\d+)\.body\.conv(\d)\.conv\.": r"stages.[\1].blocks.{\2}.conv\3.",
    r"features\.stage(\d+)\.unit(\d+)\.body\.conv(\d)\.bn\.": r"stages.[\1].blocks.{\2}.norm\3.",
    r"features\.stage(\d+)\.unit(\d+)\.identity_conv\.": r"stages.[\1].blocks.{\2}.downsample.conv.",
    r"features\.post_activ\.bn\.": "norm.",
    r"output\.": "head.fc.",
}


def in_timms_names(state, names):
    """Their ``state_dict`` under timm's names; numbers in brackets count from 1 and come to count from 0."""

    def renamed(key):
        for pattern, replacement in names.items():
            key, count = re.subn(f"^{pattern}", replacement, key)
            if count:
                return re.sub(r"[\[{](\d+)[\]}]", lambda match: str(int(match[1]) - 1), key)
        raise AssertionError(f"no rule for {key}")

    return {renamed(key): value for key, value in state.items()}


def errors_against(reference, name, names, levels, size, **overrides):
    reference.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)  # theirs is made for one size of images
    images = random_images(size)
    expected, logits = torch_outputs(reference, images, levels=levels)
    backbone = rb.create_backbone(name, **overrides)
    classifier = classifier_of(backbone)
    state = in_timms_names(reference.state_dict(), names)
    if backbone.spec.shortcut == "pad":
        state = {key: value for key, value in state.items() if "downsample" not in key}
    rb.weights.from_timm(classifier, state)
    errors = compare(backbone, classifier, images, expected, logits)
    if not overrides:
        record("pytorchcv", name, errors)
    return errors


def without_parameters(reference):
    """Turns their projections into the paper's option A: each channel itself, between channels of zeros."""
    for module in reference.modules():
        if hasattr(module, "identity_conv"):
            weight, norm = module.identity_conv.conv.weight, module.identity_conv.bn
            added = (weight.shape[0] - weight.shape[1]) // 2
            with torch.no_grad():
                weight.zero_()
                weight[added : added + weight.shape[1], :, 0, 0] = torch.eye(weight.shape[1])
                for tensor, value in ((norm.running_mean, 0.0), (norm.running_var, 1.0), (norm.bias, 0.0)):
                    tensor.fill_(value)
                norm.weight.fill_(np.sqrt(1 + norm.eps))
    return reference


def layers_of(name):
    return int(re.search(r"\d+", name)[0])


@pytest.mark.parametrize("name", V1)
def test_every_level_and_the_logits_of_v1_equal_pytorchcv(name):
    levels = ["features.init_block.conv", *(f"features.stage{stage}" for stage in (1, 2, 3, 4))]
    reference = randomised(V1[name](num_classes=CLASSES))
    within_bound(errors_against(reference, name, V1_NAMES, levels, SIZE))


@pytest.mark.parametrize("name", PLAIN)
def test_every_level_and_the_logits_of_cifar_resnets_equal_pytorchcv(name):
    reference = randomised(get_resnet_cifar(num_classes=CLASSES, blocks=layers_of(name), bottleneck=False))
    levels = ["features.init_block", *(f"features.stage{stage}" for stage in (1, 2, 3))]
    within_bound(errors_against(without_parameters(reference), name, V1_NAMES, levels, CIFAR_SIZE))


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_cifar_resnets_with_projections_equal_pytorchcv(name):
    reference = randomised(get_resnet_cifar(num_classes=CLASSES, blocks=layers_of(name), bottleneck=False))
    levels = ["features.init_block", *(f"features.stage{stage}" for stage in (1, 2, 3))]
    within_bound(errors_against(reference, name, V1_NAMES, levels, CIFAR_SIZE, shortcut="conv"))


@pytest.mark.parametrize("name", PREACT)
def test_every_normed_level_and_the_logits_of_cifar_resnets_v2_equal_pytorchcv(name):
    layers, *factor = (int(number) for number in re.findall(r"\d+", name))
    if factor:
        reference = get_wrn_cifar(num_classes=CLASSES, blocks=layers, width_factor=factor[0])
    else:
        reference = get_preresnet_cifar(num_classes=CLASSES, blocks=layers, bottleneck=True)
    levels = [f"features.stage{stage}.unit1.body.conv1.activ" for stage in (1, 2, 3)]
    levels.append("features.post_activ.activ")
    within_bound(errors_against(randomised(reference), name, V2_NAMES, levels, CIFAR_SIZE))
