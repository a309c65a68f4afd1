import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_api import keras
from resnet_backbones.weights import WeightsMismatchError
from resnet_backbones.weights.transfer import weighted_layers

SPEC = rb.ResNetSpec(block="basic", depths=(1, 2), widths=(4, 8), stem_width=4)
THEIR_LEVELS = {
    "P1": "conv1_relu",
    "P2": "conv2_block3_out",
    "P3": "conv3_block4_out",
    "P4": "conv4_block6_out",
    "P5": "conv5_block3_out",
}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomise(model, seed=0):
    """Random biases, batch-norm statistics and affine parameters; kernels are random already."""
    random = np.random.default_rng(seed)
    for layer, names in weighted_layers(model).values():
        for name in names:
            variable = getattr(layer, name)
            if name in ("gamma", "moving_variance"):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
            elif name != "kernel":
                variable.assign(random.normal(0, 0.2, variable.shape))
    return model


def tiny(spec=SPEC, **overrides):
    return rb.create_backbone(spec, input_shape=(32, 32, 3), **overrides)


@pytest.fixture(scope="module")
def their_resnet50():
    return randomise(keras.applications.ResNet50(weights=None, include_top=False, input_shape=(None, None, 3)))


@pytest.fixture(scope="module")
def our_resnet50():
    return rb.create_backbone("resnet50", stride_in_1x1=True, bn_epsilon=1.001e-5)


@pytest.mark.parametrize("size", [(96, 96), (97, 131)], ids=["even", "odd"])
def test_resnet50_equals_keras_applications_at_every_level(their_resnet50, our_resnet50, size):
    rb.weights.from_keras_applications(our_resnet50, their_resnet50)
    x = images(2, *size, 3)
    theirs = keras.Model(
        their_resnet50.inputs[0], {level: their_resnet50.get_layer(name).output for level, name in THEIR_LEVELS.items()}
    )(x)
    ours = our_resnet50.feature_extractor()(x)
    errors = {}
    for level in THEIR_LEVELS:
        expected = np.asarray(theirs[level])
        errors[level] = float(np.abs(np.asarray(ours[level]) - expected).max() / np.abs(expected).max())
    print(errors)
    assert max(errors.values()) < 1e-4


def test_other_strides_or_epsilons_than_keras_applications_are_errors(their_resnet50):
    backbone = rb.create_backbone("resnet50")
    before = backbone.get_layer("stem_conv1").get_weights()[0]
    with pytest.raises(WeightsMismatchError) as error:
        rb.weights.from_keras_applications(backbone, their_resnet50)
    assert 'create_backbone("resnet50", stride_in_1x1=True, bn_epsilon=1.001e-5)' in str(error.value)
    assert "stem_bn1 has epsilon 1e-05, conv1_bn has 1.001e-05" in str(error.value)
    np.testing.assert_array_equal(backbone.get_layer("stem_conv1").get_weights()[0], before)


def test_another_depth_than_keras_applications_is_an_error_that_lists_the_rest(their_resnet50):
    shallow = rb.ResNetSpec(depths=(3, 4, 6), widths=(64, 128, 256), stride_in_1x1=True, bn_epsilon=1.001e-5)
    with pytest.raises(WeightsMismatchError, match=r"unexpected:\n(.*\n)* .*conv5_block1_"):
        rb.weights.from_keras_applications(rb.create_backbone(shallow), their_resnet50)


def timm_state(backbone, seed=0):
    """A random state_dict by timm's names for SPEC, written out by hand."""
    random = np.random.default_rng(seed)
    convs = {
        "conv1": (4, 3, 7, 7),
        "layer1.0.conv1": (4, 4, 3, 3),
        "layer1.0.conv2": (4, 4, 3, 3),
        "layer2.0.conv1": (8, 4, 3, 3),
        "layer2.0.conv2": (8, 8, 3, 3),
        "layer2.0.downsample.0": (8, 4, 1, 1),
        "layer2.1.conv1": (8, 8, 3, 3),
        "layer2.1.conv2": (8, 8, 3, 3),
    }
    state = {}
    for name, shape in convs.items():
        state[f"{name}.weight"] = random.normal(size=shape).astype("float32")
        norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1")
        for weight in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{weight}"] = random.uniform(0.5, 1.5, shape[0]).astype("float32")
        state[f"{norm}.num_batches_tracked"] = np.int64(7)
    return {**state, "fc.weight": np.zeros((10, 8)), "fc.bias": np.zeros(10)}


