"""A detector, float and quantized, saved after training, loads in a process that knows nothing else."""

from __future__ import annotations

import copy
import pickle
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.quantization import hooks_of, quantization_of, quantize_aware, quantizers_of
from tests.quantization.saving_cases import CASES, IMAGES, facts, quantized, sequential, subclassed
from tests.support.nets import SPEC, assert_same, retinanet
from tests.support.nets import classifier as build_classifier
from tests.support.processes import run_python

FRESH_PROCESS = """
    import sys
    import numpy as np
    import resnet_backbones as rb

    folder, quantized = sys.argv[1], sys.argv[2] == "quantized"
    model = rb.load_model(f"{folder}/detector.keras")
    data = np.load(f"{folder}/data.npz")
    outputs = model(data["images"], training=False)
    for name in ("box", "classification"):
        np.testing.assert_array_equal(np.asarray(outputs[name]), data[name])
    # It can go on training.
    keyword = {"jit_compile": False} if "keras" in sys.modules else {}
    model.compile(box_loss="smoothl1", classification_loss="focal", optimizer="sgd", **keyword)
    callbacks = [rb.QuantizationSchedule(0, 0)] if quantized else []
    labels = {"boxes": data["boxes"], "classes": data["classes"]}
    losses = model.fit(data["images"], labels, batch_size=2, epochs=1, verbose=0, callbacks=callbacks).history["loss"]
    assert np.isfinite(losses).all()
    after = model(data["images"], training=False)
    assert np.any(np.asarray(after["box"]) != data["box"])
    print("loaded, equal, trained")
"""


WEIGHTS_IN_A_FRESH_PROCESS = """
    import pickle
    import sys
    import numpy as np

    folder = sys.argv[1]
    with open(f"{folder}/classifier.pkl", "rb") as file:  # nothing of ours is imported yet
        unpickled = pickle.load(file)
    from tests.quantization.saving_cases import CASES, facts
    from tests.support.nets import assert_same
    from resnet_backbones.quantization import quantize_aware

    assert_same(facts(unpickled), np.load(f"{folder}/classifier.npz"))
    for name, build in CASES.items():
        model = quantize_aware(build())
        model.load_weights(f"{folder}/{name}.weights.h5")
        assert_same(facts(model), np.load(f"{folder}/{name}.npz"))
    print("all equal")
"""


@pytest.fixture(scope="module")
def labels():
    boxes = np.array([[[8, 8, 24, 24]], [[30, 20, 16, 32]]], "float32")
    return {"boxes": boxes, "classes": np.array([[1], [2]], "float32")}


def compile_and_fit(detector, images, labels, **arguments):
    keyword = {"jit_compile": False} if IS_KERAS_3 else {}
    detector.compile(box_loss="smoothl1", classification_loss="focal", optimizer="sgd", **keyword)
    detector.fit(images, labels, batch_size=2, epochs=1, verbose=0, **arguments)


@pytest.mark.parametrize("kind", ["float", "quantized"])
def test_a_trained_detector_loads_in_a_fresh_process_and_trains_on(kind, images, labels, tmp_path):
    images = images[:2]
    detector = retinanet()
    if kind == "quantized":
        rb.quantize_aware(detector, calibration_data=images)
    compile_and_fit(detector, images, labels)
    detector.save(tmp_path / "detector.keras")
    outputs = {name: np.asarray(value) for name, value in detector(images, training=False).items()}
    np.savez(tmp_path / "data.npz", images=images, **labels, **outputs)
    assert "loaded, equal, trained" in run_python(FRESH_PROCESS, tmp_path, kind)


def test_a_quantized_classifier_keeps_its_frozen_switches(classifier, images, tmp_path):
    rb.quantize_aware(classifier, calibration_data=images)
    schedule = rb.QuantizationSchedule(0, 0)
    classifier.fit(images, np.zeros(4), verbose=0, callbacks=[schedule])
    classifier.save(tmp_path / "classifier.keras")
    loaded = rb.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(images).numpy(), classifier(images).numpy())
    quantizers = rb.quantization.quantizers_of(loaded)
    assert {float(q.observing.numpy()) for q in quantizers} == {0.0}


def test_a_quantized_backbone_inside_a_float_task_is_saved_with_its_ranges(images, tmp_path):
    backbone = rb.create_backbone(SPEC, input_shape=(64, 64, 3), quantization="edge_int8")
    rb.calibrate(backbone, images)
    model = rb.adapters.keras_cv.image_classifier(backbone, num_classes=3)
    expected = np.asarray(model(images, training=False))
    model.save(tmp_path / "model.keras")
    loaded = rb.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(images, training=False)), expected)


def test_weights_alone_load_into_models_quantized_alike_in_a_fresh_process(tmp_path):
    for name, build in CASES.items():
        model = quantized(build)
        model.save_weights(tmp_path / f"{name}.weights.h5")
        np.savez(tmp_path / f"{name}.npz", **facts(model))
        if name == "classifier":
            (tmp_path / "classifier.pkl").write_bytes(pickle.dumps(model))
    assert "all equal" in run_python(WEIGHTS_IN_A_FRESH_PROCESS, tmp_path)


def test_weights_alone_put_back_every_weight_and_range(classifier, images, tmp_path):
    rb.quantize_aware(classifier, calibration_data=images)
    classifier.save_weights(tmp_path / "it.weights.h5")
    expected = facts(classifier)
    for weight in classifier.weights:
        weight.assign(np.full(weight.shape, 0.5, "float32"))
    classifier.load_weights(tmp_path / "it.weights.h5")
    assert_same(facts(classifier), expected)


