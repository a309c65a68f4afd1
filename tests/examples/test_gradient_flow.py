"""The comparison of plain and residual nets: the same nets but for the shortcuts, and results kept as they come."""

from __future__ import annotations

import dataclasses
import json

import gradient_flow as flow
import numpy as np
import pytest

from resnet_backbones.keras_compat import keras

TINY = dataclasses.replace(flow.QUICK, depths=(8,), steps=2)


@pytest.mark.parametrize("depth", [8, 20])
def test_a_plain_net_is_the_residual_net_without_shortcuts(depth):
    plain, residual = (flow.build(kind, depth, "elu", 12) for kind in flow.KINDS)
    assert [weight.shape for weight in plain.weights] == [weight.shape for weight in residual.weights]
    assert len(flow.kernels_in_order(plain)) == len(flow.kernels_in_order(residual)) == depth
    adds = [sum(isinstance(layer, keras.layers.Add) for layer in net.layers) for net in (plain, residual)]
    assert adds == [0, (depth - 2) // 2]


def test_norms_are_those_of_each_kernel_in_order():
    model = flow.build("plain", 8, "relu", 12)
    step = flow.train_step(model, keras.optimizers.SGD(0.0))
    random = np.random.default_rng(0)
    images, classes = random.normal(size=(8, 12, 12, 1)).astype("float32"), np.arange(8)
    _, norms = step(images, classes)
    before = [kernel.numpy() for kernel in flow.kernels_in_order(model)]
    flow.train_step(model, keras.optimizers.SGD(1.0))(images, classes)
    moved = [np.linalg.norm(k.numpy() - b) for k, b in zip(flow.kernels_in_order(model), before, strict=True)]
    np.testing.assert_allclose(norms, moved, rtol=1e-3)


def test_losses_are_smoothed_over_the_steps_before():
    np.testing.assert_allclose(flow.smoothed([4.0, 2.0, 0.0, 4.0], window=2), [4, 3, 1, 2])


def test_a_second_run_trains_nothing_again(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "QUICK", TINY)
    assert flow.main(["--quick", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "residual8_relu.json").read_text())
    assert len(record["losses"]) == TINY.steps
    assert len(record["norms_before"]) == len(record["norms_after"]) == 8
    assert (tmp_path / "gradient_flow.png").stat().st_size > 10_000
    monkeypatch.setattr(flow, "train", None)
    assert flow.main(["--quick", "--out", str(tmp_path)]) == 0
