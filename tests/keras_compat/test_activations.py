import json
import math

import numpy as np
import pytest

from resnet_backbones.keras_compat import activation_function, keras
from tests.support.nets import images, two_stages


def numpy_activations():
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    erf = np.vectorize(math.erf)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return {
        "relu": lambda x: np.maximum(x, 0),
        "relu6": lambda x: np.clip(x, 0, 6),
        "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
        "celu": lambda x: np.where(x > 0, x, np.expm1(x)),
        "selu": lambda x: scale * np.where(x > 0, x, alpha * np.expm1(x)),
        "silu": lambda x: x * sigmoid(x),
        "swish": lambda x: x * sigmoid(x),
        "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
        "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
        "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
        "hard_tanh": lambda x: np.clip(x, -1, 1),
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "softplus": lambda x: np.log1p(np.exp(x)),
        "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
        "linear": lambda x: x,
    }


@pytest.mark.parametrize("name", numpy_activations())
def test_an_activation_is_the_same_function_in_both_kerases(name):
    x = np.linspace(-8, 8, 101, dtype="float32")
    ours = np.asarray(activation_function(name)(keras.layers.Identity()(x)))
    np.testing.assert_allclose(ours, numpy_activations()[name](x.astype("float64")), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["relu", "relu6", "elu", "selu", "silu", "gelu", "leaky_relu", "hard_swish"])
def test_a_backbone_with_any_activation_comes_back_from_its_config(name):
    backbone = two_stages(activation=name)
    x = images(1, 32, 32, 3)
    again = type(backbone).from_config(json.loads(json.dumps(backbone.get_config())))
    again.set_weights(backbone.get_weights())
    np.testing.assert_array_equal(again(x), backbone(x))


def test_an_unknown_activation_is_an_error():
    with pytest.raises(ValueError, match=r"no activation is called 'rellu'.*'relu', 'relu6'"):
        two_stages(activation="rellu")


def test_a_registered_function_serves_as_activation():
    @keras.saving.register_keras_serializable("test_backbone")
    def half(x):
        return x * 0.5

    assert two_stages(activation="test_backbone>half").get_layer("stem_act1").activation is half
