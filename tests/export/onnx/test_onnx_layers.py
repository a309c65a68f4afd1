"""Where error enters an ONNX file: every convolution is measured, and one broken kernel is found."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import resnet_backbones as rb
from resnet_backbones.export import formats
from resnet_backbones.export.onnx import emitter
from resnet_backbones.export.onnx.tensors import intermediates
from resnet_backbones.export.report import verify
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import keras
from tests.support.nets import images, randomise

layers = keras.layers
WEIGHTED = ["stem", "middle", "second", "shortcut", "wide", "apart", "point", "last"]
# Scheme, the file, and the least SQNR of a layer in dB: rounding of float32, of float16, and of 8 bits.
CASES = {
    "float32": (None, ExportRequest("onnx", "float32", target="tensorrt", layout="NCHW"), 110),
    "float16": (None, ExportRequest("onnx", "float16", target="tensorrt", layout="NHWC", batch=None), 55),
    "portable_tensorrt": ("portable_int8", ExportRequest("onnx", "int8", target="tensorrt", layout="NCHW"), 35),
    "portable_runtime": ("portable_int8", ExportRequest("onnx", "int8", target="onnxruntime", batch=None), 35),
    "edge_runtime": ("edge_int8", ExportRequest("onnx", "int8", target="onnxruntime", layout="NCHW"), 35),
    "gpu": ("gpu_int8", ExportRequest("onnx", "int8", target="tensorrt", layout="NHWC"), 35),
}


def residual_net():
    """Two residual blocks. Some images are as wide and high as they have channels: shapes do not tell their layout."""
    image = layers.Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", name="stem")(image)))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", name="middle")(x)))
    y = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False, name="second")(y))
    x = layers.ReLU(name="end")(layers.Add(name="sum")([x, y]))
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="silu", name="wide")(x)
    y = layers.Conv2D(8, 1, name="point")(layers.DepthwiseConv2D(3, padding="same", name="apart")(y))
    x = layers.ReLU(6.0)(layers.Add()([layers.Conv2D(8, 1, strides=2, name="shortcut")(x), y]))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.MaxPooling2D(2)(x))
    model = randomise(keras.Model(image, layers.Dense(5, activation="softmax", name="last")(x), name="net"))
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None and layer.name != "apart":  # zeros are left out of the file
            layer.bias.assign(np.linspace(-0.2, 0.2, layer.bias.shape[0]))
    return model


@pytest.fixture(scope="module")
def batch():
    return images(4, 16, 16, 3)


@pytest.fixture(scope="module", params=CASES)
def case(request, batch):
    scheme, export, least = CASES[request.param]
    keras.utils.set_random_seed(0)
    model = residual_net()
    if scheme is not None:
        rb.quantize_post_training(model, scheme, calibration_data=batch)
    return SimpleNamespace(model=model, request=export, least=least, emitted=emitter.emit(model, export))


def measured(case, batch, path, data=None):
    emitted = case.emitted if data is None else dataclasses.replace(case.emitted, data=data)
    emitter.write(emitted, {"task": {"name": "tensors"}, **emitted.metadata, "class_names": None}, path)
    return verify.Verification(case.model, formats.FORMATS["onnx"], case.request, emitted, path).layers([batch])


def test_every_layer_with_a_kernel_is_measured_and_close(case, batch, tmp_path):
    found = measured(case, batch, tmp_path / "net.onnx")
    named = [entry.layer.removeprefix("net/") for entry in found]
    assert sorted(name for name in named if name in WEIGHTED) == sorted(WEIGHTED)
    assert len(set(named)) == len(named)
    assert {"sum", "end", "pool"} <= set(named)
    assert named.index("stem") < named.index("middle") < named.index("sum") < named.index("wide") < named.index("last")
    assert min(entry.sqnr for entry in found) > case.least, found
    assert min(entry.cosine for entry in found) > 0.999


@pytest.mark.parametrize("broken", ["middle", "apart"])
def test_the_layer_where_error_enters_is_found(case, broken, batch, tmp_path):
    """One kernel of the file is broken: its layer adds most error, and those behind it carry it on."""
    good = {entry.layer: entry for entry in measured(case, batch, tmp_path / "good.onnx")}
    found = measured(case, batch, tmp_path / "broken.onnx", with_a_broken_kernel(case.emitted, broken))
    worst = min(found, key=lambda entry: entry.added)
    assert worst.layer == f"net/{broken}"
    assert worst.sqnr < 10
    assert worst.added == pytest.approx(worst.sqnr, abs=0.2)
    place = found.index(worst)
    assert all(entry == good[entry.layer] for entry in found[:place]), "before it nothing changes"
    (last,) = [entry for entry in found if entry.layer == "net/last"]
    assert last.sqnr < good["net/last"].sqnr - 10


def with_a_broken_kernel(emitted, name):
    """The file with the values of one kernel in reverse order."""
    model = onnx.load_from_string(emitted.data)
    made_by = {output: node for node in model.graph.node for output in node.output}
    kernels = []
    for node in model.graph.node:
        found = emitted.sources.weighted(node.output[0]) if node.op_type == "Conv" else None
        if found is not None and found[0].layer.name == name:
            kernels.append(made_by[node.input[1]].input[0] if node.input[1] in made_by else node.input[1])
    (kernel,) = kernels
    (stored,) = [entry for entry in model.graph.initializer if entry.name == kernel]
    values = numpy_helper.to_array(stored)
    stored.CopyFrom(numpy_helper.from_array(values.reshape(-1)[::-1].reshape(values.shape).copy(), kernel))
    return model.SerializeToString()


def test_rounded_tensors_lie_on_the_steps_they_come_with(case, batch, tmp_path):
    measured(case, batch, tmp_path / "net.onnx")
    taps = case.emitted.sources.exact_taps(case.emitted.tensors)
    found = intermediates(tmp_path / "net.onnx", taps)(batch)
    shapes = dict(case.emitted.tensors)
    for name, (values, step) in found.items():
        assert values.dtype == np.float32
        assert values.shape == (len(batch), *shapes[name][1:])
        if step is not None:
            np.testing.assert_allclose(values / step, np.round(values / step), atol=1e-3)
            assert np.ptp(np.round(values / step)) <= 255
    rounded = [name for name, (_, step) in found.items() if step is not None]
    assert bool(rounded) == ("FakeQuant" in " ".join(taps))


@pytest.mark.parametrize("scheme", ["gpu_int8", "portable_int8"])
def test_a_relu6_that_its_range_clips_is_not_taken_for_one(scheme, tmp_path):
    """ONNX Runtime's form leaves the clipping to the rounding behind it."""
    batch = 10 * images(4, 16, 16, 3)
    image = layers.Input((16, 16, 3))
    x = layers.ReLU(6.0, name="clipped")(layers.Conv2D(8, 3, name="first")(image))
    x = layers.Conv2D(4, 1, activation="relu6", name="second")(x)
    model = keras.Model(image, layers.Conv2D(4, 1, name="last")(x), name="net")
    rb.quantize_post_training(model, scheme, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "a.onnx", target="onnxruntime", parity_data=batch, layers=True)
    assert np.asarray(keras.Model(image, model.get_layer("first").output)(batch)).max() > 6
    assert {"net/first", "net/last"} <= {entry.layer for entry in report.layers}
    assert min(entry.sqnr for entry in report.layers) > 30, report.layers


