import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras

ACTIVATIONS = {"relu": lambda x: np.maximum(x, 0), "silu": lambda x: x / (1 + np.exp(-x))}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(block, seed=1):
    """Random kernels, batch-norm statistics and affine parameters (a variance must be positive)."""
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
    expected = by_hand(x, block, ACTIVATIONS[activation])
    output = np.asarray(block(x, training=False))
    assert output.shape == expected.shape == tuple(block.compute_output_shape(x.shape))
    assert np.abs(output - expected).max() < 1e-5 * np.abs(expected).max()


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


def test_training_moves_the_statistics_and_inference_does_not():
    block = rb.ResidualBlock(4, strides=2)
    x = images(4, 8, 8, 3) + 3
    block(x)
    before = np.asarray(block.bn1.moving_mean)
    block(x, training=False)
    np.testing.assert_array_equal(block.bn1.moving_mean, before)
    block(x, training=True)
    assert np.abs(np.asarray(block.bn1.moving_mean) - before).max() > 0


def test_channels_are_inferred_and_height_and_width_may_be_unknown():
    image = keras.Input((None, None, 5))
    model = keras.Model(image, rb.ResidualBlock(7, strides=2)(image))
    assert model.output.shape == (None, None, None, 7)
    assert model(images(1, 9, 12, 5)).shape == (1, 5, 6, 7)


def test_the_block_starts_as_its_shortcut_if_asked():
    x = np.abs(images(1, 6, 6, 4))
    np.testing.assert_allclose(rb.ResidualBlock(4, zero_init_last=True)(x), x)


@pytest.mark.parametrize("strides", [1, 2])
def test_a_saved_model_with_blocks_gives_the_same_outputs(tmp_path, strides):
    image = keras.Input((8, 8, 4))
    block = rb.ResidualBlock(4, strides, "hard_swish", bn_momentum=0.8, bn_epsilon=1e-3, name="block")
    model = keras.Model(image, block(image))
    randomise(block)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = images(2, 8, 8, 4)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.get_layer("block").get_config() == block.get_config()


def test_its_parts_follow_its_dtype_policy():
    block = rb.ResidualBlock(4, strides=2, dtype="mixed_bfloat16")
    assert "bfloat16" in str(block(images(1, 8, 8, 3)).dtype)
    assert "float32" in str(block.conv1.kernel.dtype)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rb.ResidualBlock(0), ValueError, "filters must be at least 1; got 0"),
        (lambda: rb.ResidualBlock(4, strides=1.5), TypeError, "strides must hold integers; got 1.5"),
        (lambda: rb.ResidualBlock(4, activation="rellu"), ValueError, "no activation is called 'rellu'"),
        (lambda: rb.ResidualBlock(4)(images(2, 8)), ValueError, r"takes \(batch, height, width, channels\)"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(make, error, message):
    with pytest.raises(error, match=message):
        make()
