"""The whole registry: every network runs, trains, is saved and says the truth about itself.

Networks of the same parts differ in how many and how wide they are, so the slow checks run once for each kind, on a
small network of the same parts (tests/support/shrinking.py); the names it stands for are in the test's id. What
depends on size is checked for every name at full size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.backbones import catalogue_tables as catalogue
from resnet_backbones.backbones.cost import outline
from resnet_backbones.backbones.info import distinct_architectures
from resnet_backbones.backbones.model import SpecBackbone
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from tests.support.families import check_configuration, check_features, levels_of, sketch, trained_numbers
from tests.support.nets import images
from tests.support.shrinking import shrunken

PAGE = Path(__file__).resolve().parents[2] / "docs" / "catalogue.md"
INFOS = catalogue.own_infos()


def kinds():
    """A small spec for each kind of network, and the names it stands for."""
    names = {}
    for info in INFOS:
        names.setdefault(shrunken(info.spec), []).append(info.name)
    return [pytest.param(spec, id="+".join([*of[:3], *["more"][: len(of[3:])]])) for spec, of in names.items()]


def check_training(backbone, batch):
    """Gradient steps on one batch of two classes lower the loss. By hand: a compiled step takes ten times as long."""
    head = keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    labels = np.arange(len(batch)) % 2
    losses = []
    for step in range(3):
        with tf.GradientTape() as tape:
            logits = head(backbone(batch, training=True))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        losses.append(float(loss))
        if step < 2:
            weights = [*backbone.trainable_weights, *head.trainable_weights]
            variables = [weight.value for weight in weights] if IS_KERAS_3 else weights
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                variable.assign_sub(0.005 * gradient)
    assert losses[-1] < losses[0], losses


@pytest.mark.parametrize("spec", kinds())
def test_every_kind_of_network_keeps_its_promises(spec, tmp_path):
    known = outline(spec, (224, 224, 1))
    gray = SpecBackbone(spec, (None, None, 1))
    assert levels_of(gray) == known.levels
    assert trained_numbers(gray) == known.parameters
    batch = images(4, 75, 61, 1)
    check_features(gray, batch)
    check_training(gray, batch)

    # Another four things at once: dilated stages, four channels, mixed precision, a file.
    dilated = SpecBackbone(spec.replace(output_stride=8), (64, 64, 4), dtype="mixed_bfloat16")
    strides = {level: (channels, min(stride, 8)) for level, (channels, stride) in known.levels.items()}
    assert levels_of(dilated) == strides
    assert {str(np.dtype(weight.dtype)) for weight in dilated.get_weights()} == {"float32"}
    batch = images(1, 64, 64, 4)
    last = check_features(dilated, batch)
    assert "bfloat16" in str(last.dtype)
    check_configuration(dilated)
    dilated.save(tmp_path / "dilated.keras")
    loaded = rb.load_model(tmp_path / "dilated.keras")
    assert loaded.get_config() == dilated.get_config()
    np.testing.assert_array_equal(np.asarray(loaded(batch), "float32"), np.asarray(last, "float32"))


# The first of each family and, with Keras 3, every fourth; `make test-targets` builds the others. tf_keras builds at a
# third of the speed and has no such scope.
FIRST = {members[0].name for members in catalogue.by_family(INFOS).values()}
FULL_SIZE = [
    pytest.param(name, marks=[] if name in FIRST or number % 4 == 0 else pytest.mark.exhaustive)
    for number, name in enumerate(info.name for info in INFOS)
    if IS_KERAS_3 or name in FIRST
]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_network_builds_at_full_size_as_its_spec_says(name):
    info = rb.backbone_info(name)
    backbone = sketch(name)
    assert levels_of(backbone) == info.levels
    assert trained_numbers(backbone) == info.parameters


def test_there_are_at_least_120_distinct_architectures():
    assert distinct_architectures(INFOS) >= 120


def test_names_and_aliases_are_unique_and_lower_case():
    names = [name for info in INFOS for name in (info.name, *info.aliases)]
    assert len(names) == len(set(names))
    assert [name for name in names if name != name.lower() or " " in name or "-" in name] == []


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_every_backbone_says_what_it_is(info):
    assert info.description
    assert "https://" in info.paper
    assert info.family != "custom"
    assert info.input_size >= 32
    assert 0 < info.parameters < 1e9
    assert info.gmacs > 0
    strides = [stride for _, stride in info.levels.values()]
    assert strides == sorted(strides)
    assert list(info.levels) == [f"P{number}" for number in range(1, len(info.levels) + 1)]


def test_the_page_in_docs_is_what_the_registry_says():
    assert PAGE.read_text(encoding="utf-8") == catalogue.markdown(), (
        "docs/catalogue.md is out of date: run `make catalogue`"
    )
