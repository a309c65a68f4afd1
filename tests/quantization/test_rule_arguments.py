"""Rules go by a layer's arguments: the faults that the sweep of rules (tests/sweeps/rules.py) found, mended."""

from __future__ import annotations

import random
from itertools import combinations, product

import pytest

from resnet_backbones.keras_compat import IS_KERAS_3
from tests.sweeps.covering import covering_array
from tests.sweeps.rule_cases import FACTORS, FLOAT_ACTIVATIONS, WAYS, case_of, valid
from tests.sweeps.rules import attempt

EIGHT_BITS = [way for way in WAYS if "int16" not in way]
# Layers with an activation of their own before a batch norm, which then folds into nothing.
ACTIVATED = (
    "Conv2D/padding/relu/none/norm",
    "Conv2D/groups/relu6/norm/norm relu",
    "DepthwiseConv2D/multiplier/tanh/none/norm",
    "SeparableConv2D/padding/silu/none/norm",
    "Conv2DTranspose/kernel is stride/relu/none/norm",
    "Dense/default/relu/none/norm",
)
# Averages before all else, whose halves each engine rounds in its own way; what is joined or compared, rounded once.
AVERAGED_OR_JOINED = (
    "Conv2D/strides same/relu6/mean/relu",
    "ReLU/to half/linear/mean/reshape",
    "Conv2DTranspose/output padding/linear/mean/add",
    "Dense/no bias/softmax/concat/mean",
    "Resizing/size/linear/add/mean",
    "BatchNormalization/epsilon/linear/reshape/concat",
    "Channels/gate/linear/concat/norm relu",
    "Maximum/broadcast/linear/concat/concat",
    "SeparableConv2D/pixel/leaky_relu/concat/reshape",
    "Conv2D/padding/silu/none/concat",
    "Minimum/default/linear/none/conv",
    "bare/concatenate/linear/none/conv",
    "Resizing/crop/linear/concat/none",
)
# Numbers that multiply all behind a kernel, and fold into it.
MULTIPLIED = ("Normalization/one mean/linear/none/conv", "Normalization/invert/linear/none/mean")
# The activation alone is in float.
PARTLY_IN_FLOAT = (
    "DepthwiseConv2D/dilation/softplus/none/mean",
    "Conv2D/groups strides/elu/none/norm relu",
    "Conv2D/groups/elu/concat/concat",
)
# Normalizations of vectors and tokens; a normalization turned round; layers that do nothing in inference.
IN_LITERT = (
    "Dense/vectors/softmax/none/norm relu",
    "Dense/tokens/hard_sigmoid/none/norm",
    "Normalization/invert/linear/none/none",
    "Dropout/noise/linear/none/norm",
)
# Arguments that integers have no form for: such a layer stays in float, and a warning says why.
IN_FLOAT = {
    "BatchNormalization/rows/linear/none/conv": "axis=1 has no form in integers; only the last axis",
    "BatchNormalization/columns/linear/none/conv": "axis=2 has no form in integers; only the last axis",
    "Normalization/rows/linear/none/conv": "axis=1 has no form in integers; only the last axis",
    "Softmax/rows/linear/none/conv": "softmax over axis=1 has no form in integers",
    "ReLU/threshold/linear/none/conv": "threshold=0.5)' has no int8 form",
    "ReLU/slope to 1/linear/none/conv": "max_value=1.0, threshold=0.0)' has no int8 form",
}


# What integers have no form for is tested by itself.
LEFT_OUT = {"channels first", "bicubic", *FLOAT_ACTIVATIONS}
WHOLE = {name: [value for value in values if value not in LEFT_OUT] for name, values in FACTORS.items()}


@pytest.mark.parametrize("way", EIGHT_BITS)
def test_any_twelve_cases_of_the_sweep_pass(way):
    chance, cases = random.Random(way), []
    while len(cases) < 12:
        case = {name: chance.choice(values) for name, values in WHOLE.items()} | {"way": way}
        known = (case["layer"], case["argument"]) == ("Conv2DTranspose", "dilation")  # Keras runs none on a CPU
        if valid(case) and not known and case["layer"] not in {other["layer"] for other in cases}:
            cases.append(case)
    result = attempt(cases)
    assert result["status"] in ("passed", "left in float"), (cases, result["why"])


@pytest.mark.parametrize("way", EIGHT_BITS)
def test_a_batch_norm_after_an_activated_layer_is_in_integers_as_is_the_layer(way):
    result = attempt([case_of(f"{name}/{way}") for name in ACTIVATED])
    assert result["status"] == "passed", result["why"]


@pytest.mark.parametrize("way", EIGHT_BITS)
def test_averages_and_what_is_joined_are_rounded_as_in_keras(way):
    result = attempt([case_of(f"{name}/{way}") for name in AVERAGED_OR_JOINED])
    assert result["status"] == "passed", result["why"]


def test_numbers_that_fold_into_a_kernel_are_known_to_its_check():
    result = attempt([case_of(f"{name}/gpu_int8 tensorrt") for name in MULTIPLIED])
    assert result["status"] == "passed", result["why"]


@pytest.mark.parametrize("name", PARTLY_IN_FLOAT)
@pytest.mark.parametrize("way", ["edge_int8 litert", "portable_int8 litert"])
def test_what_is_activated_in_float_convolves_in_integers(name, way):
    result = attempt([case_of(f"{name}/{way}")])
    assert result["status"] == "left in float", result["why"]


@pytest.mark.parametrize("way", ["edge_int8 litert", "portable_int8 litert"])
def test_arguments_that_have_a_form_in_integers_are_in_integers(way):
    result = attempt([case_of(f"{name}/{way}") for name in IN_LITERT])
    assert result["status"] == "passed", result["why"]


@pytest.mark.parametrize("name", IN_FLOAT)
def test_arguments_without_a_form_in_integers_leave_the_layer_in_float_with_a_warning(name):
    result = attempt([case_of(f"{name}/edge_int8 litert")])
    assert result["status"] == "left in float", result["why"]
    assert IN_FLOAT[name] in result["why"]


# tf_keras builds no separable convolution with the channels first on a CPU.
@pytest.mark.parametrize("name", ["DepthwiseConv2D", *(["SeparableConv2D"] if IS_KERAS_3 else [])])
def test_depthwise_convolutions_with_the_channels_first_are_refused_for_litert(name):
    result = attempt([case_of(f"{name}/channels first/relu/add/mean/portable_int8 litert")])
    assert result["status"] == "refused", result
    assert "Build the model with channels last" in result["why"]


def test_a_covering_array_holds_every_combination_that_a_valid_case_holds():
    factors = {name: [f"{name}{i}" for i in range(count)] for name, count in zip("abcde", (4, 3, 3, 2, 2), strict=True)}

    def valid(case):
        return (case["a"], case["b"]) != ("a0", "b1") and (case["c"] == "c0" or case["d"] != "d1")

    cases = covering_array(factors, valid)
    assert all(map(valid, cases))
    assert len(cases) < 72
    everything = (dict(zip(factors, values, strict=True)) for values in product(*factors.values()))
    wanted = {part for case in everything if valid(case) for part in combinations(case.items(), 3)}
    assert wanted == {part for case in cases for part in combinations(case.items(), 3)}