def test_a_batch_norm_alone_and_a_hard_sigmoid_are_measured(batch, tmp_path):
    """Behind a rescaling, which the file leaves to what feeds it."""
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", name="first")(layers.Rescaling(0.5, offset=0.1)(image))
    x = layers.MaxPooling2D(2)(x)
    x = layers.ReLU()(layers.BatchNormalization(name="alone")(x))
    x = layers.Activation("hard_sigmoid", name="gate")(layers.Conv2D(8, 1, name="second")(x))
    model = randomise(keras.Model(image, layers.Conv2D(4, 1, name="last")(x), name="net"))
    rb.quantize_post_training(model, "edge_int8", calibration_data=batch)
    report = rb.export_model(model, tmp_path / "a.onnx", target="onnxruntime", parity_data=batch, layers=True)
    assert {"net/alone", "net/gate"} <= {entry.layer for entry in report.layers}
    assert min(entry.sqnr for entry in report.layers) > 35


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("scheme", [None, "portable_int8"])
def test_images_at_the_ends_are_told_by_their_layout(scheme, layout, tmp_path):
    """As wide and high as they have channels; transposed before the layers or behind them, or not at all."""
    batch = images(2, 4, 4, 8)
    image = layers.Input((4, 4, 8))
    x = layers.ReLU(name="before")(layers.UpSampling2D(2)(layers.ReLU(name="first")(image)))
    head = layers.Reshape((-1, 4), name="flat")(layers.Conv2D(8, 3, padding="same", name="head")(x))
    model = keras.Model(image, {"flat": head, "image": layers.Conv2D(8, 1, name="last")(x)}, name="net")
    if scheme is not None:
        rb.quantize_post_training(model, scheme, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "a.onnx", layout=layout, parity_data=batch, layers=True)
    assert {"net/first", "net/before", "net/head", "net/last", "net/flat"} == {entry.layer for entry in report.layers}
    assert min(entry.sqnr for entry in report.layers) > 60
