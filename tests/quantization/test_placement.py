"""Quantizers stand where LiteRT's int8 kernels need ranges, and nowhere else."""

from __future__ import annotations

import pytest

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization.placement import place
from resnet_backbones.quantization.placement.selection import Selection
from resnet_backbones.quantization.trace import Trace
from resnet_backbones.schemes import get_scheme

layers = keras.layers


def points(model, exclude=(), scheme="edge_int8"):
    """{"layer[call]:port"} of every range."""
    trace = Trace(model)
    calls = trace.calls
    named = []
    for site in place(trace, Selection(model, get_scheme(scheme), exclude)).sites:
        named.append(" = ".join(sorted(f"{calls[o].layer.name}[{calls[o].index}]:{port}" for o, port in site.points)))
    return set(named)


def conv_bn(x, name, filters=4, activation=None):
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_act")(x) if activation else x


def test_a_residual_block_has_ranges_on_both_inputs_of_the_addition_and_behind_its_relu():
    image = layers.Input((8, 8, 3))
    trunk = conv_bn(image, "stem", activation="relu")
    branch = conv_bn(conv_bn(trunk, "a", activation="relu"), "b")
    output = layers.Activation("relu", name="out")(layers.Add(name="add")([branch, trunk]))
    model = keras.Model(image, output)
    assert points(model) == {
        "stem[0]:input:0", "stem_act[0]:output", "a_act[0]:output", "b_bn[0]:output", "out[0]:output",
    }  # fmt: skip


def test_layers_that_only_move_values_add_no_range():
    image = layers.Input((8, 8, 3))
    x = layers.ZeroPadding2D(1, name="pad")(image)
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.UpSampling2D(name="up")(x)
    x = layers.Conv2D(2, 1, name="head")(x)
    model = keras.Model(image, layers.Reshape((-1, 2), name="flat")(x))
    assert points(model) == {"pad[0]:input:0", "conv[0]:output", "head[0]:output"}


def test_a_classifier_has_ranges_behind_the_pooling_and_round_the_softmax():
    image = layers.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D(name="pool")(conv_bn(image, "stem", activation="relu"))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x))
    assert points(model) == {
        "stem[0]:input:0", "stem_act[0]:output", "pool[0]:output", "head[0]:preactivation", "head[0]:output",
    }  # fmt: skip


def test_a_shared_head_has_its_own_range_per_call_and_joined_outputs_none():
    image = layers.Input((8, 8, 3))
    fine = layers.Conv2D(4, 3, padding="same", activation="relu", name="fine")(image)
    coarse = layers.Conv2D(4, 3, 2, padding="same", activation="relu", name="coarse")(fine)
    head = layers.Conv2D(2, 1, name="head")
    parts = [layers.Reshape((-1, 2))(head(level)) for level in (fine, coarse)]
    model = keras.Model(image, layers.Concatenate(axis=1, name="joined")(parts))
    found = points(model)
    assert {"head[0]:output", "head[1]:output"} <= found
    assert not any("joined" in point for point in found)


