"""Under ``tf.distribute`` all replicas have one range, from the extremes over all of them. Real digits, two replicas.

Logical devices must be made before TensorFlow runs, so the training happens in a process of its own: this file, run as
a program, which prints what it found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BATCH, EPOCHS = 32, 2


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the program below found."""
    path = tmp_path_factory.mktemp("distribute") / "found.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")])}
    run = subprocess.run([sys.executable, __file__, str(path)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(path.read_text())


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_every_replica_has_the_same_ranges(found, where):
    for values in found[f"{where}_copies"]:
        assert len(values) == 2
        assert values[0] == values[1]


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_ranges_and_weights_are_those_of_one_device_at_the_same_global_batch(found, where):
    np.testing.assert_allclose(found[f"{where}_ranges"], found["single_ranges"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[f"{where}_weights"], found["single_weights"], rtol=1e-3, atol=1e-4)


def test_the_training_compared_moved_its_ranges(found):
    moved = np.abs(np.array(found["single_ranges"]) - np.array(found["ranges_after_one_step"])).max(axis=1)
    assert np.sum(moved > 1e-3) >= 4


def test_a_range_is_of_the_replica_that_saw_most_not_of_their_mean(found):
    assert found["uneven_range"] == [-20.0, 100.0]  # one replica saw -20..10, the other -2..100


def test_what_is_not_finite_on_one_replica_leaves_the_range_alone_on_both(found):
    assert found["range_after_infinity"] == [[-20.0, -20.0], [100.0, 100.0]]


def test_calibration_and_frozen_ranges_reach_every_replica(found):
    assert found["calibrated_ranges"] == found["ranges_after_frozen_epoch"]
    assert found["calibrated_ranges"] != found["outside_ranges"]


def test_batch_norm_trains_and_freezes_beside_ranges(found):
    for values in found["batch_norm_copies"]:
        assert values[0] == values[1]
    assert np.isfinite(found["batch_norm_loss"]).all()
    assert found["batch_norm_loss"][-1] < found["batch_norm_loss"][0]


def main(path: str) -> None:
    """Trains the same small network on one device and on two, and writes what became of its ranges."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    from digits import plain_digits

    from resnet_backbones.keras_compat import keras
    from resnet_backbones.quantization.api import quantize_aware
    from resnet_backbones.quantization.calibration import calibrate
    from resnet_backbones.quantization.hooks import quantizers_of
    from resnet_backbones.quantization.quantizers import ActivationQuantizer
    from resnet_backbones.quantization.schedule import QuantizationSchedule
    from resnet_backbones.schemes import Scheme

    images, classes = (part[: 6 * BATCH] for part in plain_digits("train", 16))
    scheme = Scheme("quick", ema_decay=0.5)  # so that every step's batch counts
    layers = keras.layers
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}

    def network(batch_norm=False):
        """A residual network with a shared dense layer; without batch norm, replicas compute what one device does."""
        keras.utils.set_random_seed(0)
        image = layers.Input((16, 16, 1))
        x = layers.Conv2D(8, 3, padding="same")(image)
        x = layers.BatchNormalization()(x) if batch_norm else x
        x = layers.ReLU()(x)
        x = layers.ReLU()(layers.Add()([x, layers.Conv2D(8, 3, padding="same")(x)]))
        shared = layers.Dense(8, activation="relu")
        x = shared(shared(layers.GlobalAveragePooling2D()(x)))
        return keras.Model(image, layers.Dense(10, activation="softmax")(x))

    def fit(model, epochs=EPOCHS, callbacks=()):
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        return model.fit(
            images, classes, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
        )

    def ranges(model):
        return [quantizer.range() for quantizer in quantizers_of(model)]

    def copies(quantizers):
        variables = [v for q in quantizers for v in (q.range_min, q.range_max, q.batches_seen, q.observing)]
        return [[float(copy.numpy()) for copy in variable.values] for variable in variables]

    def weights(model):
        return np.concatenate([weight.ravel() for weight in model.get_weights()]).tolist()

    single = quantize_aware(network(), scheme)
    single.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    single.train_on_batch(images[:BATCH], classes[:BATCH])
    found["ranges_after_one_step"] = ranges(single)
    single = quantize_aware(network(), scheme)
    fit(single)
    found["single_ranges"], found["single_weights"] = ranges(single), weights(single)

    for where in ("inside", "outside"):  # quantized within the strategy's scope, or after it
        with strategy.scope():
            model = network()
            if where == "inside":
                quantize_aware(model, scheme)
        quantize_aware(model, scheme)
        with strategy.scope():
            fit(model)
        found[f"{where}_ranges"], found[f"{where}_weights"] = ranges(model), weights(model)
        found[f"{where}_copies"] = copies(quantizers_of(model))

    calibrate(model, images[:BATCH])
    found["calibrated_ranges"] = ranges(model)
    with strategy.scope():
        fit(model, 1, [QuantizationSchedule(freeze_batch_norm_epoch=None, freeze_ranges_epoch=0)])
    found["ranges_after_frozen_epoch"] = ranges(model)

    with strategy.scope():
        model = quantize_aware(network(batch_norm=True), scheme)
        history = fit(model, 4, [QuantizationSchedule(freeze_batch_norm_epoch=2, freeze_ranges_epoch=3)])
    found["batch_norm_copies"] = copies(quantizers_of(model))
    found["batch_norm_loss"] = history.history["loss"]

    with strategy.scope():
        quantizer = ActivationQuantizer()
        quantizer.build()
    step = tf.function(lambda values: strategy.run(lambda x: quantizer(x, training=True), args=(values,)))

    def uneven(first, second):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant((first, second)[context.replica_id_in_sync_group])
        )

    step(uneven([-20.0, 10.0], [-2.0, 100.0]))
    found["uneven_range"] = quantizer.range()
    step(uneven([float("inf"), 10.0], [-2.0, 500.0]))
    found["range_after_infinity"] = copies([quantizer])[:2]
    Path(path).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