def test_timm_weights_go_where_they_belong():
    backbone = tiny()
    state = timm_state(backbone)
    rb.weights.from_timm(backbone, state)
    np.testing.assert_array_equal(
        backbone.get_layer("stage2_block2_conv1").kernel, state["layer2.1.conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(
        backbone.get_layer("stage2_block1_shortcut_bn").moving_variance, state["layer2.0.downsample.1.running_var"]
    )
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"])


def test_timm_weights_that_do_not_fit_are_listed_and_change_nothing():
    backbone = tiny()
    before = [np.array(weight) for weight in backbone.get_weights()]
    state = timm_state(backbone)
    del state["layer1.0.conv1.weight"]
    state["layer3.0.conv1.weight"] = np.zeros((16, 8, 3, 3), "float32")
    state["bn1.bias"] = np.zeros(64, "float32")
    with pytest.raises(WeightsMismatchError) as error:
        rb.weights.from_timm(backbone, state)
    message = str(error.value)
    assert "1 missing:\n    layer1.0.conv1.weight (for stage1_block1_conv1.kernel)" in message
    assert "1 unexpected:\n    layer3.0.conv1.weight" in message
    assert "1 of another shape:\n    bn1.bias (for stem_bn1.beta): (64,), not (4,)" in message
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
def test_a_file_of_this_library_restores_the_weights(tmp_path, ending):
    backbone = randomise(tiny())
    path = tmp_path / f"mine.{ending}"
    backbone.save_weights(path) if ending == "weights.h5" else backbone.save(path)
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(tiny(weights=path)(x), backbone(x))
    np.testing.assert_array_equal(tiny(weights=str(path), drop_path_rate=0.2)(x), backbone(x))


def test_weights_of_a_compiled_and_trained_backbone_load(tmp_path):
    backbone = tiny(drop_path_rate=0.1)
    backbone.compile("adam", "mse")
    backbone.fit(images(2, 32, 32, 3), images(2, 4, 4, 8), verbose=0)
    backbone.save_weights(tmp_path / "trained.weights.h5")
    x = images(2, 32, 32, 3)
    np.testing.assert_array_equal(tiny(weights=tmp_path / "trained.weights.h5")(x), backbone(x))


@pytest.mark.parametrize("ending", ["weights.h5", "keras"])
@pytest.mark.parametrize(
    ("other", "title", "item"),
    [
        (SPEC.replace(depths=(1, 1)), "unexpected", ""),
        (SPEC.replace(depths=(2, 2)), "missing", "block2_"),
        (SPEC.replace(widths=(4, 16)), "of another shape", "stage2_block1_"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error_and_changes_nothing(tmp_path, ending, other, title, item):
    path = tmp_path / f"mine.{ending}"
    backbone = randomise(tiny())
    backbone.save_weights(path) if ending == "weights.h5" else backbone.save(path)
    wanting = tiny(other)
    before = [np.array(weight) for weight in wanting.get_weights()]
    with pytest.raises(WeightsMismatchError, match=rf"(?s)\d+ {title}:\n.*{item}"):
        rb.weights.load(wanting, path)
    for old, new in zip(before, wanting.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_file_that_is_no_weights_file_is_an_error(tmp_path):
    backbone = tiny()
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        rb.weights.load(backbone, tmp_path / "absent.weights.h5")
    with pytest.raises(ValueError, match=r"come from a \.weights\.h5 or a \.keras file"):
        rb.weights.load(backbone, tmp_path / "weights.pt")
    for name in ("broken.weights.h5", "broken.keras"):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(ValueError, match="cannot be read as a"):
            rb.weights.load(backbone, tmp_path / name)
