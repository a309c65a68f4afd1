"""A rotating sample of the catalogue in int8; `python -m tests.export.int8_catalogue` does all of it."""

from __future__ import annotations

import os

import pytest

import resnet_backbones as rb
from tests.export.int8_catalogue import MUST_BE_INT8, int8_facts, quantizable_names, tensorrt_facts

# Which part of how many, as "3/60": CI counts its commits, so that another part is done each time.
part, parts = map(int, os.environ.get("INT8_PART", "1/60").split("/"))


@pytest.mark.parametrize("name", quantizable_names()[part - 1 :: parts])
def test_a_network_of_the_catalogue_has_nothing_in_float(name):
    facts = int8_facts(name)
    assert facts["not_int8"] == facts["kernels_missing"] == facts["kernels_different"] == []
    assert sum(count for operator, count in facts["operators"].items() if operator.split()[0] in MUST_BE_INT8) > 10
    assert facts["mega_macs"] > 1


@pytest.mark.parametrize("name", quantizable_names()[part - 1 :: parts][:2])
def test_a_network_of_the_catalogue_keeps_tensorrt_s_rules(name):
    facts = tensorrt_facts(name)
    assert facts["errors"] == facts["kernels_missing"] == facts["kernels_different"] == []
    assert facts["int8_share"] == 1.0
    assert facts["cosine"] > 0.99


def test_every_name_but_those_with_elu_or_selu_is_in_the_list():
    every = set(rb.list_backbones())
    assert {name for name in every if rb.backbone_info(name).float_activations} == every - set(quantizable_names())
    assert len(quantizable_names()) >= 120
