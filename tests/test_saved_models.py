"""What was changed on a model's layers is there again in files, copies and pickles."""

from __future__ import annotations

import copy
import functools
import json
import pickle

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.backbones.model import SpecBackbone
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from resnet_backbones.layers import ResidualBlock
from tests.support.processes import run_python
from tests.sweeps.saved_models import CHANGES, IMAGES, TASKS, backbone_of, changed_model, differences, facts

layers = keras.layers


def rebuilt(model):
    """The model of its own configuration, after a trip through JSON, with the same weights."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    again = keras.saving.deserialize_keras_object(config)
    again.set_weights(model.get_weights())
    return again


@functools.cache
def unchanged(task):
    return facts(changed_model(task, "resnet", "nothing", quantized=False))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("task", ["backbone", "image classifier"])
def test_every_change_is_there_again(task, change):
    model = changed_model(task, "resnet", change, quantized=False)
    expected = facts(model)
    again = rebuilt(model)
    assert differences(facts(again), expected) == []
    if change != "nothing":
        plain = {**unchanged(task), "name": model.name}
        assert differences(plain, expected) or (change == "variables" and not IS_KERAS_3)
    assert differences(facts(rebuilt(again)), expected) == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_keeps_them(task):
    model = changed_model(task, "mobilenet", "everything", quantized=False)
    assert differences(facts(rebuilt(model)), facts(model)) == []


@pytest.mark.parametrize("change", ["freeze all", "thaw one"])
@pytest.mark.parametrize("task", ["retinanet", "deeplab"])
def test_layers_in_layers_of_a_frozen_task_stay_frozen(task, change):
    model = changed_model(task, "resnet", change, quantized=False)
    assert differences(facts(rebuilt(model)), facts(model)) == []


def test_copies_pickles_and_files_of_quantized_models_keep_them(tmp_path):
    model = changed_model("image classifier", "resnet", "everything", quantized=True)
    expected = facts(model)
    rb.export_model(model, tmp_path / "it.keras")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), rb.load_model(tmp_path / "it.keras")):
        assert differences(facts(again), expected) == []


def test_nothing_is_written_of_layers_nobody_changed():
    assert set(backbone_of("resnet").get_config()) == {"spec", "input_shape", "name", "dtype", "trainable"}
    assert "layer_changes" not in changed_model("retinanet", "resnet", "nothing", quantized=False).get_config()


FRESH = """
import sys, numpy as np, resnet_backbones as rb
model = rb.load_model(sys.argv[1])
before = model.backbone.get_weights()
model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
model.fit(np.ones((4, 64, 64, 3), "float32"), np.arange(4) % 3, verbose=0)
print(sum(not np.array_equal(a, b) for a, b in zip(before, model.backbone.get_weights())), model.backbone.trainable)
"""


@pytest.mark.parametrize("built_by", ["adapter", "keras_cv"])
def test_a_frozen_backbone_does_not_train_in_a_fresh_process(built_by, tmp_path):
    keras_cv = pytest.importorskip("keras_cv")
    backbone = backbone_of("resnet")
    backbone.trainable = False
    build = rb.adapters.keras_cv.image_classifier if built_by == "adapter" else keras_cv.models.ImageClassifier
    build(backbone=backbone, num_classes=3).save(tmp_path / "it.keras")
    assert run_python(FRESH, tmp_path / "it.keras").split()[-2:] == ["0", "False"]


def test_building_on_a_frozen_backbone_does_not_unfreeze_it():
    backbone = backbone_of("resnet")
    backbone.trainable = False
    plain = keras.Model(backbone.input, backbone.output)
    plain.trainable = False
    assert rb.from_model(plain, backbone.pyramid_level_inputs).trainable is False
    for task in TASKS:
        TASKS[task](backbone)
        assert not any(layer.trainable for layer in backbone._flatten_layers())


def test_regularizers_set_on_layers_count_once_the_model_is_loaded():
    model = changed_model("backbone", "resnet", "regularize", quantized=False)
    again = rebuilt(model)
    kernels = [layer.kernel for layer in again.layers if isinstance(layer, layers.Conv2D)]
    expected = sum(0.125 * np.sum(np.square(kernel)) for kernel in kernels)
    assert len(again.losses) == len(kernels)
    np.testing.assert_allclose(np.sum(again.losses), expected, rtol=1e-5)


def test_replaced_layers_and_weights_of_other_shapes_are_refused_and_saved_layer_by_layer(tmp_path):
    backbone = backbone_of("resnet")
    backbone.layers[-1].__class__ = type("Mine", (type(backbone.layers[-1]),), {})
    with pytest.raises(NotImplementedError, match=r"is a Mine with .* now\. .*from_model\("):
        backbone.save(tmp_path / "it.keras")
    if IS_KERAS_3:
        backbone = backbone_of("resnet")
        backbone.get_layer("stem_conv1").enable_lora(2)
        with pytest.raises(NotImplementedError, match=r"'stem_conv1' was a Conv2D with weights of shapes .*from_model"):
            backbone.save(tmp_path / "it.keras")
        whole = rb.from_model(keras.Model(backbone.input, backbone.output), backbone.pyramid_level_inputs)
        whole.save(tmp_path / "it.keras")
        again = rb.load_model(tmp_path / "it.keras")
        np.testing.assert_allclose(again(IMAGES), backbone(IMAGES), atol=1e-5)


def test_changes_saved_with_layers_that_are_no_more_are_an_error():
    config = backbone_of("resnet").get_config()
    config["layer_changes"] = {"stem_conv9": {"trainable": False}}
    with pytest.raises(ValueError, match="changes to the layers stem_conv9, which it no longer has"):
        SpecBackbone.from_config(config)


def test_files_of_0_1_0_without_changes_load_and_a_frozen_one_stays_frozen():
    config = {**backbone_of("resnet").get_config(), "trainable": False}
    config["spec"].pop("kernel_regularizer")
    backbone = SpecBackbone.from_config(config)
    assert not backbone.trainable_weights
    assert not any(layer.trainable for layer in backbone.layers)


@pytest.mark.parametrize("given", [1e-4, {"l2": 1e-4}, keras.regularizers.L2(1e-4)])
def test_a_spec_regularizes_every_kernel(given):
    backbone = rb.create_backbone("mobilenetv2_050", input_shape=(32, 32, 3), kernel_regularizer=given)
    kernels = [weight for weight in backbone.trainable_weights if len(weight.shape) == 4]
    assert len(backbone.losses) == len(kernels)
    expected = 1e-4 * sum(np.sum(np.square(kernel)) for kernel in kernels)
    np.testing.assert_allclose(np.sum(backbone.losses), expected, rtol=1e-5)
    assert len(rebuilt(backbone).losses) == len(kernels)


def test_a_regularizer_of_another_kind_is_an_error_that_says_how():
    with pytest.raises(TypeError, match=r"kernel_regularizer must be None, a number .*layer\.kernel_regularizer"):
        rb.ResNetSpec(kernel_regularizer=keras.regularizers.OrthogonalRegularizer())


def test_a_residual_block_keeps_what_was_changed_inside_it():
    image = layers.Input((8, 8, 4))
    model = keras.Model(image, ResidualBlock(8, strides=2, name="block")(image))
    block = model.get_layer("block")
    block.bn1.trainable = False
    block.bn2.epsilon = 0.25
    block.act1.activation = keras.activations.elu
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 4))
    for again in (rebuilt(model), copy.deepcopy(model)):
        assert [weight.shape for weight in again.trainable_weights] == [w.shape for w in model.trainable_weights]
        np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))
    block.trainable = False
    assert not rebuilt(model).get_layer("block").trainable_weights
    assert not any(layer.trainable for layer in rebuilt(model).get_layer("block")._flatten_layers())
