"""What the registry tells of backbones before they are built, and what it costs to ask."""

import json
import resource

import pytest

import resnet_backbones as rb
from resnet_backbones.errors import UnknownNameError
from tests.support.processes import run_python

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


def test_listing_and_describing_import_no_tensorflow():
    code = """
import resnet_backbones as rb
assert "resnet50" in rb.list_backbones()
rb.backbone_info("resnet50d"); rb.ResNetSpec(); dir(rb)
print([name for name in ("tensorflow", "keras", "tf_keras", "numpy") if name in sys.modules])
"""
    assert run_python(code) == "[]"


def user_seconds(code):
    """CPU seconds of a fresh interpreter that runs ``code``, the least of five."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_python(code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def test_importing_and_listing_cost_less_than_a_fifth_of_a_second():
    bare = user_seconds("pass")
    assert user_seconds("import resnet_backbones as rb; rb.list_backbones()") - bare < 0.2


def test_the_catalogue_is_listed_in_natural_order():
    names = rb.list_backbones("resnet*0", family="resnet")
    assert [name for name in names if len(name) < 10] == ["resnet10", "resnet50", "resnet200"]
    assert len(rb.list_backbones()) == len(set(rb.list_backbones())) > 120


def test_a_family_and_int8_filter_names():
    assert rb.list_backbones(family="wide_resnet") == ["wide_resnet50_2", "wide_resnet101_2"]
    assert rb.list_backbones("*50*", family="wide_resnet") == ["wide_resnet50_2"]
    rb.register_backbone("selu_net", rb.ResNetSpec(activation="selu"), family="mine")
    assert rb.list_backbones(family="mine", quantizable=True) == []
    assert rb.list_backbones(family="mine", quantizable=False) == ["selu_net"]
    assert rb.list_families()[-1] == "mine"


def test_an_unknown_family_gives_the_nearest():
    with pytest.raises(UnknownNameError, match=r"family 'resnexxt'. Did you mean 'resnext'.*Families: resnet, "):
        rb.list_backbones(family="resnexxt")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("resnet50?", ["resnet50c", "resnet50d", "resnet50s", "resnet50t"]),
        ("seresnet?8", ["seresnet18"]),
        ("nothing*", []),
    ],
)
def test_a_pattern_filters_names(pattern, expected):
    assert rb.list_backbones(pattern) == expected


def test_info_gives_channels_and_strides_without_building():
    info = rb.backbone_info("resnet50s")
    assert info.levels == {"P1": (128, 2), "P2": (256, 4), "P3": (512, 8), "P4": (1024, 16), "P5": (2048, 32)}
    assert info.spec.stem == "deep"
    assert "ResNet-50-S" in info.description
    assert info.owner == "resnet_backbones.backbones.catalogue"


def test_info_tells_paper_cost_and_weights():
    info = rb.backbone_info("resnet50")
    assert info.family == "resnet"
    assert info.paper == "He et al. 2015, https://arxiv.org/abs/1512.03385"
    assert (info.parameters, round(info.gmacs, 2), info.input_size) == (23_508_032, 4.09, 224)
    assert info.preprocessing == "imagenet"
    assert info.weights[0] == "hf-hub:timm/resnet50.a1_in1k"
    assert info.quantizable is True
    assert info.float_activations == ()


def test_multiply_accumulates_are_counted_at_the_default_input_size():
    assert rb.backbone_info("resnet20").input_size == 32
    # 40.6 million: https://arxiv.org/abs/1512.03385 gives the net, its table 6 the 0.27 million parameters.
    assert round(rb.backbone_info("resnet20").gmacs * 1e3, 1) == 40.6
    assert round(rb.backbone_info("resnet20").parameters / 1e6, 2) == 0.27


def test_what_is_told_of_a_backbone_is_found_again():
    about = {
        "family": "mine",
        "paper": "Me 2026, https://example.org",
        "input_size": 96,
        "preprocessing": "zero_to_one",
    }
    rb.register_backbone("told", rb.ResNetSpec(), weights=["hf-hub:me/mine"], **about)
    info = rb.backbone_info("told")
    assert {field: getattr(info, field) for field in about} == about
    assert info.weights == ("hf-hub:me/mine",)
    assert info.gmacs < rb.backbone_info("resnet50").gmacs / 4
    assert json.loads(json.dumps(info.to_dict()))["levels"]["P5"] == {"channels": 2048, "stride": 32}


@pytest.mark.parametrize(
    ("about", "error", "message"),
    [
        ({"family": ""}, TypeError, "a family has a name"),
        ({"paper": None}, TypeError, "paper must be text"),
        ({"input_size": 0}, ValueError, "input_size must be at least 1"),
        ({"preprocessing": "torch"}, ValueError, "preprocessing='torch' is not one of"),
        ({"weights": "hf-hub:me/mine"}, TypeError, r"weights must be a list.*write \['hf-hub:me/mine'\]"),
    ],
)
def test_what_cannot_be_true_of_a_backbone_is_an_error(about, error, message):
    with pytest.raises(error, match=message):
        rb.register_backbone("untrue", rb.ResNetSpec(), **about)
    assert rb.list_backbones("untrue") == []


def test_a_block_of_keras_layers_leaves_the_figures_open_until_it_is_built():
    from resnet_backbones.keras_compat import keras

    @rb.register_block("noisy")
    def noisy(net, x, plan):
        y = net.add(keras.layers.GaussianNoise, x, f"{plan.name}_noise", 0.1)
        y = net.conv(y, plan.filters, 3, plan.name, 1, strides=plan.strides)
        return net.merge(y, net.shortcut(x, plan, plan.filters), plan)

    rb.register_backbone("noisy_net", rb.ResNetSpec(block="noisy", depths=(1,), widths=(8,)))
    info = rb.backbone_info("noisy_net")
    assert (info.levels, info.parameters, info.gmacs, info.quantizable) == ({}, None, None, None)
    assert info.spec.block == "noisy"
    assert rb.list_backbones("noisy*", quantizable=True) == rb.list_backbones("noisy*", quantizable=False) == []
    assert list(rb.create_backbone("noisy_net").feature_info) == ["P1", "P2"]
