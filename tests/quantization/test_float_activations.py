"""Activations without an int8 form: the registry says so before, and quantizing says so by name."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb

pytestmark = pytest.mark.usefixtures("registry_as_it_was")
SPEC = rb.ResNetSpec(block="basic", depths=(1, 1), widths=(4, 8), stem_width=4)


@pytest.mark.parametrize("activation", ["elu", "selu", "mish", "softplus"])
def test_a_backbone_with_an_activation_without_int8_form_is_not_quantizable(activation):
    rb.register_backbone("tiny_float", SPEC.replace(activation=activation))
    info = rb.backbone_info("tiny_float")
    assert info.quantizable is False
    assert info.float_activations == (activation,)
    assert "tiny_float" not in rb.list_backbones(quantizable=True)
    assert "tiny_float" in rb.list_backbones(quantizable=False)


@pytest.mark.parametrize("activation", ["elu", "selu"])
def test_quantize_aware_warns_once_and_names_every_layer_and_the_activation(activation):
    backbone = rb.create_backbone(SPEC, input_shape=(32, 32, 3), activation=activation)
    with pytest.warns(UserWarning, match="no int8 form") as caught:
        rb.quantize_aware(backbone, calibration_data=np.zeros((1, 32, 32, 3), "float32"))
    (message,) = {str(warning.message) for warning in caught if "no int8 form" in str(warning.message)}
    layers = [layer.name for layer in backbone.layers if type(layer).__name__ == "Activation"]
    assert len(layers) == 5
    assert message == (
        f"{', '.join(layers)}: activation {activation!r} has no int8 form in LiteRT; all 5 stay in float."
    )
