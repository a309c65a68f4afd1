"""Weights by timm's and torchvision's names."""

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.weights import WeightsMismatchError
from resnet_backbones.weights.libraries import from_torch_order
from resnet_backbones.weights.names import find_names, register_names, sources_of
from resnet_backbones.weights.targets import Slot, find_target
from tests.support.nets import assert_same, images, values
from tests.weights.models import SPEC, classifier, timm_state, tiny


@pytest.mark.parametrize("convert", [rb.weights.from_timm, rb.weights.from_torchvision])
def test_weights_go_where_they_belong(convert):
    backbone = tiny()
    state = timm_state()
    convert(backbone, state)
    np.testing.assert_array_equal(
        backbone.get_layer("stage2_block2_conv1").kernel, state["layer2.1.conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        backbone.get_layer("stage2_block1_shortcut_bn").moving_variance, state["layer2.0.downsample.1.running_var"]
    )
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"])


def test_weights_that_do_not_fit_are_listed_and_change_nothing():
    backbone = tiny()
    before = values(backbone)
    state = timm_state()
    del state["layer1.0.conv1.weight"]
    state["layer3.0.conv1.weight"] = np.zeros((16, 8, 3, 3), "float32")
    state["bn1.bias"] = np.zeros(64, "float32")
    with pytest.raises(WeightsMismatchError) as error:
        rb.weights.from_timm(backbone, state)
    message = str(error.value)
    assert "1 missing:\n    layer1.0.conv1.weight (for stage1_block1_conv1.kernel)" in message
    assert "1 unexpected:\n    layer3.0.conv1.weight" in message
    assert "1 of another shape:\n    bn1.bias (for stem_bn1.beta): (64,), not (4,)" in message
    assert_same(before, values(backbone))


def test_ten_names_are_listed_and_the_rest_counted():
    with pytest.raises(WeightsMismatchError) as error:
        rb.weights.from_timm(rb.create_backbone("resnet18"), timm_state())
    lists = str(error.value).split("  60 missing:\n")[1].split("  40 of another shape:\n")
    assert [len(part.split("    ")[1:]) for part in lists] == [11, 11]
    assert "... and 50 more" in lists[0]
    assert "... and 30 more" in lists[1]


def test_skipping_mismatches_loads_what_fits_and_names_the_rest():
    backbone = tiny()
    before = backbone.get_layer("stage1_block1_conv1").get_weights()[0]
    state = timm_state()
    del state["layer1.0.conv1.weight"]
    state["extra.weight"] = np.zeros(3, "float32")
    with pytest.warns(
        UserWarning, match=r"(?s)in part.*1 missing:\n    layer1.0.conv1.*1 unexpected:\n    extra"
    ) as seen:
        rb.weights.from_timm(backbone, state, skip_mismatch=True)
    assert seen[0].filename == __file__
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"])
    np.testing.assert_array_equal(backbone.get_layer("stage1_block1_conv1").get_weights()[0], before)


def test_skipping_mismatches_is_no_licence_to_load_nothing():
    with pytest.raises(WeightsMismatchError, match="40 missing"):
        rb.weights.from_timm(tiny(), {"something.else": np.zeros(3)}, skip_mismatch=True)


def test_a_checkpoint_of_a_training_script_is_unwrapped():
    state = timm_state()
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    backbone = tiny()
    rb.weights.from_timm(backbone, wrapped)
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"])


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_input_channels_adapt_the_stem(channels):
    """As timm does: the sum for one channel; else the three in turn, scaled by 3 / channels."""
    state = timm_state()
    backbone = tiny(channels=channels)
    rb.weights.from_timm(backbone, state)
    old, new = state["conv1.weight"].transpose(2, 3, 1, 0), np.asarray(backbone.get_layer("stem_conv1").kernel)
    if channels == 1:
        np.testing.assert_allclose(new[:, :, 0], old.sum(axis=2), rtol=1e-6)
    else:
        for channel in range(channels):
            np.testing.assert_allclose(new[:, :, channel], old[:, :, channel % 3] * 3 / channels, rtol=1e-6)


def test_a_grey_image_gives_what_it_gave_in_three_channels():
    colour, grey = tiny(), tiny(channels=1)
    for backbone in (colour, grey):
        rb.weights.from_timm(backbone, timm_state())
    x = images(2, 32, 32, 1)
    np.testing.assert_allclose(grey(x), colour(np.repeat(x, 3, axis=-1)), rtol=1e-3, atol=1e-3)


def test_channels_that_cannot_be_adapted_are_a_mismatch():
    with pytest.raises(WeightsMismatchError, match=r"conv1.weight .*: \(7, 7, 4, 4\), not \(7, 7, 3, 4\)"):
        rb.weights.from_timm(tiny(), timm_state(channels=4))


def test_a_classifier_takes_the_heads_weights_too():
    state, model = timm_state(), classifier()
    rb.weights.from_timm(model, state)
    head = model.get_layer("predictions")
    np.testing.assert_array_equal(head.kernel, state["fc.weight"].T)
    np.testing.assert_array_equal(head.bias, state["fc.bias"])
    np.testing.assert_array_equal(model.layers[0].get_layer("stem_bn1").beta, state["bn1.bias"])


def test_a_keras_cv_classifier_takes_the_heads_weights_too():
    state = timm_state()
    model = rb.adapters.keras_cv.image_classifier(tiny(), num_classes=10)
    rb.weights.from_timm(model, state)
    np.testing.assert_array_equal(model.get_layer("predictions").kernel, state["fc.weight"].T)


def test_a_classifier_of_other_classes_names_its_backbone_as_the_way_out():
    model = classifier(classes=4)
    before = values(model)
    with pytest.raises(WeightsMismatchError, match=r"(?s)fc.weight .*\(8, 10\), not \(8, 4\).*pass its backbone alone"):
        rb.weights.from_timm(model, timm_state())
    assert_same(before, values(model))
    rb.weights.from_timm(model.layers[0], timm_state())


def test_a_model_without_a_backbone_is_an_error():
    with pytest.raises(TypeError, match="Sequential 'mine' holds none"):
        rb.weights.from_timm(keras.Sequential([keras.layers.Dense(2)], name="mine"), {})


def test_a_detector_gives_its_backbone():
    backbone = rb.create_backbone("resnet10t", input_shape=(64, 64, 3))
    detector = rb.adapters.keras_cv.retinanet(backbone, num_classes=2, bounding_box_format="xywh")
    found = find_target(detector)
    assert (found.backbone is backbone, found.head, found.complete) == (True, None, False)


@pytest.mark.parametrize(
    ("kind", "shape", "theirs"),
    [
        ("Conv2D", (3, 5, 2, 4), (4, 2, 3, 5)),
        ("Conv2D", (1, 1, 2, 4), (4, 2)),  # a linear layer
        ("Conv2D", (5, 1, 1, 1), (1, 1, 5)),  # a 1-D convolution along the channels (ECA)
        ("Conv2D", (3, 3, 2, 8), (8, 2, 3, 3)),  # in groups
        ("DepthwiseConv2D", (3, 5, 4, 2), (8, 1, 3, 5)),
        ("Dense", (2, 4), (4, 2)),
        ("Dense", (4, 4), (4, 4)),
        ("Dense", (2, 4), (4, 2, 1, 1)),
    ],
)
def test_axes_are_ordered_by_the_kind_of_layer(kind, shape, theirs):
    value = np.arange(np.prod(theirs), dtype="float32").reshape(theirs)
    ours = from_torch_order(Slot("layer", "kernel", kind, np.zeros(shape)), value)
    assert ours.shape == shape
    for index in np.ndindex(shape):
        height, width, inputs, outputs = index if len(index) == 4 else (0, 0, *index)
        if kind == "DepthwiseConv2D":  # output channel c * multiplier + m
            expected = value[inputs * shape[3] + outputs, 0, height, width]
        else:
            expected = value[(outputs, inputs, height, width)[: value.ndim]]
        assert ours[index] == expected


def test_a_backbone_without_a_spec_has_no_timm_names():
    plain = rb.from_model(keras.applications.MobileNet(weights=None, include_top=False), {"P3": "conv_pw_5_relu"})
    with pytest.raises(ValueError, match=r"a backbone without a spec \(made by from_model\)"):
        rb.weights.from_timm(plain, {})


def test_another_package_can_say_how_a_source_names_its_family():
    class Spec:
        family = "somebodys"

    with pytest.raises(ValueError, match="backbones of family 'somebodys'"):
        find_names("timm", Spec())
    register_names("timm", "somebodys", lambda layer, spec: f"their.{layer}")
    assert find_names("timm", Spec())[0]("conv1", Spec()) == "their.conv1"
    assert sources_of(Spec()) == ["timm"]
    with pytest.raises(ValueError, match="source='nobody' is not one of"):
        register_names("nobody", "somebodys", lambda layer, spec: layer)


def test_parameters_of_the_spec_are_told_apart_by_their_names():
    layer_name, _ = find_names("timm", SPEC)
    names = [layer_name(slot.layer, SPEC) for slot in find_target(tiny()).slots()]
    assert {"conv1", "bn1", "layer2.0.downsample.0", "layer2.0.downsample.1"} <= set(names)
