"""What ResNet's kin add to it: groups, attention, Res2Net's pieces, antialiasing. tests/reference has timm."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.backbones.common import eca_kernel, squeezed
from resnet_backbones.keras_compat import keras
from tests.support.families import BackboneFamily
from tests.support.nets import images, randomise

BASIC = rb.ResNetSpec(block="basic", depths=(1, 1), widths=(8, 16), stem_width=8)
NECK = BASIC.replace(block="bottleneck")
SPECS = {
    "groups": NECK.replace(groups=4, group_width=16),
    "wide": NECK.replace(group_width=128),
    "senet": NECK.replace(groups=4, group_width=16, reduce_first=2, shortcut_kernel=3, attention="se"),
    "se": BASIC.replace(attention="se"),
    "eca": BASIC.replace(attention="eca"),
    "cbam": BASIC.replace(attention="cbam", attention_ratio=0.25),
    "res2net": NECK.replace(block="bottle2neck", depths=(2, 1), scale=4, group_width=32),
    "resnetrs": NECK.replace(stem="deep", stem_pool="conv", shortcut="avg_pool", attention="se", attention_ratio=0.25),
    "blur": BASIC.replace(antialias="blur"),
    "avg": NECK.replace(antialias="avg"),
    "blurred conv pool": BASIC.replace(antialias="blur", stem_pool="conv"),
}


class TestResNetKin(BackboneFamily):
    specs = SPECS
    int8 = tuple(SPECS)
    wrong = [
        ({"attention": "sge"}, ValueError, "attention"),
        ({"antialias": "gauss"}, ValueError, "antialias"),
        ({"scale": 0}, ValueError, "scale"),
        (
            lambda: rb.create_backbone(BASIC.replace(groups=4)),
            ValueError,
            "'basic' knows no groups: it must be 1, not 4; the block 'bottleneck'",
        ),
        (lambda: rb.create_backbone(BASIC.replace(group_width=32)), ValueError, "'basic' knows no group_width"),
        (
            lambda: rb.create_backbone(SPECS["res2net"], antialias="blur"),
            ValueError,
            "'bottle2neck' knows no antialias",
        ),
        (
            lambda: rb.create_backbone(SPECS["res2net"], reduce_first=2),
            ValueError,
            "'bottle2neck' knows no reduce_first",
        ),
    ]


def part(backbone, first, last, x):
    """The outputs of two layers of a backbone."""
    outputs = [backbone.get_layer(name).output for name in (first, last)]
    return [np.asarray(value) for value in keras.Model(backbone.inputs[0], outputs)(x)]


@pytest.mark.parametrize("kind", ["cbam", "blur"])
def test_shared_and_constant_kernels_train_quantized_and_come_back_from_a_file(kind, tmp_path):
    backbone = randomise(rb.create_backbone(SPECS[kind], input_shape=(32, 32, 3)))
    model = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    x = images(8, 32, 32, 3)
    before = np.asarray(model(x))
    rb.quantize_aware(model, calibration_data=x)
    steps = np.asarray(model(x)) - before
    assert 0 < np.abs(steps).max() < 0.1 * np.abs(before).max()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.fit(x, np.arange(8) % 2, epochs=1, batch_size=4, verbose=0)
    model.save(tmp_path / "quantized.keras")
    np.testing.assert_array_equal(rb.load_model(tmp_path / "quantized.keras")(x), model(x))


def test_a_branch_that_is_always_zero_exports_to_a_file_that_runs(tmp_path):
    """Its range is empty; a range too narrow for its convolution is one that XNNPACK refuses to load."""
    backbone = randomise(rb.create_backbone(SPECS["cbam"], input_shape=(32, 32, 3)))
    reduce = backbone.get_layer("stage1_block1_cbam_reduce")
    reduce.set_weights([-np.abs(weight) for weight in reduce.get_weights()])
    batch = images(4, 32, 32, 3)
    norm = backbone.get_layer("stage1_block1_bn2")
    norm.set_weights([np.abs(norm.get_weights()[0]), norm.get_weights()[1] + 10, *norm.get_weights()[2:]])
    assert not part(backbone, "stage1_block1_bn2", "stage1_block1_cbam_sum", batch)[1].any()
    rb.quantize_post_training(backbone, calibration_data=batch)
    report = rb.export_model(backbone, tmp_path / "dead.tflite", parity_data=batch)
    assert report.parity[0].cosine > 0.999


def test_squeeze_and_excitation_gates_channels_by_their_means():
    backbone = randomise(rb.create_backbone(SPECS["se"], input_shape=(32, 32, 3)))
    before, after = part(backbone, "stage2_block1_bn2", "stage2_block1_se_out", images(2, 32, 32, 3))
    (squeeze, bias), (expand, bias2) = (
        backbone.get_layer(f"stage2_block1_se_{name}").get_weights() for name in ("reduce", "expand")
    )
    hidden = np.maximum(before.mean((1, 2)) @ squeeze[0, 0] + bias, 0)
    gate = 1 / (1 + np.exp(-(hidden @ expand[0, 0] + bias2)))
    np.testing.assert_allclose(after, before * gate[:, None, None], rtol=1e-4, atol=1e-5)


def test_efficient_channel_attention_is_a_convolution_along_the_channels():
    backbone = randomise(rb.create_backbone(SPECS["eca"], input_shape=(32, 32, 3)))
    before, after = part(backbone, "stage2_block1_bn2", "stage2_block1_eca_out", images(2, 32, 32, 3))
    kernel = backbone.get_layer("stage2_block1_eca_conv").get_weights()[0].reshape(-1)
    means = before.mean((1, 2))
    along = np.stack([np.correlate(row, kernel, "same") for row in means])
    np.testing.assert_allclose(after, before / (1 + np.exp(-along))[:, None, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (64, 3), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_more_channels_have_a_longer_kernel_along_them(channels, kernel):
    assert eca_kernel(channels) == kernel


@pytest.mark.parametrize(
    ("channels", "ratio", "divisor", "expected"),
    [(64, 1 / 16, 8, 8), (2048, 1 / 16, 8, 128), (200, 1 / 16, 8, 16), (64, 1 / 16, 1, 4), (8, 1 / 16, 1, 1)],
)
def test_squeezed_channels_are_rounded_to_whole_multiples(channels, ratio, divisor, expected):
    assert squeezed(channels, ratio, divisor) == expected


def test_cbam_gates_channels_then_pixels_with_one_pair_of_layers_for_mean_and_maximum():
    backbone = randomise(rb.create_backbone(SPECS["cbam"], input_shape=(32, 32, 3)))
    before, after = part(backbone, "stage2_block1_bn2", "stage2_block1_cbam_channel_out", images(2, 32, 32, 3))
    first, second = (
        backbone.get_layer(f"stage2_block1_cbam_{name}").get_weights()[0][0, 0] for name in ("reduce", "expand")
    )
    pooled = before.mean((1, 2)), before.max((1, 2))
    gate = sum(np.maximum(values @ first, 0) @ second for values in pooled)
    np.testing.assert_allclose(after, before / (1 + np.exp(-gate))[:, None, None], rtol=1e-4, atol=1e-5)
    before, after = part(backbone, "stage2_block1_cbam_channel_out", "stage2_block1_cbam_out", images(2, 32, 32, 3))
    gates = after / np.where(before == 0, 1, before)
    np.testing.assert_allclose(gates, np.broadcast_to(gates[..., :1], gates.shape), rtol=1e-3)


def test_res2nets_pieces_pass_on_what_they_found_in_blocks_that_keep_their_shape():
    backbone = rb.create_backbone(SPECS["res2net"], input_shape=(32, 32, 3))
    names = [layer.name for layer in backbone.layers]
    sums = [name for name in names if "_sum2_" in name]
    assert sums == ["stage1_block2_sum2_2", "stage1_block2_sum2_3"]
    pools = [name for name in names if name.endswith(("block1_pool", "block2_pool"))]
    assert pools == ["stage1_block1_pool", "stage2_block1_pool"]
    assert backbone.get_layer("stage1_block2_conv2_3").kernel.shape == (3, 3, 4, 4)  # 8 * 32 / 64 channels a piece
    assert backbone.get_layer("stage1_block2_conv1").filters == 16


def test_a_res2net_of_one_scale_is_a_bottleneck():
    spec = NECK.replace(depths=(2, 2))
    neck, other = (randomise(rb.create_backbone(spec, block=block)) for block in ("bottleneck", "bottle2neck"))
    other.set_weights(neck.get_weights())
    x = images(1, 32, 32, 3)
    np.testing.assert_allclose(other(x), neck(x), rtol=1e-5, atol=1e-6)


def test_groups_share_the_channels_of_the_3x3_convolution():
    backbone = rb.create_backbone(SPECS["groups"], input_shape=(32, 32, 3))
    assert backbone.get_layer("stage2_block1_conv2").kernel.shape == (3, 3, 4, 16)  # 16 * 16 / 64 in each of 4
    wide = rb.create_backbone(SPECS["wide"], input_shape=(32, 32, 3))
    assert wide.get_layer("stage2_block1_conv2").kernel.shape == (3, 3, 32, 32)
    senet = rb.create_backbone(SPECS["senet"], input_shape=(32, 32, 3))
    assert senet.get_layer("stage2_block1_conv1").filters == 8
    kernels = [senet.get_layer(f"stage{stage}_block1_shortcut_conv").kernel.shape[0] for stage in (1, 2)]
    assert kernels == [1, 3]  # the first does not stride


@pytest.mark.parametrize(("kind", "layer"), [("blur", "BlurPool2D"), ("avg", "AveragePooling2D")])
def test_antialiased_convolutions_leave_the_striding_to_a_filter(kind, layer):
    backbone = rb.create_backbone(NECK, antialias=kind, input_shape=(32, 32, 3))
    assert backbone.get_layer("stage2_block1_conv2").strides == (1, 1)
    assert type(backbone.get_layer("stage2_block1_antialias")).__name__ == layer
    assert type(backbone.get_layer("stem_antialias")).__name__ == layer
    names = [layer.name for layer in backbone.layers]
    assert "stage1_block1_antialias" not in names
    assert ("stem_pool" in names) == (kind == "blur")  # the mean stands in the maximum's place
