"""No JSON that the library writes holds NaN or infinity, which other languages' readers refuse."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from resnet_backbones._util.text import json_text
from resnet_backbones.cli.common import print_json
from resnet_backbones.runtime import Classification, Detections, Segmentation

WRONG = (math.nan, math.inf, -math.inf)


def strict(text):
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", WRONG)
def test_what_is_not_finite_becomes_null_at_any_depth(value, capsys):
    data = {"a": value, "b": [1.5, value, {"c": (value, "NaN", None, True, 3)}], "d": np.float64(value)}
    expected = {"a": None, "b": [1.5, None, {"c": [None, "NaN", None, True, 3]}], "d": None}
    assert strict(json_text(data)) == expected
    print_json(data)
    assert strict(capsys.readouterr().out) == expected


@pytest.mark.parametrize("value", WRONG)
def test_results_with_values_that_are_not_finite(value):
    many = np.full(3, value, np.float32)
    boxes = Detections(np.full((3, 4), value, np.float32), np.arange(3), many, None, "xywh")
    for result in (boxes, Classification(np.arange(3), many), Segmentation(np.zeros((3, 3), int), many[None] * many)):
        strict(json_text(result.to_dict()))


def test_numbers_are_written_as_ever():
    data = {"text": "ä\n", "numbers": [0.1, 1e-300, 2**70], "empty": {}}
    assert json_text(data, indent=2) == json.dumps(data, indent=2)
