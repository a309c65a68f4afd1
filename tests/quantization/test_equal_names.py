"""Layers of equal name in nested models are told apart wherever a layer is named, or a pattern chooses one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.export.litert import emitter as litert
from resnet_backbones.export.problems import layers_named_in
from resnet_backbones.export.report.kernels import compare_kernels
from resnet_backbones.export.request import ExportRequest
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.float_layers import float_layers
from resnet_backbones.quantization.placement.selection import Selection, layer_labels, layer_patterns
from tests.support.nets import images, randomise

layers = keras.layers
DATA = images(4, 8, 8, 4)
NAMES = ("conv", "norm", "act", "dense")
PARTS = ("left", "right")


def part(name, activation="relu"):
    image = layers.Input((8, 8, 4))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="conv")(image))
    x = layers.Dense(4, name="dense")(layers.Activation(activation, name="act")(x))
    return keras.Model(image, x, name=name)


def network(nested, activations=("relu", "relu")):
    """The two parts one after the other; nested, the second inside of another model."""
    keras.utils.set_random_seed(0)
    left, right = (part(name, activation) for name, activation in zip(PARTS, activations, strict=True))
    if nested:
        image = layers.Input((8, 8, 4))
        right = keras.Model(image, right(image), name="outer")
    image = layers.Input((8, 8, 4))
    return randomise(keras.Model(image, right(left(image)), name="net"))


def place(nested, which, name=None):
    path = f"net/{'outer/' if nested and which == 'right' else ''}{which}"
    return path if name is None else f"{path}/{name}"


def layer_at(model, path):
    return next(layer for layer in model._flatten_layers() if layer_labels(model).get(id(layer)) == path)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("which", PARTS)
@pytest.mark.parametrize("name", NAMES)
def test_one_of_two_is_excluded_and_named(name, which, nested, tmp_path):
    model, path = network(nested), place(nested, which, name)
    rb.quantize_post_training(model, exclude=[f"{which}/{name}"], calibration_data=DATA)
    assert {layer_labels(model)[id(layer)] for layer in float_layers(model)} == {path}
    assert [row.layer for row in rb.quantization.quantization_summary(model).floats] == [path]
    for suffix in (".tflite", ".onnx"):
        options = {"target": "onnxruntime"} if suffix == ".onnx" else {}
        report = rb.export_model(model, tmp_path / f"m{suffix}", parity_data=DATA, layers=True, **options)
        assert report.passed, report.verdict
        assert {why.layer for why in report.float_reasons.values() if why.chosen} <= {path}
        measured = [entry.layer for entry in report.layers]
        assert len(set(measured)) == len(measured)
        assert report.kernels.compared == 4 - (name in ("conv", "dense"))
        if name in ("conv", "dense"):
            assert {why.layer for why in report.float_reasons.values() if why.chosen} == {path}
    rows = [row.layer for row in rb.quantization.quantization_summary(model).kernels]
    assert sorted(rows) == sorted(
        place(nested, other, one) for other in PARTS for one in ("conv", "dense") if place(nested, other, one) != path
    )


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_bare_name_means_both_and_a_path_one(name, nested):
    model, scheme = network(nested), rb.quantization.get_scheme("edge_int8")
    both = [layer_at(model, place(nested, which, name)) for which in PARTS]
    assert all(Selection(model, scheme, exclude=[name]).stays_float(layer) for layer in both)
    assert [Selection(model, scheme, override={name: {"kernel_bits": 4}}).bits(one).kernel for one in both] == [4, 4]
    for which, own in zip(PARTS, both, strict=True):
        for pattern in (f"{which}/{name}", place(nested, which, name), layer_patterns(model)[id(own)]):
            chosen = [layer for layer in both if Selection(model, scheme, exclude=[pattern]).stays_float(layer)]
            assert chosen == [own]
            bits = [Selection(model, scheme, override={pattern: {"kernel_bits": 4}}).bits(one).kernel for one in both]
            assert bits == [4 if one is own else 8 for one in both]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("which", PARTS)
def test_only_the_layer_without_integers_is_said_to_have_none(which, nested, tmp_path):
    model, path = network(nested, ["elu" if one == which else "relu" for one in PARTS]), place(nested, which, "act")
    with pytest.warns(UserWarning, match=f"^{path.removeprefix('net/')}: activation 'elu' has no int8 form in LiteRT"):
        rb.quantize_post_training(model, calibration_data=DATA)
    assert [row.layer for row in rb.quantization.quantization_summary(model).floats] == [path]
    report = rb.export_model(model, tmp_path / "m.tflite", parity_data=DATA)
    assert {why.layer for why in report.float_reasons.values()} == {path}
    assert "ELU: activation 'elu' has no int8 form in LiteRT" in report.float_operators.values()
    model.save(tmp_path / "m.keras")
    loaded = rb.load_model(tmp_path / "m.keras")
    assert [row.layer for row in rb.quantization.quantization_summary(loaded).floats] == [path]


@pytest.mark.parametrize("nested", [False, True])
def test_what_measures_layers_tells_them_apart(nested):
    model = rb.quantize_post_training(network(nested), calibration_data=DATA)
    rows = [(row.layer, row.call) for row in rb.quantization.analyse(model, DATA).layers]
    assert len(set(rows)) == len(rows)
    assert {place(nested, which, name) for which in PARTS for name in ("conv", "dense")} <= {layer for layer, _ in rows}
    scheme = rb.quantization.get_scheme("edge_int8")
    found = rb.quantization.suggest_exclusions(model, DATA, target=100.0, max_patterns=3)
    assert found.exclude
    for pattern in found.exclude:
        chosen = Selection(model, scheme, exclude=[pattern])
        assert sum(chosen.stays_float(layer_at(model, place(nested, w, n))) for w in PARTS for n in NAMES) == 1
    rb.quantization.strip_quantization(model)
    rb.quantize_post_training(model, exclude=found.exclude, calibration_data=DATA)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("which", PARTS)
@pytest.mark.parametrize("name", ["conv", "dense"])
def test_a_kernel_that_differs_or_is_missing_is_named(name, which, nested):
    model = rb.quantize_post_training(network(nested), calibration_data=DATA)
    emitted, path = litert.emit(model, ExportRequest("litert", "int8")), place(nested, which, name)

    def of(kernel):
        return emitted.sources.label(emitted.sources.weighted(kernel.output)[0])

    assert sorted(map(of, emitted.kernels)) == sorted(place(nested, w, n) for w in PARTS for n in ("conv", "dense"))
    others = [kernel for kernel in emitted.kernels if of(kernel) != path]
    assert compare_kernels(model, others, emitted.sources).missing == [f"{path}.kernel"]
    (own,) = [kernel for kernel in emitted.kernels if of(kernel) == path]
    changed = dataclasses.replace(own, values=own.values[..., ::-1])
    assert compare_kernels(model, [*others, changed], emitted.sources).different == [path]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_a_converter_says_names_the_right_one(name, nested):
    model = network(nested)
    for which in PARTS:
        own, path = layer_at(model, place(nested, which, name)), place(nested, which, name)
        for written in (path, f"{path}/Conv2D", path.replace("/", "_1/") + "_1/BiasAdd", f"fn/{path}_2/x"):
            assert layers_named_in(model, f'error: "{written}"("a/b"): no such operator') == [own]
        assert layers_named_in(model, f"in x/{which}/{name}/y") == [own]
    assert len(layers_named_in(model, f"in x/{name}/y")) == 2
    assert layers_named_in(model, "in /usr/lib/python3/y") == []


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("which", PARTS)
def test_messages_about_ranges_and_bits_name_the_right_one(which, nested, tmp_path):
    model, path = network(nested, ["tanh" if one == which else "relu" for one in PARTS]), place(nested, which, "act")
    with pytest.raises(ValueError, match=r"no int16 form of .*act") as error:
        rb.quantize_post_training(model, "edge_int16x8", calibration_data=DATA)
    (remedy,) = [key for key in str(error.value).split("'") if key.endswith("act") and "override" not in key][-1:]
    chosen = Selection(model, rb.quantization.get_scheme("edge_int16x8"), override={remedy: {"activation_bits": 8}})
    assert [chosen.bits(layer_at(model, place(nested, one, "act"))).activation for one in PARTS] == [
        8 if one == which else 16 for one in PARTS
    ]
    rb.quantize_aware(model)
    with pytest.raises(ValueError, match=f"never observed.*'{place(nested, 'left')}/conv, |never observed.*'net, "):
        rb.export_model(model, tmp_path / "m.tflite")
    dense = layer_at(model, place(nested, which, "dense"))
    dense.bias.assign(np.full(4, np.nan, "float32"))
    with pytest.raises(ValueError, match=f"layer '{place(nested, which, 'dense')}' has NaN or infinity at its output"):
        rb.quantization.calibrate(model, DATA)
    assert path in layer_labels(model).values()
