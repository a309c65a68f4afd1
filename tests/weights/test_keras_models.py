"""Weights of keras.applications' and KerasHub's models: every level equal, with random weights and no download."""

import keras as keras_3
import keras_hub
import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.weights import WeightsMismatchError
from tests.support.nets import assert_same, images, values
from tests.weights.models import classifier, level_errors, randomise_all_but_kernels

BOUND = 1e-4  # of the largest magnitude
V1_LEVELS = {
    "P1": "conv1_relu",
    "P2": "conv2_block3_out",
    "P3": "conv3_block4_out",
    "P4": "conv4_block6_out",
    "P5": "conv5_block3_out",
}
NO_TOP = {"weights": None, "include_top": False, "input_shape": (None, None, 3)}


@pytest.fixture(scope="module")
def their_resnet50():
    return randomise_all_but_kernels(keras.applications.ResNet50(**NO_TOP))


def errors_v1(backbone, theirs, size):
    tensors = {level: theirs.get_layer(name).output for level, name in V1_LEVELS.items()}
    return level_errors(backbone, (keras.Model, theirs), tensors, size)


@pytest.mark.parametrize("size", [(96, 96), (97, 131)], ids=["even", "odd"])
def test_resnet50_equals_keras_applications_at_every_level(their_resnet50, size):
    backbone = rb.create_backbone("keras_resnet50")
    rb.weights.from_keras_applications(backbone, their_resnet50)
    assert max(errors_v1(backbone, their_resnet50, size).values()) < BOUND


def test_their_biases_go_into_the_moving_means_where_ours_has_none(their_resnet50):
    backbone = rb.create_backbone("resnet50", stride_in_1x1=True, bn_epsilon=1.001e-5)
    rb.weights.from_keras_applications(backbone, their_resnet50)
    assert max(errors_v1(backbone, their_resnet50, (65, 96)).values()) < BOUND


def test_resnet50v2_equals_keras_applications_at_its_end():
    theirs = randomise_all_but_kernels(keras.applications.ResNet50V2(**NO_TOP))
    backbone = rb.create_backbone("keras_resnet50v2")
    rb.weights.from_keras_applications(backbone, theirs)
    tensors = {"P5": theirs.get_layer("post_relu").output}
    assert max(level_errors(backbone, (keras.Model, theirs), tensors, (96, 96)).values()) < BOUND


def test_a_classifier_of_keras_applications_gives_its_head(their_resnet50):
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=5, classifier_activation=None)
    randomise_all_but_kernels(theirs)
    model = classifier(rb.create_backbone("keras_resnet50", input_shape=(64, 64, 3)), classes=5)
    rb.weights.from_keras_applications(model, theirs)
    x = images(2, 64, 64, 3)
    expected = np.asarray(theirs(x))
    assert np.abs(np.asarray(model(x)) - expected).max() / np.abs(expected).max() < BOUND


def test_other_strides_or_epsilons_than_keras_applications_are_errors(their_resnet50):
    backbone = rb.create_backbone("resnet50", conv_bias=True)
    before = values(backbone)
    with pytest.raises(WeightsMismatchError) as error:
        rb.weights.from_keras_applications(backbone, their_resnet50, skip_mismatch=True)
    assert "keras.applications' own ResNets are keras_resnet50" in str(error.value)
    assert "stem_bn1 has epsilon 1e-05, conv1_bn has 1.001e-05" in str(error.value)
    assert "... and " in str(error.value)
    assert_same(before, values(backbone))


def test_a_dilated_backbone_takes_their_weights(their_resnet50):
    usual, dilated = rb.create_backbone("keras_resnet50"), rb.create_backbone("keras_resnet50", output_stride=16)
    for backbone in (usual, dilated):
        rb.weights.from_keras_applications(backbone, their_resnet50)
    assert_same(values(dilated), values(usual))


