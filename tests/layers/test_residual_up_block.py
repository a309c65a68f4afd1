import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(block, seed=1):
    """Random kernels, batch-norm statistics and affine parameters (a variance must be positive)."""
    random = np.random.default_rng(seed)
    for layer in (block.bn1, block.bn2, block.shortcut_bn):
        if layer is not None:
            size = layer.gamma.shape
            layer.set_weights([*random.normal(0, 0.5, (3, *size)), random.uniform(0.5, 2.0, size)])


def enlarged(x, scale):
    """Every pixel repeated."""
    return np.kron(x, np.ones((1, scale, scale, 1), "float32"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("filters", "scale", "activation"), [(6, 2, "relu"), (4, 2, "silu"), (4, 3, "relu")])
def test_the_block_is_a_residual_block_on_the_enlarged_input(filters, scale, activation, training):
    """ResidualBlock has its own proof; upsampling the shortcut behind its projection must change nothing."""
    block, reference = rb.ResidualUpBlock(filters, scale, activation), rb.ResidualBlock(filters, 1, activation)
    x = images(2, 5, 4, 6)
    block(x)
    randomise(block)
    reference(enlarged(x, scale))
    reference.set_weights(block.get_weights())
    assert (block.shortcut_conv is None) == (filters == 6)
    expected = np.asarray(reference(enlarged(x, scale), training=training))
    output = np.asarray(block(x, training=training))
    assert output.shape == expected.shape == tuple(block.compute_output_shape(x.shape))
    assert np.abs(output - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_decoder_of_blocks_learns_to_draw():
    keras.utils.set_random_seed(0)
    codes = np.eye(2, dtype="float32")[np.arange(32) % 2]
    pictures = np.zeros((32, 8, 8, 1), "float32")
    pictures[::2, :, :4] = 1.0  # bright to the left for one code, above for the other
    pictures[1::2, :4] = 1.0
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(32),
            keras.layers.Reshape((2, 2, 8)),
            rb.ResidualUpBlock(8),
            rb.ResidualUpBlock(8, activation="elu"),
            keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    model.fit(codes, pictures, epochs=40, batch_size=16, verbose=0)
    assert np.abs(np.asarray(model(codes, training=False)) - pictures).mean() < 0.1


def test_channels_are_inferred_and_height_and_width_may_be_unknown():
    image = keras.Input((None, None, 5))
    model = keras.Model(image, rb.ResidualUpBlock(7)(image))
    assert model.output.shape == (None, None, None, 7)
    assert model(images(1, 3, 4, 5)).shape == (1, 6, 8, 7)


def test_the_block_starts_as_its_upsampled_shortcut_if_asked():
    x = np.abs(images(1, 3, 3, 4))
    np.testing.assert_allclose(rb.ResidualUpBlock(4, zero_init_last=True)(x), enlarged(x, 2))


@pytest.mark.parametrize("filters", [4, 6])
def test_a_saved_model_with_blocks_gives_the_same_outputs(tmp_path, filters):
    image = keras.Input((4, 4, 4))
    block = rb.ResidualUpBlock(filters, 3, "hard_swish", bn_momentum=0.8, bn_epsilon=1e-3, name="block")
    model = keras.Model(image, block(image))
    randomise(block)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(2, 4, 4, 4)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_layer("block").get_config() == block.get_config()


def test_its_parts_follow_its_dtype_policy():
    block = rb.ResidualUpBlock(4, dtype="mixed_bfloat16")
    assert "bfloat16" in str(block(images(1, 4, 4, 3)).dtype)
    assert "float32" in str(block.conv1.kernel.dtype)


def test_a_quantized_decoder_exports_to_int8_from_end_to_end(tmp_path):
    image = keras.Input((8, 8, 6))
    x = rb.ResidualUpBlock(8)(image)  # with a projection
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(rb.ResidualUpBlock(8)(x)))  # without
    for block in model.layers[1:3]:
        randomise(block)
    batch = images(16, 8, 8, 6)
    rb.quantize_post_training(model, calibration_data=batch)
    report = rb.export_model(model, tmp_path / "decoder.tflite", parity_data=batch)
    assert {dtype for _, dtype in report.operators} == {"int8"}
    assert report.operators["CONV_2D", "int8"] == 6
    assert report.operators["ADD", "int8"] == 2
    kinds = {kind for kind, _ in report.operators}
    assert not kinds & {"QUANTIZE", "MUL"}, "upsampling must keep the scale of what it reads"
    assert report.parity[0].cosine > 0.999


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rb.ResidualUpBlock(0), ValueError, "filters must be at least 1; got 0"),
        (lambda: rb.ResidualUpBlock(4, scale=1.5), TypeError, "scale must hold integers; got 1.5"),
        (lambda: rb.ResidualUpBlock(4, activation="rellu"), ValueError, "no activation is called 'rellu'"),
        (lambda: rb.ResidualUpBlock(4)(images(2, 8)), ValueError, r"ResidualUpBlock .* takes \(batch, height, width"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(make, error, message):
    with pytest.raises(error, match=message):
        make()
