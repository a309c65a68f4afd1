"""SavedModels, served by TensorFlow alone, and Keras files, loaded by this library."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import even_images, retinanet


@pytest.fixture(scope="module")
def images():
    return even_images(0, 255, 4, 64, 64, 3)


@pytest.fixture(scope="module")
def detector():
    keras.utils.set_random_seed(0)
    return retinanet(preprocessing="minus_one_to_one")


@pytest.fixture(scope="module")
def saved(detector, images, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "detector"
    return rb.export_model(detector, path, parity_data=images, class_names=["a", "b", "c"])


SERVE = """
import sys
import numpy as np
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
outputs = serve(images=tf.constant(np.load(sys.argv[2])))
np.savez(sys.argv[3], **{name: value.numpy() for name, value in outputs.items()})
assert "resnet_backbones" not in sys.modules
"""


def test_a_folder_is_a_savedmodel_that_serves_without_this_library(saved, detector, images, tmp_path):
    assert (saved.format, saved.precision, saved.passed) == ("savedmodel", "float32", True)
    assert [entry.name for entry in saved.parity] == ["box", "classification"]
    np.save(tmp_path / "images.npy", images[:3])
    command = [sys.executable, "-c", SERVE, str(saved.path), str(tmp_path / "images.npy"), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    found = np.load(tmp_path / "out.npz")
    for name, expected in detector(images[:3], training=False).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-4)


def test_it_says_what_its_outputs_mean(saved):
    facts = json.loads((saved.path / "assets.extra" / "resnet_backbones.json").read_text())
    assert facts["task"]["name"] == "retinanet"
    assert facts["class_names"] == ["a", "b", "c"]
    assert (facts["input"]["scale"], facts["input"]["offset"]) == (1.0, 0.0), "it rescales itself"
    assert saved.size_bytes == sum(file.stat().st_size for file in saved.path.rglob("*") if file.is_file())
    assert "FAILED" not in str(saved)


def test_bfloat16_halves_it_and_computes_in_bfloat16_between_float32_ends(detector, saved, images, tmp_path):
    report = rb.export_model(detector, tmp_path / "half", precision="bfloat16", parity_data=images)
    assert report.size_bytes < 0.55 * saved.size_bytes
    assert report.passed, report.failures
    serve = tf.saved_model.load(str(report.path)).signatures["serving_default"]
    assert serve.structured_input_signature[1]["images"].dtype == tf.float32
    assert {spec.dtype for spec in serve.structured_outputs.values()} == {tf.float32}
    graph = serve.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert {node.attr["T"].type for node in nodes if node.op == "Conv2D"} == {tf.bfloat16.as_datatype_enum}
    weights = [node.attr["value"].tensor for node in nodes if node.op == "Const"]
    large = [tensor for tensor in weights if np.prod([size.size for size in tensor.tensor_shape.dim]) > 1000]
    assert {tensor.dtype for tensor in large} == {tf.bfloat16.as_datatype_enum}


def test_a_keras_file_holds_the_model_as_it_is_quantized_or_not(images, tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.layers.Input((64, 64, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(image)
    model = keras.Model(image, keras.layers.Conv2D(4, 1)(x))
    report = rb.export_model(model, tmp_path / "float.keras", parity_data=images)
    assert (report.precision, report.parity[0].max_steps) == ("unchanged", 0.0)
    rb.quantize_post_training(model, calibration_data=images)
    report = rb.export_model(model, tmp_path / "quantized.keras", parity_data=images)
    assert report.parity[0].max_steps == 0.0
    again = rb.load_model(report.path)
    np.testing.assert_array_equal(np.asarray(again(images)), np.asarray(model(images)))
    with pytest.raises(ValueError, match="which has unchanged"):
        rb.export_model(model, tmp_path / "m.keras", precision="int8")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("activation", ["silu", "gelu", "elu"])
def test_activations_with_a_gradient_of_their_own_are_saved(activation, precision, tmp_path):
    image = keras.layers.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation=rb.keras_compat.activation_function(activation))(image)
    model = keras.Model(image, keras.layers.Activation(rb.keras_compat.activation_function(activation))(x))
    images = np.random.default_rng(0).normal(0, 1, (2, 8, 8, 3)).astype("float32")
    report = rb.export_model(model, tmp_path / "saved", precision=precision, parity_data=images)
    assert report.verdict == "PASSED"
