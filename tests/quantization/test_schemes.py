"""Schemes are data with names."""

from __future__ import annotations

import pytest

from resnet_backbones.quantization import Scheme, get_scheme, register_scheme


def test_edge_int8_is_litert_s_form():
    scheme = get_scheme("edge_int8")
    assert (scheme.kernel_bits, scheme.activation_bits, scheme.symmetric_activations) == (8, 8, False)


def test_what_the_other_schemes_are():
    wide, gpu, portable = map(get_scheme, ("edge_int16x8", "gpu_int8", "portable_int8"))
    assert (wide.target, wide.kernel_bits, wide.activation_bits, wide.symmetric_activations) == ("litert", 8, 16, True)
    assert (gpu.target, gpu.symmetric_activations, gpu.float_outputs) == ("tensorrt", True, True)
    assert (portable.target, portable.symmetric_activations, portable.float_outputs) == ("portable", True, False)


def test_a_scheme_with_a_change_is_another_scheme():
    scheme = get_scheme("gpu_int8")
    changed = scheme.replace(float_outputs=False)
    assert scheme.float_outputs
    assert not changed.float_outputs
    assert Scheme(**changed.to_dict()) == changed


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(KeyError, match="edge_int8"):
        get_scheme("edge_int")


def test_a_scheme_can_be_registered_once():
    scheme = register_scheme(Scheme("test_w4", kernel_bits=4), overwrite=True)
    assert get_scheme("test_w4") is scheme
    with pytest.raises(ValueError, match="already registered"):
        register_scheme(Scheme("test_w4"))


@pytest.mark.parametrize(
    "field",
    [
        {"kernel_bits": 16},
        {"activation_bits": 1},
        {"ema_decay": 1.0},
        {"target": "abacus"},
        {"symmetric_activations": False, "target": "tensorrt"},
    ],
)
def test_impossible_values_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Scheme("bad", **field)
