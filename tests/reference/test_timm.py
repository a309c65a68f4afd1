"""Our ResNets against timm's, an independent implementation, with random weights and no download."""

import numpy as np
import pytest
import timm
import torch

import resnet_backbones as rb

BOUND = 1e-4  # of the largest magnitude in the feature map


def randomised(name, seed=0, **kwargs):
    """A timm model whose batch-norm statistics and affine parameters are random too."""
    torch.manual_seed(seed)
    model = timm.create_model(name, pretrained=False, **kwargs).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def worst_errors(name, size, channels=3, timm_options=None, **overrides):
    """Level -> largest error, as a share of the largest magnitude."""
    reference = randomised(name, in_chans=channels, **(timm_options or {}))
    backbone = rb.create_backbone(name, input_shape=(None, None, channels), **overrides)
    rb.weights.from_timm(backbone, reference.state_dict())
    images = np.random.default_rng(1).normal(size=(2, *size, channels)).astype("float32")
    with torch.no_grad():
        expected = reference.forward_intermediates(
            torch.from_numpy(images.transpose(0, 3, 1, 2)), intermediates_only=True
        )
    features = backbone.feature_extractor()(images, training=False)
    errors = {}
    for (level, ours), theirs in zip(features.items(), expected, strict=True):
        theirs = theirs.numpy().transpose(0, 2, 3, 1)
        assert ours.shape == theirs.shape
        errors[level] = float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())
    print(f"{name} {size} {overrides}: {errors}")
    return errors


@pytest.mark.parametrize("size", [(96, 128), (97, 131)], ids=["even", "odd"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50d"])
def test_every_level_equals_timm(name, size):
    assert max(worst_errors(name, size).values()) < BOUND


@pytest.mark.parametrize("name", ["resnet10t", "resnet14t", "resnet18d", "resnet26", "resnet50c", "resnet50s"])
def test_the_other_stems_and_shortcuts_equal_timm(name):
    assert max(worst_errors(name, (75, 64)).values()) < BOUND


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet26d"])
def test_dilated_stages_equal_timm(name, output_stride):
    errors = worst_errors(name, (97, 64), timm_options={"output_stride": output_stride}, output_stride=output_stride)
    assert max(errors.values()) < BOUND


@pytest.mark.parametrize("channels", [1, 6])
def test_any_number_of_input_channels_equals_timm(channels):
    assert max(worst_errors("resnet10t", (64, 64), channels).values()) < BOUND


@pytest.mark.parametrize("activation", ["silu", "elu", "gelu"])
def test_activations_below_zero_equal_timm_at_borders_too(activation):
    """Max pooling must not see the zeros of its own padding where features are negative."""
    errors = worst_errors("resnet18", (65, 64), timm_options={"act_layer": activation}, activation=activation)
    assert max(errors.values()) < BOUND


@pytest.mark.parametrize("name", rb.list_backbones("resnet*"))
def test_parameters_have_timms_names_and_shapes(name):
    """The whole catalogue, without computing anything: on torch's meta device a model has shapes only."""
    with torch.device("meta"):
        state = timm.create_model(name, pretrained=False).state_dict()
    zeros = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in state.items()}
    backbone = rb.create_backbone(name)
    rb.weights.from_timm(backbone, zeros)  # raises if anything is missing, unexpected or of another shape
    assert not any(np.any(weight) for weight in backbone.get_weights())
