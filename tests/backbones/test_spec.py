import dataclasses
import json

import pytest

from resnet_backbones import Preprocessing, ResNetSpec, backbone_info, list_backbones
from resnet_backbones.backbones import specs
from resnet_backbones.backbones.catalogue import CATALOGUE
from resnet_backbones.backbones.cost import outline
from resnet_backbones.backbones.specs import spec_from_dict
from resnet_backbones.errors import UnknownNameError


@pytest.mark.parametrize("name", list_backbones())
def test_every_spec_survives_json(name):
    spec = backbone_info(name).spec
    assert spec_from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_specs_knows_every_family():
    """Else a saved model loads only in a process that has read the catalogue."""
    assert {type(variant.spec).__name__ for variant in CATALOGUE.values()} <= set(specs.__all__)


def test_defaults_that_hang_on_other_fields_follow_them():
    spec = backbone_info("resnet18").spec
    assert (spec.strides, spec.pool) == ((1, 2, 2, 2), "max")
    assert spec.replace(depths=(1, 1, 1), widths=(8, 16, 16)).strides == (1, 2, 2)
    assert spec.replace(stem="3x3").pool == "none"
    assert outline(spec.replace(stem="3x3")).levels["P5"] == (512, 8)


def test_a_spec_of_no_known_family_says_which_there_are():
    with pytest.raises(UnknownNameError, match=r"'resnets'\. Did you mean 'resnet'.*Known: .*resnet"):
        spec_from_dict({"family": "resnets"})


def test_a_spec_with_everything_changed_survives_json():
    spec = ResNetSpec(
        block="basic",
        depths=[2, 3],
        widths=[8, 16],
        stage_strides=[2, 2],
        stride_in_last=True,
        stem="deep_tiered",
        stem_width=16,
        stem_pool="none",
        shortcut="avg_pool",
        shortcut_kernel=3,
        groups=2,
        group_width=32,
        scale=2,
        reduce_first=2,
        attention="se",
        attention_ratio=0.25,
        antialias="blur",
        activation="silu",
        stride_in_1x1=True,
        conv_bias=True,
        raw_levels=True,
        padding="same",
        bn_momentum=0.99,
        bn_epsilon=1e-3,
        zero_init_last=False,
        drop_path_rate=0.2,
        output_stride=8,
        preprocessing={"scale": [1, 2, 3], "offset": 0},
        kernel_regularizer={"l1": 0.5, "l2": 0.25},
    )
    defaults = ResNetSpec()
    assert all(getattr(spec, field.name) != getattr(defaults, field.name) for field in dataclasses.fields(spec))
    assert ResNetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec) == hash(spec.replace())


def test_a_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ResNetSpec().depths = (1,)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"depths": (2, 2)}, ValueError, "describes 2 stages and widths="),
        ({"depths": (2, 0, 2, 2)}, ValueError, "depths must be at least 1; got 0"),
        ({"depths": (2.0, 2, 2, 2)}, TypeError, "depths must hold integers; got 2.0"),
        ({"depths": 4}, TypeError, "depths must be a tuple of integers"),
        ({"depths": ()}, TypeError, "depths must be a tuple of integers"),
        ({"widths": (True, 2, 2, 2)}, TypeError, "widths must hold integers"),
        ({"block": None}, TypeError, "block must be a name, e.g. 'bottleneck'"),
        ({"activation": ""}, TypeError, "activation must be a name, e.g. 'relu'"),
        ({"stem": "5x5"}, ValueError, "stem='5x5' is not one of '7x7', 'deep', 'deep_tiered'"),
        ({"shortcut": "max"}, ValueError, "shortcut='max' is not one of 'conv', 'avg_pool'"),
        ({"output_stride": 64}, ValueError, "output_stride=64 is not one of 8, 16, 32"),
        ({"stem": "deep_tiered", "stem_width": 30}, ValueError, "must divide by 4; got 30"),
        ({"stem_width": 0}, ValueError, "stem_width must be at least 1"),
        ({"drop_path_rate": 1.0}, ValueError, "drop_path_rate must be at least 0.0 and below 1.0; got 1.0"),
        ({"drop_path_rate": "0.1"}, TypeError, "drop_path_rate must be a number"),
        ({"bn_epsilon": -1e-5}, ValueError, "bn_epsilon must be at least 0.0"),
        ({"stride_in_1x1": 1}, TypeError, "stride_in_1x1 must be True or False"),
        ({"preprocessing": "imagenette"}, ValueError, "'zero_to_one', 'minus_one_to_one', 'caffe_bgr', 'imagenet'"),
        ({"preprocessing": {"mean": 0}}, TypeError, "preprocessing must be None, one of"),
        ({"preprocessing": {"scale": "1"}}, TypeError, "preprocessing scale must be a number"),
        (
            {"preprocessing": {"scale": [1, 2], "offset": [1, 2, 3]}},
            ValueError,
            r"different numbers of channels: \[2, 3\]",
        ),
    ],
)
def test_a_wrong_field_says_what_is_allowed(fields, error, message):
    with pytest.raises(error, match=message):
        ResNetSpec(**fields)


