"""ResidualBlock by the textbook, ResidualUpBlock by ResidualBlock; and what holds of both."""

from __future__ import annotations

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import images

ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "silu": lambda x: x / (1 + np.exp(-x))}
OF_BOTH = pytest.mark.parametrize("cls", [rb.ResidualBlock, rb.ResidualUpBlock])


def randomise(block, seed=1):
    """Random batch-norm statistics and affine parameters, scales below zero among them."""
    random = np.random.default_rng(seed)
    for layer in (block.bn1, block.bn2, block.shortcut_bn):
        if layer is not None:
            size = layer.gamma.shape
            layer.set_weights([*random.normal(0, 0.5, (3, *size)), random.uniform(0.5, 2.0, size)])


def convolve(x, layer, strides):
    """A convolution written out, padded by half the kernel on every side; float64."""
    kernel = np.asarray(layer.kernel, "float64")
    size = kernel.shape[0]
    margin = size // 2
    x = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    rows, columns = ((length - size) // strides + 1 for length in x.shape[1:3])
    output = np.zeros((x.shape[0], rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            window = x[:, i * strides : i * strides + size, j * strides : j * strides + size]
            output[:, i, j] = np.einsum("nhwc,hwcd->nd", window, kernel)
    return output


def normalise(x, layer):
    gamma, beta, mean, variance = (np.asarray(weight, "float64") for weight in layer.get_weights())
    return gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta


def by_hand(x, block, activation):
    """F(x) = act(H(x) + S(x)), the textbook's formula."""
    x = x.astype("float64")
    h = activation(normalise(convolve(x, block.conv1, block.strides), block.bn1))
    h = normalise(convolve(h, block.conv2, 1), block.bn2)
    projected = block.shortcut_conv is not None
    shortcut = normalise(convolve(x, block.shortcut_conv, block.strides), block.shortcut_bn) if projected else x
    return activation(h + shortcut)


def enlarged(x, scale):
    """Every pixel repeated."""
    return np.kron(x, np.ones((1, scale, scale, 1), "float32"))


def assert_near(block, x, expected, training=False):
    output = np.asarray(block(x, training=training))
    assert output.shape == expected.shape == tuple(block.compute_output_shape(x.shape))
    assert np.abs(output - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("filters", "strides", "size"), [(6, 1, (8, 7)), (10, 1, (8, 8)), (6, 2, (8, 8)), (10, 2, (9, 7))]
)
def test_the_block_is_the_textbook_formula(filters, strides, size, activation):
    block = rb.ResidualBlock(filters, strides, activation)
    x = images(2, *size, 6)
    block(x)
    randomise(block)
    assert (block.shortcut_conv is None) == (filters == 6 and strides == 1)
    assert_near(block, x, by_hand(x, block, ACTIVATIONS[activation]))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("filters", "scale", "activation"), [(6, 2, "relu"), (4, 2, "silu"), (4, 3, "relu")])
def test_the_up_block_is_a_residual_block_on_the_enlarged_input(filters, scale, activation, training):
    """ResidualBlock has its own proof; upsampling the shortcut behind its projection must change nothing."""
    block, reference = rb.ResidualUpBlock(filters, scale, activation), rb.ResidualBlock(filters, 1, activation)
    x = images(2, 5, 4, 6)
    block(x)
    randomise(block)
    reference(enlarged(x, scale))
    reference.set_weights(block.get_weights())
    assert (block.shortcut_conv is None) == (filters == 6)
    assert_near(block, x, np.asarray(reference(enlarged(x, scale), training=training)), training)


def test_the_block_trains_in_a_plain_model():
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    labels = np.arange(64) % 2
    x = random.normal(0, 0.3, (64, 8, 8, 1)).astype("float32")
    x[labels == 1, :, :4] += 1.0  # bright above
    x[labels == 0, :, 4:] += 1.0
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            rb.ResidualBlock(8),
            rb.ResidualBlock(16, strides=2, activation="elu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    history = model.fit(x, labels, epochs=6, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["accuracy"][-1] > 0.95


def test_a_decoder_of_up_blocks_learns_to_draw():
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


def test_training_moves_the_statistics_and_inference_does_not():
    block = rb.ResidualBlock(4, strides=2)
    x = images(4, 8, 8, 3) + 3
    block(x)
    before = np.asarray(block.bn1.moving_mean)
    block(x, training=False)
    np.testing.assert_array_equal(block.bn1.moving_mean, before)
    block(x, training=True)
    assert np.abs(np.asarray(block.bn1.moving_mean) - before).max() > 0


@pytest.mark.parametrize(
    ("cls", "size", "expected"), [(rb.ResidualBlock, (9, 12), (5, 6)), (rb.ResidualUpBlock, (3, 4), (6, 8))]
)
def test_channels_are_inferred_and_height_and_width_may_be_unknown(cls, size, expected):
    image = keras.Input((None, None, 5))
    model = keras.Model(image, cls(7, 2)(image))
    assert model.output.shape == (None, None, None, 7)
    assert model(images(1, *size, 5)).shape == (1, *expected, 7)


@OF_BOTH
def test_a_block_starts_as_its_shortcut_if_asked(cls):
    x = np.abs(images(1, 6, 6, 4))
    expected = enlarged(x, 2) if cls is rb.ResidualUpBlock else x
    np.testing.assert_allclose(cls(4, zero_init_last=True)(x), expected)


@pytest.mark.parametrize(
    ("cls", "filters", "factor"),
    [(rb.ResidualBlock, 4, 1), (rb.ResidualBlock, 4, 2), (rb.ResidualUpBlock, 4, 3), (rb.ResidualUpBlock, 6, 3)],
)
def test_a_saved_model_with_blocks_gives_the_same_outputs(tmp_path, cls, filters, factor):
    image = keras.Input((8, 8, 4))
    block = cls(filters, factor, "hard_swish", bn_momentum=0.8, bn_epsilon=1e-3, name="block")
    model = keras.Model(image, block(image))
    randomise(block)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(2, 8, 8, 4)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_layer("block").get_config() == block.get_config()


@OF_BOTH
def test_its_parts_follow_its_dtype_policy(cls):
    block = cls(4, 2, dtype="mixed_bfloat16")
    assert "bfloat16" in str(block(images(1, 8, 8, 3)).dtype)
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


@OF_BOTH
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"filters": 0}, ValueError, "filters must be at least 1; got 0"),
        ({"activation": "rellu"}, ValueError, "no activation is called 'rellu'"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(cls, arguments, error, message):
    with pytest.raises(error, match=message):
        cls(**{"filters": 4, **arguments})


@pytest.mark.parametrize(("cls", "factor"), [(rb.ResidualBlock, "strides"), (rb.ResidualUpBlock, "scale")])
def test_factors_are_whole_and_images_have_four_dimensions(cls, factor):
    with pytest.raises(TypeError, match=f"{factor} must hold integers; got 1.5"):
        cls(4, **{factor: 1.5})
    with pytest.raises(ValueError, match=rf"{cls.__name__} .* takes \(batch, height, width, channels\)"):
        cls(4)(images(2, 8))