def test_another_depth_than_keras_applications_is_an_error_that_lists_the_rest(their_resnet50):
    spec = rb.backbone_info("keras_resnet50").spec
    shallow = rb.create_backbone(spec.replace(depths=(3, 4, 6), widths=(64, 128, 256), stage_strides=None))
    with pytest.raises(WeightsMismatchError, match=r"unexpected:\n(.*\n)* .*conv5_block1_"):
        rb.weights.from_keras_applications(shallow, their_resnet50)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_their_saved_files_are_recognised(their_resnet50, tmp_path, ending):
    """``.keras``, and ``.h5`` as keras.applications publishes its weights."""
    path = tmp_path / f"theirs.{ending}"
    if ending == "keras":
        their_resnet50.save(path)
    else:
        save_as_keras_2(their_resnet50, path)
    expected = rb.create_backbone("keras_resnet50")
    rb.weights.from_keras_applications(expected, their_resnet50)
    assert_same(values(rb.create_backbone("keras_resnet50", weights=path)), values(expected))


def save_as_keras_2(model, path):
    """Each layer a group, in it its weights by the names Keras 2 gave them."""
    import h5py

    from resnet_backbones.weights.targets import slots_of

    with h5py.File(path, "w") as file:
        for slot in slots_of(model):
            file[f"{slot.layer}/{slot.layer}/{slot.weight}:0"] = slot.value


HUB_STEMS = {"7x7": ([64], [7]), "deep": ([32, 32, 64], [3, 3, 3])}


def hub_resnet(block_type, preactivation=False, stem="7x7"):
    """A KerasHub ResNet of two stages."""
    filters, kernels = HUB_STEMS[stem]
    return randomise_all_but_kernels(
        keras_hub.models.ResNetBackbone(
            input_conv_filters=filters,
            input_conv_kernel_sizes=kernels,
            stackwise_num_filters=[64, 32],
            stackwise_num_blocks=[2, 2],
            stackwise_num_strides=[1, 2],
            block_type=block_type,
            use_pre_activation=preactivation,
            image_shape=(None, None, 3),
        )
    )


def our_resnet(block, **fields):
    spec = rb.ResNetSpec(block=block, depths=(2, 2), widths=(64, 32), **fields)
    return rb.create_backbone(spec, input_shape=(None, None, 3))


VD = {"stem": "deep", "stem_width": 32, "shortcut": "avg_pool"}


@pytest.mark.parametrize(
    ("block", "fields", "theirs"),
    [
        ("basic", {}, ("basic_block",)),
        ("bottleneck", {}, ("bottleneck_block",)),
        ("bottleneck", VD, ("bottleneck_block_vd", False, "deep")),
        ("preact_basic", {"raw_levels": True}, ("basic_block", True)),
        ("preact_bottleneck", {"raw_levels": True}, ("bottleneck_block", True)),
    ],
    ids=["basic", "bottleneck", "vd", "v2-basic", "v2-bottleneck"],
)
@pytest.mark.parametrize("size", [(64, 64), (65, 97)], ids=["even", "odd"])
def test_resnets_equal_keras_hub_at_every_level(block, fields, theirs, size):
    reference, backbone = hub_resnet(*theirs), our_resnet(block, **fields)
    rb.weights.from_keras_hub(backbone, reference)
    tensors = dict(reference.pyramid_outputs)
    assert max(level_errors(backbone, (keras_3.Model, reference), tensors, size).values()) < BOUND
    expected = np.asarray(reference(images(2, *size, 3)))  # after the last norm and activation
    ours = np.asarray(backbone(images(2, *size, 3)))
    assert np.abs(ours - expected).max() / np.abs(expected).max() < BOUND


def test_a_classifier_of_keras_hub_gives_its_head():
    task = keras_hub.models.ResNetImageClassifier(
        backbone=hub_resnet("bottleneck_block"), num_classes=5, preprocessor=None
    )
    randomise_all_but_kernels(task)
    model = classifier(our_resnet("bottleneck"), classes=5)
    rb.weights.from_keras_hub(model, task)
    x = images(2, 64, 64, 3)
    expected = np.asarray(task(x))
    assert np.abs(np.asarray(model(x)) - expected).max() / np.abs(expected).max() < BOUND
    rb.weights.from_keras_hub(our_resnet("bottleneck"), task)  # the head is left out


def test_other_strides_than_keras_hubs_are_errors():
    with pytest.raises(WeightsMismatchError, match=r"stage2_block1_conv1 has strides \(2, 2\)"):
        rb.weights.from_keras_hub(our_resnet("bottleneck", stride_in_1x1=True), hub_resnet("bottleneck_block"))
