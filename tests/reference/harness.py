"""Our backbones against other libraries' models of random weights: every level and the logits, nothing downloaded.

A test of a family is three lines::

    @pytest.mark.parametrize("name", NAMES)
    def test_every_level_and_the_logits_equal_timm(name):
        within_bound(compare_with_timm(name))

For another library build its ``randomised`` model, our ``classifier_of``, load the weights, then ``compare``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import resnet_backbones as rb

BOUND = 1e-4  # largest error allowed, as a share of the largest magnitude in the feature map
CLASSES = 10
SIZE = (75, 64)  # not a multiple of 32, not square, two or more pixels at stride 32
RECORDS = Path(__file__).resolve().parents[2] / "runs" / "numerics"


def randomised(model, seed=0, *, calm=False):
    """The model in inference mode, its batch-norm statistics, affine parameters and biases random too.

    A model of torch or of either Keras. Fresh ones have statistics 0 and 1, scales 1 (or 0) and biases 0, which would
    hide mistakes.

    ``calm``, for timm's bottlenecks, keeps the scales of each block's last batch norm between 0.1 and 0.5, as training
    leaves them. With scales round 1, features grow from block to block, to 10,000 in stage 3 of a net of 36 gated
    blocks, and gates between such numbers amplify rounding: timm's own seresnet152 in float32 then differs by 0.3 from
    itself in float64 at P4, and by 0.66 at P5; calm, by 1e-6.
    """
    if isinstance(model, torch.nn.Module):
        return _randomised_torch(model, seed, calm)
    return _randomised_keras(model, seed)


def _randomised_torch(model, seed, calm):
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            low, high = (0.1, 0.5) if calm and name.endswith(".bn3") else (0.5, 1.5)
            torch.nn.init.uniform_(module.weight, low, high)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
        elif isinstance(getattr(module, "bias", None), torch.nn.Parameter):
            torch.nn.init.normal_(module.bias, std=0.2)
    return model.eval()


def _randomised_keras(model, seed):
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if any(cls.__name__ == "BatchNormalization" for cls in type(layer).__mro__):
            size = layer.gamma.shape
            layer.gamma.assign(random.uniform(0.5, 1.5, size))
            layer.beta.assign(random.normal(0, 0.2, size))
            layer.moving_mean.assign(random.normal(0, 0.2, size))
            layer.moving_variance.assign(random.uniform(0.5, 2.0, size))
        elif getattr(layer, "use_bias", False) and getattr(layer, "bias", None) is not None:
            layer.bias.assign(random.normal(0, 0.2, layer.bias.shape))
    return model


def random_images(size=SIZE, channels=3, batch=2):
    """(batch, height, width, channels), normally distributed."""
    return np.random.default_rng(1).normal(size=(batch, *size, channels)).astype("float32")


def classifier_of(backbone, num_classes=CLASSES):
    """A classifier round the backbone that gives logits."""
    return rb.adapters.keras_cv.image_classifier(backbone, num_classes=num_classes, activation=None)


def torch_outputs(model, images, *, levels=None):
    """What a torch model gives for our images: (feature maps as (batch, height, width, channels), logits).

    Args:
        model: timm's or torchvision's.
        images: (batch, height, width, channels).
        levels: which feature maps: names of the modules whose outputs they are; or a function (model, images of
            torch) -> feature maps. By default those that timm's ``forward_intermediates`` gives.
    """
    inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    kept = {}
    handles = []
    if levels is not None and not callable(levels):
        for name in levels:
            module = model.get_submodule(name)

            # Copied at once: the next module may work in place.
            def keep(module, inputs, output, name=name):
                kept[name] = output.clone()

            handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        logits = model(inputs)
        if levels is None:
            features = model.forward_intermediates(inputs, intermediates_only=True)
        elif callable(levels):
            features = levels(model, inputs)
        else:
            features = [kept[name] for name in levels]
    for handle in handles:
        handle.remove()
    return [feature.numpy().transpose(0, 2, 3, 1) for feature in features], logits.numpy()


def compare(backbone, classifier, images, expected_levels, expected_logits):
    """Level (and ``"logits"``) -> largest error, as a share of the largest magnitude expected there.

    Args:
        backbone: ours, its weights set.
        classifier: the model round it that gives logits; ``None`` to leave them out.
        images: (batch, height, width, channels).
        expected_levels: the other library's feature maps, level -> array, or one for each level in order.
        expected_logits: (batch, classes).
    """
    features = backbone.feature_extractor()(images, training=False)
    if not hasattr(expected_levels, "items"):
        expected_levels = dict(zip(features, expected_levels, strict=True))
    errors = {level: error(features[level], expected, level) for level, expected in expected_levels.items()}
    if classifier is not None:
        errors["logits"] = error(classifier(images, training=False), expected_logits, "logits")
    return errors


def error(ours, theirs, what=""):
    """The largest error, as a share of the largest magnitude."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{what}: ours is {ours.shape}, theirs {theirs.shape}"
    largest = float(np.abs(theirs).max())
    assert np.isfinite(largest), f"{what}: the reference itself overflows"
    assert largest > 0, f"{what}: the reference is all zeros, which proves nothing"
    return float(np.abs(ours - theirs).max()) / largest


def record(source, name, errors, **more):
    """Appends the errors to ``runs/numerics/<source>-<name>.json``, a line of JSON, for docs/numerics.md."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"source": source, "name": name, **more, "errors": errors})
    with open(RECORDS / f"{source}-{name}.json", "a", encoding="utf-8") as file:
        file.write(line + "\n")


def within_bound(errors, bound=BOUND):
    """Asserts that every error is below the bound."""
    assert errors
    assert all(value < bound for value in errors.values()), errors


def compare_with_timm(
    name, *, timm_name=None, size=SIZE, channels=3, levels=None, timm_options=None, ours=None, calm=False, **overrides
):
    """The errors of our backbone against timm's model of the same name; recorded where no option is given.

    Args:
        name: our name.
        timm_name: timm's, if it is another.
        size: (height, width) of the images.
        channels: of the images.
        levels: what timm's feature maps are, as in :func:`torch_outputs`.
        timm_options: for ``timm.create_model``.
        ours: what ``create_backbone`` gets, by default ``name``.
        calm: as in :func:`randomised`.
        **overrides: for ``create_backbone``.
    """
    import timm

    options = {"in_chans": channels, "num_classes": CLASSES, **(timm_options or {})}
    reference = randomised(timm.create_model(timm_name or name, pretrained=False, **options), calm=calm)
    images = random_images(size, channels)
    expected, logits = torch_outputs(reference, images, levels=levels)
    backbone = rb.create_backbone(ours or name, input_shape=(None, None, channels), **overrides)
    classifier = classifier_of(backbone, options["num_classes"])
    rb.weights.from_timm(classifier, reference.state_dict())
    errors = compare(backbone, classifier, images, expected, logits)
    print(f"timm {name} {size} {overrides}: {errors}")
    if not overrides and not timm_options and channels == 3:
        record("timm", name, errors, size=list(size), calm=calm)
    return errors
