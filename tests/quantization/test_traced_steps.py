"""``predict``, ``evaluate`` and ``fit`` follow the mode and the view that hold, whatever was traced before."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context

layers = keras.layers
IMAGES = np.random.default_rng(0).normal(0, 1, (8, 8, 8, 3)).astype("float32")
LABELS = IMAGES[:, 0, 0, :2]


def quantized():
    keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3))
    x = layers.Activation("tanh")(layers.Conv2D(4, 3)(image))
    x = layers.Add()([layers.Conv2D(4, 3, padding="same")(x), x])
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    return rb.quantize_post_training(model, "portable_int8", calibration_data=IMAGES)


def itself(model):
    return model


def called_by_a_float_model(model):
    image = layers.Input((8, 8, 3))
    return keras.Model(image, layers.Rescaling(2.0)(model(image)))


def continued_by_a_float_model(model):
    return keras.Model(model.input, layers.Rescaling(2.0)(model.output))


@pytest.fixture(params=[itself, called_by_a_float_model, continued_by_a_float_model], ids=lambda made: made.__name__)
def model(request):
    built = request.param(quantized())
    built.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    return built


SWITCHES = {
    "as trained": lambda: context.use_view("litert"),
    "tensorrt": lambda: context.use_view("tensorrt"),
    "float": lambda: context.use_mode(context.FLOAT),
}


def test_predict_and_evaluate_follow_the_view(model):
    seen = []
    for name in (*SWITCHES, "as trained"):
        with SWITCHES[name]():
            expected = np.asarray(model(IMAGES, training=False))
            seen.append(model.predict(IMAGES, verbose=0))
            np.testing.assert_allclose(seen[-1], expected, atol=1e-5, err_msg=name)
            loss = model.evaluate(IMAGES, LABELS, verbose=0)
            assert loss == pytest.approx(np.mean((expected - LABELS) ** 2), rel=1e-4), name
    assert min(np.abs(a - b).max() for a, b in [(seen[0], seen[1]), (seen[1], seen[2]), (seen[0], seen[2])]) > 1e-3


def test_fit_follows_the_view(model):
    for quantizer in rb.quantization.quantizers_of(model):
        quantizer.observing.assign(0.0)
    losses = []
    for name in ("as trained", "tensorrt", "as trained"):
        with SWITCHES[name]():
            losses.append(model.fit(IMAGES, LABELS, batch_size=8, verbose=0).history["loss"][0])
    assert losses[0] == pytest.approx(losses[2])
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


def test_a_callback_may_switch_and_training_goes_on_with_the_function_it_had(model):
    functions = []

    class Evaluates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            functions.append(self.model.train_function)
            with context.use_view("tensorrt"):
                self.model.evaluate(IMAGES, LABELS, verbose=0)
            functions.append(self.model.train_function)

    model.fit(IMAGES, LABELS, epochs=2, verbose=0, callbacks=[Evaluates()])
    assert len(set(map(id, functions))) == 1


def test_quantizing_and_exporting_leave_traced_steps_alone(tmp_path):
    model = quantized()
    before = model.predict(IMAGES, verbose=0)
    traced = model.predict_function
    quantized()
    rb.export_model(model, tmp_path / "it.onnx", target="tensorrt", parity_data=IMAGES)
    assert model.predict_function is traced
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), before)