class TopDown(layers.Layer):
    """As KerasCV's feature pyramid: bare additions and activations between its layers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.upsample = layers.UpSampling2D(2, name="upsample")
        self.fine = layers.Conv2D(4, 3, padding="same", name="smooth_fine")
        self.coarse = layers.Conv2D(4, 3, padding="same", name="smooth_coarse")

    def build(self, input_shape):
        self.fine.build((None, None, None, 4))
        self.coarse.build((None, None, None, 4))
        self.built = True

    def call(self, inputs):
        fine, coarse = inputs
        coarse = coarse + coarse
        total = fine + self.upsample(coarse)
        return self.fine(total), self.coarse(coarse)


def test_results_of_bare_operations_are_quantized_once_where_layers_read_them():
    image = layers.Input((8, 8, 3))
    fine = layers.Conv2D(4, 3, padding="same", name="fine")(image)
    coarse = layers.Conv2D(4, 3, 2, padding="same", name="coarse")(fine)
    model = keras.Model(image, TopDown()([fine, coarse]))
    found = points(model)
    # One range, read by two layers; never two ranges for one tensor.
    assert "smooth_coarse[0]:input:0 = upsample[0]:input:0" in found
    assert "smooth_fine[0]:input:0" in found
    # A convolution read by a bare operation has its range at once, fused activation or not.
    assert {"fine[0]:output", "coarse[0]:output"} <= found


def test_a_convolution_read_by_others_too_is_not_fused_with_the_relu_behind_it():
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    model = keras.Model(image, [layers.ReLU(name="relu")(x), layers.Conv2D(2, 1, name="side")(x)])
    assert {"conv[0]:output", "relu[0]:output"} <= points(model)


@pytest.mark.parametrize("name", ["elu", "selu"])
def test_activations_without_an_int8_form_are_islands_of_float(name):
    image = layers.Input((8, 8, 3))
    x = conv_bn(image, "stem", activation=name)
    model = keras.Model(image, layers.Conv2D(2, 1, name="head")(x))
    trace = Trace(model)
    assert name in place(trace, Selection(model, get_scheme("edge_int8"))).unsupported["stem_act"]
    assert {"stem_bn[0]:output", "head[0]:input:0"} <= points(model)


def test_excluded_layers_stay_float_and_what_they_made_is_quantized_where_it_is_read():
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="first")(image)
    x = layers.Conv2D(4, 3, name="middle")(x)
    model = keras.Model(image, layers.Conv2D(4, 3, name="last")(x))
    found = points(model, exclude=["mid*"])
    assert found == {"first[0]:input:0", "first[0]:output", "last[0]:input:0", "last[0]:output"}


def test_preprocessing_at_the_start_has_a_range_on_its_result_only():
    image = layers.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255, name="scale")(image)
    model = keras.Model(image, layers.Conv2D(4, 3, name="conv")(x))
    assert points(model) == {"scale[0]:output", "conv[0]:output"}


def test_a_lone_batch_norm_has_ranges_of_its_own():
    image = layers.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    x = layers.Add(name="add")([x, image])
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    assert {"add[0]:output", "relu[0]:output"} <= points(keras.Model(image, x))


def test_a_separable_convolution_has_a_range_between_its_two_kernels():
    image = layers.Input((8, 8, 3))
    x = layers.BatchNormalization(name="bn")(layers.SeparableConv2D(4, 3, name="separable")(image))
    assert points(keras.Model(image, layers.ReLU(name="relu")(x))) == {
        "separable[0]:input:0", "separable[0]:between:0", "relu[0]:output"
    }  # fmt: skip


def test_a_sum_of_three_has_a_range_for_the_first_two():
    image = layers.Input((8, 8, 4))
    parts = [layers.Conv2D(4, 1, name=f"part{i}")(image) for i in range(3)]
    assert {"add[0]:between:0", "add[0]:output"} <= points(keras.Model(image, layers.Add(name="add")(parts)))


def test_a_bare_sum_between_layers_has_a_range_as_an_addition_has():
    image = layers.Input((8, 8, 4))
    total = layers.Conv2D(4, 1, name="one")(image) + layers.Conv2D(4, 1, name="two")(image)
    found = points(keras.Model(image, layers.Conv2D(4, 1, name="last")(total)))
    of_layers = {"one[0]:input:0 = two[0]:input:0", "one[0]:output", "two[0]:output", "last[0]:output"}
    assert of_layers < found
    (of_the_sum,) = found - of_layers
    assert of_the_sum.endswith("[0]:output")


def test_an_activation_given_as_a_layer_belongs_to_its_convolution():
    image = layers.Input((8, 8, 3))
    model = keras.Model(image, layers.Conv2D(4, 1, activation=layers.LeakyReLU(), name="conv")(image))
    assert points(model) == {"conv[0]:input:0", "conv[0]:preactivation", "conv[0]:output"}
