"""For TensorRT, quantizers stand on what weighted layers read, on what is pooled, and on shortcuts; nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import context, hooks_of, quantizers_of
from resnet_backbones.quantization.placement import place
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import get_scheme
from tests.support.nets import retinanet

from .test_placement import TopDown, conv_bn, points

layers = keras.layers


def block(x, name, shortcut):
    branch = conv_bn(conv_bn(x, f"{name}_a", activation="relu"), f"{name}_b")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([branch, shortcut]))


def test_an_identity_shortcut_shares_the_range_of_the_block_s_input():
    image = layers.Input((8, 8, 3))
    trunk = conv_bn(image, "stem", activation="relu")
    model = keras.Model(image, conv_bn(block(trunk, "block", trunk), "last"))
    assert points(model, scheme=get_scheme("gpu_int8").replace(float_outputs=False)) == {
        "stem[0]:input:0",
        "block_a[0]:input:0 = block_add[0]:input:1",
        "block_b[0]:input:0",
        "last[0]:input:0",
    }


@pytest.mark.parametrize("shortcut_first", [False, True])
def test_of_two_convolutions_that_are_added_the_deeper_one_has_no_range(shortcut_first):
    image = layers.Input((8, 8, 3))
    if shortcut_first:
        shortcut = conv_bn(image, "projection")
        branch = conv_bn(conv_bn(image, "a", activation="relu"), "b")
    else:
        branch = conv_bn(conv_bn(image, "a", activation="relu"), "b")
        shortcut = conv_bn(image, "projection")
    added = [shortcut, branch] if shortcut_first else [branch, shortcut]
    model = keras.Model(image, conv_bn(layers.Add(name="add")(added), "last"))
    at_the_addition = {point for point in points(model, scheme="gpu_int8") if "add" in point}
    assert at_the_addition == {f"add[0]:input:{0 if shortcut_first else 1}"}


def test_what_is_pooled_has_a_range_and_a_convolution_behind_it_the_same():
    image = layers.Input((8, 8, 3))
    x = layers.MaxPooling2D(name="pool")(conv_bn(image, "stem", activation="relu"))
    x = layers.AveragePooling2D(2, name="average")(conv_bn(x, "second", activation="relu"))
    x = conv_bn(x, "third", activation="relu")
    model = keras.Model(image, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D(name="mean")(x)))
    assert points(model, scheme=get_scheme("gpu_int8").replace(float_outputs=False)) == {
        "stem[0]:input:0",
        "pool[0]:input:0 = second[0]:input:0",
        "average[0]:input:0",
        "third[0]:input:0",
        "mean[0]:input:0",
        "head[0]:input:0",
    }


def test_a_separable_convolution_has_a_range_before_each_of_its_two():
    image = layers.Input((8, 8, 3))
    model = keras.Model(image, conv_bn(layers.SeparableConv2D(4, 3, name="separable")(image), "last"))
    assert points(model, scheme=get_scheme("gpu_int8").replace(float_outputs=False)) == {
        "separable[0]:input:0",
        "separable[0]:between:0",
        "last[0]:input:0",
    }


def test_padding_before_a_convolution_is_behind_the_range():
    image = layers.Input((8, 8, 3))
    x = layers.ZeroPadding2D(name="pad")(conv_bn(image, "stem", activation="relu"))
    model = keras.Model(image, conv_bn(layers.Conv2D(4, 3, name="conv")(x), "last"))
    assert "pad[0]:input:0" in points(model, scheme="gpu_int8")


def test_a_lone_batch_norm_has_a_range_on_its_input_and_none_behind_it():
    image = layers.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.Add(name="add")([x, image])
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    found = points(keras.Model(image, conv_bn(x, "last")), scheme="gpu_int8")
    # The last convolution has a batch norm, so it ends a backbone and is no head's last layer, which would stay float.
    assert found == {"add[0]:input:1 = conv[0]:input:0", "bn[0]:input:0", "last[0]:input:0"}


def test_heads_are_float_by_default_and_int8_when_asked():
    image = layers.Input((8, 8, 3))
    x = conv_bn(conv_bn(image, "stem", activation="relu"), "middle", activation="relu")
    boxes = layers.Reshape((-1, 4))(layers.Conv2D(4, 1, name="boxes")(x))
    classes = layers.Activation("sigmoid")(layers.Conv2D(2, 1, name="classes")(x))
    model = keras.Model(image, [boxes, classes])
    scheme = get_scheme("gpu_int8")
    assert points(model, scheme=scheme) == {"stem[0]:input:0", "middle[0]:input:0"}
    assert points(model, scheme=scheme.replace(float_outputs=False)) == {
        "stem[0]:input:0",
        "middle[0]:input:0",
        "boxes[0]:input:0 = classes[0]:input:0",
    }


def top_down(scheme):
    image = layers.Input((8, 8, 3))
    fine = layers.Conv2D(4, 3, padding="same", name="fine")(image)
    coarse = layers.Conv2D(4, 3, 2, padding="same", name="coarse")(fine)
    lateral = layers.Conv2D(4, 1, name="lateral")(fine)
    model = keras.Model(image, TopDown()([lateral, coarse]))
    return model, get_scheme(scheme).replace(float_outputs=False)


def test_of_a_bare_addition_in_a_feature_pyramid_the_upsampled_shortcut_has_a_range():
    model, scheme = top_down("gpu_int8")
    assert points(model, scheme=scheme) == {
        "fine[0]:input:0",
        "coarse[0]:input:0 = lateral[0]:input:0",
        "smooth_coarse[0]:input:0 = upsample[0]:input:0",
        "smooth_fine[0]:input:0",
    }


def test_the_portable_scheme_leaves_out_the_range_of_a_convolution_fused_with_a_bare_addition():
    model, scheme = top_down("portable_int8")
    trace = Trace(model)
    sites = place(trace, Selection(model, scheme)).sites
    names = {f"{trace.calls[s.points[0][0]].layer.name}:{s.points[0][1]}" for s in sites if s.litert_only}
    assert names == {"lateral:output"}


def test_a_retinanet_has_symmetric_ranges_and_float_heads(images):
    model = retinanet(num_classes=2)
    rb.quantize_aware(model, "gpu_int8", calibration_data=images)
    assert all(q.symmetric and q.fixed_range is None and q.range()[0] == -q.range()[1] for q in quantizers_of(model))
    weighted = [layer for layer in model._flatten_layers() if isinstance(layer, layers.Conv2D)]
    float_layers = [w for w in weighted if w not in {hook.layer for hook in hooks_of(model) if hook.kernels}]
    assert sorted(layer.filters for layer in float_layers) == [2 * 9, 4 * 9]  # the last of either head
    sites = place(Trace(model), Selection(model, get_scheme("gpu_int8"))).sites
    ports = {port for site in sites for _, port in site.points}
    assert ports <= {"input:0", "input:1"}


def test_the_portable_scheme_is_litert_s_with_what_tensorrt_fuses_marked():
    image = layers.Input((8, 8, 3))
    trunk = conv_bn(image, "stem", activation="relu")
    x = block(trunk, "block", trunk)
    x = layers.Activation("silu", name="silu")(conv_bn(x, "second"))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x))
    trace = Trace(model)
    portable = place(trace, Selection(model, get_scheme("portable_int8")))
    edge = place(trace, Selection(model, get_scheme("edge_int8")))
    assert [site.points for site in portable.sites] == [site.points for site in edge.sites]
    names = {f"{trace.calls[s.points[0][0]].layer.name}:{s.points[0][1]}" for s in portable.sites if s.litert_only}
    assert names == {"block_b_bn:output", "second_bn:output", "head:preactivation", "head:output"}
    assert all(site.symmetric for site in portable.sites if site.fixed_range is None)


def test_the_tensorrt_view_of_a_portable_model_lacks_the_marked_ranges(images):
    image = layers.Input((64, 64, 3))
    trunk = conv_bn(image, "stem", activation="relu")
    model = keras.Model(image, block(trunk, "block", trunk))
    rb.quantize_aware(model, "portable_int8", calibration_data=images)
    everything = model(images, training=False).numpy()
    (marked,) = [q for q in quantizers_of(model) if q.litert_only]
    with context.use_view("tensorrt"):
        without = model(images, training=False).numpy()
    marked.range_min.assign(-1e6)  # so wide that all is rounded to zero
    marked.range_max.assign(1e6)
    with context.use_view("tensorrt"):
        np.testing.assert_array_equal(model(images, training=False).numpy(), without)
    assert np.any(everything != without)
    assert np.any(model(images, training=False).numpy() != everything)
    with pytest.raises(ValueError, match="'litert' or 'tensorrt'"), context.use_view("onnx"):
        pass
