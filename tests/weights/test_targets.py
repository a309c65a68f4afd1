"""What weights go into: whole tasks, and models that hold several backbones."""

import warnings

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.keras_compat import keras
from tests.support.nets import assert_same, values
from tests.weights.models import SPEC, classifier, randomise_all_but_kernels, timm_state, tiny

SIZE = (64, 64, 3)


def retinanet(**arguments):
    return rb.adapters.keras_cv.retinanet(
        rb.create_backbone(
            SPEC.replace(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4)), input_shape=SIZE, preprocessing=None
        ),
        3,
        "xywh",
        head_depth=1,
        **arguments,
    )


def deeplab():
    return rb.adapters.keras_cv.deeplab_v3_plus(
        rb.create_backbone(
            SPEC.replace(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4)), input_shape=SIZE, preprocessing=None
        ),
        3,
    )


def own_classifier():
    return classifier()


def shuffle(model, seed=0):
    random = np.random.default_rng(seed)
    model.set_weights([random.uniform(0.5, 1.5, value.shape).astype(value.dtype) for value in model.get_weights()])
    return model


@pytest.fixture(scope="module", params=[retinanet, deeplab, own_classifier])
def task(request):
    return request.param, shuffle(request.param())


@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_a_file_of_a_task_sets_all_of_it(tmp_path, task, ending):
    make, model = task
    path = tmp_path / f"x.{ending}"
    model.save(path) if ending == "keras" else rb.weights.save(model, path)
    other = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        rb.weights.load(other, path)
    assert_same(values(model), values(other))


def test_a_file_of_another_task_of_the_kind_is_a_mismatch(tmp_path):
    retinanet().save(tmp_path / "x.keras")
    other = rb.adapters.keras_cv.retinanet(retinanet().backbone, 5, "xywh", head_depth=1)
    before = values(other)
    with pytest.raises(rb.weights.WeightsMismatchError, match="of another shape"):
        rb.weights.load(other, tmp_path / "x.keras")
    assert_same(before, values(other))


@pytest.mark.parametrize("ending", ["keras", "weights.h5", "npz", "safetensors"])
def test_a_file_of_a_backbone_names_what_a_detector_keeps(tmp_path, ending):
    detector = retinanet()
    backbone = shuffle(detector.backbone.__class__.from_config(detector.backbone.get_config()))
    path = tmp_path / f"x.{ending}"
    backbone.save(path) if ending == "keras" else rb.weights.save(backbone, path)
    with pytest.warns(UserWarning, match=r"keep those they had: .*feature_pyramid.*pass the backbone itself"):
        rb.weights.load(detector, path)
    assert_same(values(backbone), values(detector.backbone))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        rb.weights.load(detector.backbone, path)


def test_a_backbone_takes_its_part_of_a_detectors_file(tmp_path):
    detector = shuffle(retinanet())
    detector.save(tmp_path / "x.keras")
    other = retinanet().backbone
    rb.weights.load(other, tmp_path / "x.keras")
    assert_same(values(detector.backbone), values(other))


def test_what_saving_advises_works(tmp_path):
    detector = shuffle(retinanet())
    with pytest.raises(ValueError, match=r"has more \(.*feature_pyramid.*weights.save\(model, 'name.weights.h5'\)"):
        rb.weights.save(detector, tmp_path / "x.npz")
    rb.weights.save(detector, tmp_path / "name.weights.h5")
    other = retinanet()
    rb.weights.load(other, tmp_path / "name.weights.h5")
    assert_same(values(detector), values(other))
    rb.weights.save(detector, tmp_path / "x.npz", backbone=detector.backbone.name)
    rb.weights.load(other.backbone, tmp_path / "x.npz")


# --- two backbones in one model ---------------------------------------------------------------------------------------


def two(first=SPEC, second=SPEC):
    """A functional model of two backbones, called left and right."""
    config = [tiny(spec).get_config() | {"name": name} for spec, name in ((first, "left"), (second, "right"))]
    left, right = (type(tiny()).from_config(one) for one in config)
    image = keras.Input((32, 32, 3))
    pooled = [keras.layers.GlobalAveragePooling2D()(backbone(image)) for backbone in (left, right)]
    return keras.Model(image, keras.layers.Dense(2)(keras.layers.Concatenate()(pooled))), left, right


@pytest.mark.parametrize("second", [SPEC, SPEC.replace(widths=(4, 16))], ids=["alike", "unlike"])
@pytest.mark.parametrize("how", ["npz", "safetensors", "weights.h5", "keras", "timm"])
def test_two_backbones_are_an_error_that_names_both_until_one_is_chosen(tmp_path, second, how):
    model, left, right = two(second=second)
    source = shuffle(tiny())
    path = tmp_path / f"x.{how}"
    if how == "keras":
        source.save(path)
    elif how != "timm":
        rb.weights.save(source, path)

    def load(**choice):
        if how == "timm":
            rb.weights.from_timm(model, {k: v for k, v in timm_state().items() if not k.startswith("fc")}, **choice)
        else:
            rb.weights.load(model, path, **choice)

    before = values(model)
    with pytest.raises(ValueError, match=r"holds 2 backbones: 'left' \(.*'right' \(.*backbone='left'"):
        load()
    assert_same(before, values(model))
    untouched = values(right)
    load(backbone="left")
    assert_same(untouched, values(right))
    assert not np.array_equal(np.asarray(left.get_weights()[0]), before[0])
    load(backbone=left)
    with pytest.raises(ValueError, match=r"no backbones 'middle'; its backbones are 'left', 'right'"):
        load(backbone="middle")


@pytest.mark.parametrize("ending", ["keras", "weights.h5"])
def test_a_file_of_both_needs_no_choice(tmp_path, ending):
    model = shuffle(two()[0])
    path = tmp_path / f"x.{ending}"
    model.save(path) if ending == "keras" else rb.weights.save(model, path)
    other = two()[0]
    rb.weights.load(other, path)
    assert_same(values(model), values(other))


def test_one_of_two_is_saved_by_name(tmp_path):
    model, left, right = two()
    randomise_all_but_kernels(right)
    with pytest.raises(ValueError, match="has more"):
        rb.weights.save(model, tmp_path / "x.npz")
    rb.weights.save(model, tmp_path / "x.npz", backbone="right")
    rb.weights.load(left, tmp_path / "x.npz")
    assert_same(values(right), values(left))


def test_a_file_of_two_backbones_does_not_fit_one(tmp_path):
    two()[0].save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"holds 2 backbones: 'left', 'right'. Load it with rb.load_model"):
        rb.weights.load(tiny(), tmp_path / "x.keras")


def test_one_backbone_used_twice_is_one():
    backbone = tiny()
    images = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    model = keras.Model(images, keras.layers.Concatenate()([backbone(image) for image in images]))
    state = {name: value for name, value in timm_state().items() if not name.startswith("fc")}
    rb.weights.from_timm(model, state)
    np.testing.assert_array_equal(backbone.get_layer("stem_bn1").beta, state["bn1.bias"])
