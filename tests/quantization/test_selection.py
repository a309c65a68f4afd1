"""Patterns choose layers by name and path; bits can differ from layer to layer."""

from __future__ import annotations

import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import hooks_of, quantization_of, quantizers_of
from resnet_backbones.quantization.placement import place
from resnet_backbones.quantization.placement.selection import Bits, Selection, layer_paths
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import get_scheme
from tests.support.nets import retinanet

from .test_placement import conv_bn

layers = keras.layers


@pytest.fixture
def detector():
    return retinanet(num_classes=2)


def nested():
    """A model in a model: outer/inner/conv, outer/head."""
    image = layers.Input((8, 8, 3))
    inner = keras.Model(image, layers.Conv2D(4, 3, name="conv")(image), name="inner")
    return keras.Model(image, layers.Conv2D(2, 1, name="head")(inner(image)), name="outer")


def test_every_layer_has_its_path(detector):
    heads = {path.split("/")[1] for path in layer_paths(detector)[id(detector.box_head)]}
    assert {"box_head", detector.box_head.name} == heads
    model = nested()
    paths = {path for found in layer_paths(model).values() for path in found}
    assert {"outer", "outer/inner", "outer/inner/conv", "outer/head"} <= paths


@pytest.mark.parametrize("pattern", ["conv", "inner", "inner/conv", "outer/inner/conv", "*inner*", "outer/inner*"])
def test_a_pattern_matches_names_paths_and_what_a_layer_holds(pattern):
    model = nested()
    selection = Selection(model, get_scheme("edge_int8"), exclude=[pattern])
    assert selection.stays_float(model.get_layer("inner").get_layer("conv"))
    assert not selection.stays_float(model.get_layer("head"))


def test_a_detector_s_box_head_can_be_left_in_float(detector):
    rb.quantize_aware(detector, exclude=["*box_head*"])
    with_kernels = {hook.layer for hook in hooks_of(detector) if hook.kernels}
    box_head = [w for w in detector.box_head._flatten_layers() if isinstance(w, layers.Conv2D)]
    class_head = [w for w in detector.classification_head._flatten_layers() if isinstance(w, layers.Conv2D)]
    assert box_head
    assert not with_kernels & set(box_head)
    assert set(class_head) <= with_kernels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": ["stem_conv9"]}, "matches the pattern 'stem_conv9'.*Near it: .*stem_conv"),
        ({"exclude": ["*box_heat*"]}, r"matches the pattern '\*box_heat\*'"),
        ({"override": {"nothing*": {"kernel_bits": 4}}}, r"'nothing\*'"),
        ({"override": {"stem*": {"bits": 4}}}, "takes kernel_bits"),
        ({"override": {"stem*": {"kernel_bits": 40}}}, "kernel_bits must be 2 to 8"),
        ({"override": {"stem*": {}}}, "takes kernel_bits"),
    ],
)
def test_patterns_that_match_nothing_and_bad_bits_change_nothing(classifier, images, options, message):
    before = classifier(images).numpy()
    with pytest.raises(ValueError, match=message):
        rb.quantize_aware(classifier, **options)
    assert quantization_of(classifier) is None
    assert not quantizers_of(classifier)
    assert (classifier(images).numpy() == before).all()


def test_exclude_is_a_list(classifier):
    with pytest.raises(TypeError, match=r"exclude=\['head'\]"):
        rb.quantize_aware(classifier, exclude="head")


def test_overrides_set_bits_by_pattern_and_later_ones_win():
    model = nested()
    selection = Selection(
        model, get_scheme("edge_int8"), override={"*": {"kernel_bits": 4}, "head": {"activation_bits": 16}}
    )
    assert selection.bits(model.get_layer("head")) == Bits(4, 16)
    assert selection.bits(model.get_layer("inner").get_layer("conv")) == Bits(4, 8)


def test_where_bits_change_a_tensor_has_a_range_of_either_kind():
    image = layers.Input((8, 8, 3))
    x = conv_bn(image, "first", activation="relu")
    x = conv_bn(layers.MaxPooling2D(name="pool")(x), "wide", activation="relu")
    model = keras.Model(image, layers.Conv2D(4, 1, name="last")(x))
    trace = Trace(model)
    placement = place(trace, Selection(model, get_scheme("edge_int8"), override={"wide*": {"activation_bits": 16}}))
    found = {
        f"{trace.calls[site.points[0][0]].layer.name}:{site.points[0][1]}": (site.bits, site.symmetric)
        for site in placement.sites
    }
    assert found == {
        "first:input:0": (8, False),
        "first_act:output": (8, False),
        "wide:input:0": (16, True),
        "wide_act:output": (16, True),
        "last:input:0": (8, False),
        "last:output": (8, False),
    }


def test_what_follows_an_excluded_convolution_stays_in_float_with_it():
    image = layers.Input((8, 8, 3))
    x = conv_bn(conv_bn(image, "first", activation="relu"), "middle", activation="relu")
    model = keras.Model(image, layers.Conv2D(4, 1, name="last")(x))
    trace = Trace(model)
    placement = place(trace, Selection(model, get_scheme("edge_int8"), exclude=["middle"]))
    names = {trace.calls[order].layer.name for site in placement.sites for order, _ in site.points}
    assert names == {"first", "first_act", "last"}
    assert not placement.lone_batch_norms


def test_bits_are_saved_with_the_model(images, tmp_path):
    model = nested()
    rb.quantize_aware(model, override={"head": {"kernel_bits": 4, "activation_bits": 16}})
    rb.calibrate(model, images[:, :8, :8])
    model.save(tmp_path / "model.keras")
    loaded = rb.load_model(tmp_path / "model.keras")
    assert quantization_of(loaded)["override"] == {"head": {"kernel_bits": 4, "activation_bits": 16}}
    kernels = {hook.layer.name: [q.bits for _, q in hook.kernels.values()] for hook in hooks_of(loaded) if hook.kernels}
    assert kernels == {"conv": [8], "head": [4]}
    assert (loaded(images[:, :8, :8]).numpy() == model(images[:, :8, :8]).numpy()).all()
