"""Which layers of a whole detector to leave in float: heads that all levels share, several outputs."""

from __future__ import annotations

import pytest

from resnet_backbones.keras_compat import keras
from resnet_backbones.quantization import analyse, hooks_of, quantize_post_training, suggest_exclusions
from tests.support.nets import even_images, randomise, retinanet


def spoilt_detector():
    """A RetinaNet in whose class head one channel is far larger than all others."""
    keras.backend.clear_session()  # names that Keras numbers start anew, as in another process
    keras.utils.set_random_seed(0)
    model = randomise(retinanet())
    first = next(layer for layer in model.classification_head._flatten_layers() if hasattr(layer, "kernel"))
    kernel = first.get_weights()[0]
    kernel[..., 0] *= 3000
    first.set_weights([kernel, *first.get_weights()[1:]])
    return model, first.name


@pytest.mark.exhaustive  # a minute
def test_the_spoilt_head_of_a_detector_is_found_and_left_in_float():
    images = even_images(-1, 1, 2, 64, 64, 3)
    model, name = spoilt_detector()
    quantize_post_training(model, calibration_data=images)
    before = analyse(model, images).output_sqnr
    found = suggest_exclusions(model, images, target=before + 3)
    assert found.reached
    assert name in found.exclude
    assert len(found.exclude) < len(hooks_of(model)) / 4  # not simply everything
    fresh, _ = spoilt_detector()
    quantize_post_training(fresh, calibration_data=images, exclude=found.exclude)
    assert analyse(fresh, images).output_sqnr >= before + 2