def test_an_unknown_field_gives_the_nearest():
    with pytest.raises(TypeError, match=r"no field 'activations'\. Did you mean 'activation'"):
        ResNetSpec().replace(activations="silu")
    with pytest.raises(TypeError, match=r"no field 'depth'\. Did you mean 'depths'"):
        ResNetSpec.from_dict({"depth": [1]})
    with pytest.raises(ValueError, match="family 'resnest'"):
        ResNetSpec.from_dict({"family": "resnest"})


@pytest.mark.parametrize(
    ("output_stride", "strides", "first_dilations", "dilations", "levels"),
    [
        (32, [1, 2, 2, 2], [1, 1, 1, 1], [1, 1, 1, 1], [2, 4, 8, 16, 32]),
        (16, [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 2], [2, 4, 8, 16, 16]),
        (8, [1, 2, 1, 1], [1, 1, 1, 2], [1, 1, 2, 4], [2, 4, 8, 8, 8]),
    ],
)
def test_stages_dilate_where_they_may_not_stride(output_stride, strides, first_dilations, dilations, levels):
    spec = ResNetSpec(depths=(2, 2, 2, 2), output_stride=output_stride)
    plan = spec.plan()
    assert [stage[0].strides for stage in plan] == strides
    assert [stage[1].strides for stage in plan] == [1, 1, 1, 1]
    assert [stage[0].first_dilation for stage in plan] == first_dilations
    assert [stage[0].dilation for stage in plan] == dilations
    assert [stage[1].first_dilation for stage in plan] == dilations
    assert [stride for _, stride in outline(spec).levels.values()] == levels


def test_stochastic_depth_grows_linearly_to_the_last_block():
    blocks = [block for stage in ResNetSpec(depths=(1, 2), widths=(8, 8), drop_path_rate=0.2).plan() for block in stage]
    assert [block.drop_path_rate for block in blocks] == pytest.approx([0.0, 0.1, 0.2])
    assert [block.name for block in blocks] == ["stage1_block1", "stage2_block1", "stage2_block2"]


def test_a_single_block_has_no_stochastic_depth_to_spread():
    assert ResNetSpec(depths=(1,), widths=(8,), drop_path_rate=0.2).plan()[0][0].drop_path_rate == 0.0


def test_named_preprocessing_is_imagenets():
    preprocessing = ResNetSpec(preprocessing="imagenet").preprocessing
    assert preprocessing.channels == 3
    red = 255 * 0.485 * preprocessing.scale[0] + preprocessing.offset[0]
    assert red == pytest.approx(0.0)
    assert preprocessing.scale[2] == pytest.approx(1 / 255 / 0.225)
    assert Preprocessing(2.0).channels is None
