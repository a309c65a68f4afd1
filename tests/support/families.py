"""What every family of backbones promises: tests that a family's file fills in with its small networks."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any, ClassVar

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.backbones.cost import outline
from resnet_backbones.backbones.specs import spec_from_dict
from resnet_backbones.keras_compat import IS_KERAS_3, keras
from tests.support.nets import assert_same, images, randomise


def levels_of(backbone):
    """Level -> channels and stride, as specs and the registry tell them."""
    return {level: (info.channels, info.stride) for level, info in backbone.feature_info.items()}


def trained_numbers(backbone):
    return sum(math.prod(weight.shape) for weight in backbone.trainable_weights)


def sketch(name_or_spec, **arguments):
    """The network itself. On Keras 3 without room for weights, whose values take longer than the rest."""
    if not IS_KERAS_3:
        return rb.create_backbone(name_or_spec, **arguments)
    with keras.StatelessScope(initialize_variables=False):
        backbone = rb.create_backbone(name_or_spec, **arguments)
    keras.backend.clear_session(free_memory=False)  # forgets the variables that were never made
    return backbone


def check_features(backbone, batch):
    """Each level has the channels and the size that feature_info promises, and no number is lost; the last level."""
    # Few calls: eager ones of grouped convolutions are compiled anew each time by Keras 3.
    features = backbone.feature_extractor()(batch)
    assert list(features) == list(backbone.feature_info)
    for level, info in backbone.feature_info.items():
        count, *sizes, channels = features[level].shape
        assert (count, channels) == (len(batch), info.channels), level
        for size, pixels in zip(sizes, batch.shape[1:3], strict=True):
            assert size in (pixels // info.stride, -(-pixels // info.stride)), level  # what is left over may count
        assert np.isfinite(np.asarray(features[level]).astype("float32")).all(), level
    return features[level]


def check_configuration(backbone):
    """It survives JSON, and holds the spec."""
    config = json.loads(json.dumps(backbone.get_config()))
    assert spec_from_dict(config["spec"]) == backbone.spec


class BackboneFamily:
    """Subclass it as ``TestSomething``; each table is a parametrization of one of the tests below.

    Attributes:
        specs: name -> a small spec. Together they have every part of the family.
        int8: names of those that are quantized and exported: they have every operator of the family.
        wrong: (a call, or fields that replace those of the first spec; the error; what it says).
        as_classifier: whether an image classifier is quantized rather than the backbone alone.
        cosine: the least similarity of the int8 file's output and Keras'.
    """

    specs: ClassVar[dict[str, Any]]
    int8: ClassVar[tuple[str, ...]]
    wrong: ClassVar[list[tuple[Any, type[Exception], str]]]
    as_classifier = False
    cosine = 0.999

    def pytest_generate_tests(self, metafunc):
        tables = {"kind": self.specs, "int8_kind": self.int8, "counted": getattr(self, "parameters", ())}
        for argument, table in tables.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, list(table))
        if "message" in metafunc.fixturenames:
            metafunc.parametrize(("change", "error", "message"), self.wrong)

    def check_built(self, spec, backbone):
        """What a family has to say of a small network just built."""

    def check_report(self, spec, backbone, report):
        """What a family has to say of an int8 file."""

    def test_it_is_what_its_outline_says(self, kind):
        """For images of any size, without a pixel computed."""
        spec = self.specs[kind]
        backbone, told = sketch(spec, input_shape=(None, None, 3)), outline(spec)
        assert levels_of(backbone) == told.levels
        assert trained_numbers(backbone) == told.parameters
        assert backbone.output.shape[-1] == told.output_channels
        assert told.float_activations == ()
        names = [layer.name for layer in backbone.layers]
        assert len(set(names)) == len(names)
        check_configuration(backbone)
        dilated = sketch(spec, input_shape=(None, None, 3), output_stride=8)
        assert [tuple(weight.shape) for weight in dilated.weights] == [
            tuple(weight.shape) for weight in backbone.weights
        ]
        strides = {level: (channels, min(stride, 8)) for level, (channels, stride) in told.levels.items()}
        assert levels_of(dilated) == strides
        self.check_built(spec, backbone)

    def test_quantization_leaves_nothing_in_float(self, int8_kind, tmp_path):
        """The float network first: each level, and a file."""
        spec = self.specs[int8_kind]
        backbone = randomise(rb.create_backbone(spec, input_shape=(64, 64, 3)))
        batch = images(8, 64, 64, 3)
        check_features(backbone, batch[:1])
        backbone.save(tmp_path / "backbone.keras")
        loaded = rb.load_model(tmp_path / "backbone.keras")
        assert loaded.get_config() == backbone.get_config()
        assert_same(loaded.get_weights(), backbone.get_weights())
        model = rb.adapters.keras_cv.image_classifier(backbone, num_classes=3) if self.as_classifier else backbone
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # such as: left in float
            rb.quantize_post_training(model, calibration_data=batch)
        report = rb.export_model(model, tmp_path / "backbone.tflite", parity_data=batch)
        assert not report.float_operators, report
        assert {dtype for _, dtype in report.operators} == {"int8"}
        assert report.int8_mac_share == 1.0
        assert report.parity[0].cosine > self.cosine
        self.check_report(spec, backbone, report)

    def test_a_wrong_field_says_what_is_allowed(self, change, error, message):
        with pytest.raises(error, match=message):
            change() if callable(change) else next(iter(self.specs.values())).replace(**change)


class CountedFamily(BackboneFamily):
    """A family that another library has too.

    Attributes:
        parameters: names of the catalogue -> the trainable numbers that the other library has for them.
    """

    parameters: ClassVar[dict[str, int]]

    def parameters_of(self, name):
        return rb.backbone_info(name).parameters

    def test_a_backbone_of_the_catalogue_is_as_large_as_in_other_libraries(self, counted):
        assert self.parameters_of(counted) == self.parameters[counted]
        assert list(rb.backbone_info(counted).levels) == ["P1", "P2", "P3", "P4", "P5"]