@pytest.mark.parametrize("build", [subclassed, sequential, build_classifier])
def test_a_float_model_refuses_quantized_weights(build, tmp_path):
    quantized(build).save_weights(tmp_path / "it.weights.h5")
    with pytest.raises(ValueError, match="expected 0 variables, but received 1"):
        build().load_weights(tmp_path / "it.weights.h5")


@pytest.mark.parametrize("build", [subclassed, sequential])
def test_a_quantized_model_refuses_float_weights(build, tmp_path):
    build().save_weights(tmp_path / "it.weights.h5")
    model = quantized(build)
    with pytest.raises(ValueError, match="weights of a float model, without ranges"):
        model.load_weights(tmp_path / "it.weights.h5")


@pytest.mark.parametrize(
    ("arguments", "difference"),
    [
        ({"scheme": "edge_int16x8"}, "other places or bits"),
        ({"exclude": ["second"]}, "5 activation ranges in the file, 3 in the model"),
        ({"override": {"second": {"kernel_bits": 4}}}, "as many calls with quantized kernels"),
    ],
)
def test_a_model_quantized_otherwise_refuses_the_weights(arguments, difference, tmp_path):
    quantized(subclassed).save_weights(tmp_path / "it.weights.h5")
    model = quantize_aware(subclassed(), **arguments)
    with pytest.raises(ValueError, match=difference):
        model.load_weights(tmp_path / "it.weights.h5")


def test_a_subclassed_model_is_saved_whole(tmp_path):
    model = quantized(subclassed)
    model.save(tmp_path / "it.keras")
    assert_same(facts(rb.load_model(tmp_path / "it.keras")), facts(model))


@pytest.mark.parametrize("build", [build_classifier, sequential, subclassed])
def test_deep_copies_and_pickles_are_quantized_and_equal(build):
    model = quantized(build)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same(facts(copied), facts(model))
        assert not {id(w) for w in copied.weights} & {id(w) for w in model.weights}


@pytest.mark.parametrize("build", [build_classifier, sequential, subclassed])
def test_clone_model_gives_a_quantized_model_or_says_why_not(build):
    """Keras builds a functional model (Keras 3) or a sequential one anew out of its layers, past the model's class."""
    model = quantized(build)
    if build is sequential or (IS_KERAS_3 and build is build_classifier):
        with pytest.raises(NotImplementedError, match=r"silently be a float one.*copy\.deepcopy"):
            keras.models.clone_model(model)
        return
    clone = keras.models.clone_model(model)
    assert quantization_of(clone) == quantization_of(model)
    assert len(hooks_of(clone)) == len(hooks_of(model))
    assert len(quantizers_of(clone)) == len(quantizers_of(model))
    clone.set_weights(model.get_weights())
    assert_same(facts(clone), facts(model))


def test_a_float_model_holding_a_quantized_one_can_be_cloned():
    inner = quantized(build_classifier)
    image = keras.layers.Input((64, 64, 3))
    clone = keras.models.clone_model(keras.Model(image, inner(image)))
    assert len(quantizers_of(clone)) == len(quantizers_of(inner))


def test_a_float_model_made_of_quantized_layers_is_not_saved_without_their_ranges(tmp_path):
    inner = quantized(build_classifier)
    model = keras.Model(inner.input, keras.layers.Dense(2, name="more")(inner.output))
    with pytest.raises(NotImplementedError, match=r"completed by quantize_aware\(model\)"):
        model.save(tmp_path / "it.keras")
    quantize_aware(model, calibration_data=IMAGES)
    model.save(tmp_path / "it.keras")
    assert_same(facts(rb.load_model(tmp_path / "it.keras")), facts(model))


def test_checkpoints_and_saved_models_of_tensorflow_hold_the_ranges(tmp_path):
    model = quantized(subclassed)
    expected = facts(model)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    fresh = quantize_aware(subclassed())
    tf.train.Checkpoint(model=fresh).restore(path).assert_consumed()
    assert_same(facts(fresh), expected)
    model.export(tmp_path / "exported")
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(IMAGES), expected["output 0"], atol=1e-6)


def test_a_deep_copied_layer_calls_its_own_hook_or_is_refused():
    layer = quantized(sequential).get_layer("convolution")
    if IS_KERAS_3:  # it makes the copy from the layer's configuration
        with pytest.raises(NotImplementedError, match="silently be a float one"):
            copy.deepcopy(layer)
        return
    copied = copy.deepcopy(layer)
    before = np.asarray(layer(IMAGES))
    copied.kernel.assign(2.0 * copied.kernel)
    assert np.any(np.asarray(copied(IMAGES)) != before)
    np.testing.assert_array_equal(np.asarray(layer(IMAGES)), before)


def test_a_truncated_file_is_a_clear_error(classifier, tmp_path):
    path = tmp_path / "whole.keras"
    classifier.save(path)
    cut = tmp_path / "cut.keras"
    cut.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="not a whole .keras file"):
        rb.load_model(cut)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("something.txt", "else")
    with pytest.raises(ValueError, match="not a whole .keras file"):
        rb.load_model(tmp_path / "other.keras")


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.keras"):
        rb.load_model(tmp_path / "nowhere.keras")


def test_the_running_keras_is_the_one_asked_for():
    assert keras.__version__.startswith("3.") == IS_KERAS_3
