"""Schemes are data with names."""

from __future__ import annotations

import pytest

from resnet_backbones.quantization import Scheme, get_scheme, register_scheme


def test_edge_int8_is_litert_s_form():
    scheme = get_scheme("edge_int8")
    assert (scheme.kernel_bits, scheme.activation_bits, scheme.symmetric_activations) == (8, 8, False)


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(KeyError, match="edge_int8"):
        get_scheme("edge_int")


def test_a_scheme_can_be_registered_once():
    scheme = register_scheme(Scheme("test_w4", kernel_bits=4), overwrite=True)
    assert get_scheme("test_w4") is scheme
    with pytest.raises(ValueError, match="already registered"):
        register_scheme(Scheme("test_w4"))


@pytest.mark.parametrize(
    "field", [{"kernel_bits": 16}, {"activation_bits": 1}, {"ema_decay": 1.0}, {"target": "abacus"}]
)
def test_impossible_values_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Scheme("bad", **field)
