"""Checkpoints as training scripts write them: wrapped, prefixed, with other things beside the network."""

import itertools
import warnings

import numpy as np
import pytest

import resnet_backbones as rb
from resnet_backbones.weights import WeightsMismatchError
from tests.support.nets import assert_same, values
from tests.weights.models import classifier, timm_state, tiny

HEAD = ("fc.weight", "fc.bias")
PREFIXES = ["", "module.", "_orig_mod.module.", "model._orig_mod.", "net.", "backbone.body.", "a.b.c.d.", "timm_model."]
WRAPPERS = [(), ("state_dict",), ("model",), ("weights",), ("ema",), ("checkpoint", "net")]
BESIDE = {
    "nothing": {},
    "a buffer": {"criterion.pos_weight": (3,)},
    "heads": {"neck.lateral_convs.0.conv.weight": (8, 4, 1, 1), "head.fc.weight": (10, 8), "rpn.bias": (3,)},
    "a module within": {"{p}projection_head.0.weight": (8, 8), "{p}prototypes.weight": (5, 8), "{p}queue": (8, 9)},
    "counters": {"n_averaged": (), "{p}bn1.num_batches_tracked": ()},
}


def network(seed=0, head=False):
    return {name: value for name, value in timm_state(seed).items() if head or name not in HEAD}


def checkpoint(prefix, wrappers, beside, state):
    found = {f"{prefix}{name}": value for name, value in state.items()}
    found |= {name.format(p=prefix): np.ones(shape, "float32") for name, shape in BESIDE[beside].items()}
    for wrapper in wrappers:
        found = {wrapper: found, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": np.ones(4)}}, "param_groups": []}}
    return found


def loaded(backbone, state):
    kernel = np.asarray(backbone.get_layer("stage2_block2_conv1").kernel)
    return np.array_equal(kernel, state["layer2.1.conv1.weight"].transpose(2, 3, 1, 0)) and np.array_equal(
        backbone.get_layer("stem_bn1").beta, state["bn1.bias"]
    )


@pytest.fixture(scope="module")
def backbone():
    return tiny()


@pytest.fixture(scope="module")
def empty(backbone):
    return backbone.get_weights()


@pytest.mark.parametrize("beside", BESIDE)
def test_the_network_is_found_wherever_it_is(backbone, empty, beside):
    """Every prefix in every wrapper; what lies beside a network is named and blocks nothing."""
    state = network()
    for prefix, wrappers in itertools.product(PREFIXES, WRAPPERS):
        backbone.set_weights(empty)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            rb.weights.from_timm(backbone, checkpoint(prefix, wrappers, beside, state))
        assert loaded(backbone, state), (prefix, wrappers)
        said = [str(warning.message) for warning in seen]
        assert len(said) == (beside in ("a buffer", "heads", "a module within")), (prefix, wrappers, said)
        for word in {"a buffer": ["criterion"], "heads": ["neck", "head", "rpn"]}.get(beside, []) if said else []:
            assert word in said[0]


def test_a_classifier_takes_its_head_under_the_same_prefix():
    state, model = network(head=True), classifier()
    rb.weights.from_torchvision(model, checkpoint("module.", ("model",), "nothing", state))
    np.testing.assert_array_equal(model.get_layer("predictions").kernel, state["fc.weight"].T)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_files_are_searched_too(tmp_path, backbone, empty, ending, prefix):
    import safetensors.numpy

    state, path = network(), tmp_path / f"x.{ending}"
    arrays = {name: np.asarray(value) for name, value in checkpoint(prefix, (), "counters", state).items()}
    np.savez(path, **arrays) if ending == "npz" else safetensors.numpy.save_file(arrays, path)
    backbone.set_weights(empty)
    rb.weights.load(backbone, path)
    assert loaded(backbone, state)


TWICE = {
    "student and teacher": ("student/module.backbone.", "teacher/backbone."),
    "query and key": ("state_dict/module.encoder_q.", "state_dict/module.encoder_k."),
    "net and target": ("state_dict/learner.net.", "state_dict/learner.target_encoder.net."),
    "two wrappers": ("model/", "state_dict/"),
}


def twice(first, second, one, other):
    found = {}
    for part, state in ((first, one), (second, other)):
        *wrappers, prefix = part.split("/")
        found.setdefault("/".join(wrappers), {}).update({f"{prefix}{name}": value for name, value in state.items()})
    return found


@pytest.mark.parametrize("case", TWICE)
def test_a_network_that_is_there_twice_is_an_error_unless_one_is_chosen(backbone, empty, case):
    one, other = network(0), network(1)
    state = twice(*TWICE[case], one, other)
    backbone.set_weights(empty)
    for skip in (False, True):
        with pytest.raises(
            ValueError, match=r"holds the network 2 times: 40 of its 40 weights .*Choose one with prefix="
        ):
            rb.weights.from_timm(backbone, state, skip_mismatch=skip)
    assert_same(empty, values(backbone))
    for part, wanted in zip(TWICE[case], (one, other), strict=True):
        for choice in (part, part.partition("/")[2] or part, part.rstrip("./")):
            rb.weights.from_timm(backbone, state, prefix=choice)
            assert loaded(backbone, wanted)
    with pytest.raises(ValueError, match=r"no weights of this network under prefix 'momentum'. There are some under"):
        rb.weights.from_timm(backbone, state, prefix="momentum")


@pytest.mark.parametrize("averaged", ["model_ema", "state_dict_ema", "ema", "ema_state_dict"])
def test_of_equals_the_averaged_is_taken_if_it_fits(backbone, averaged):
    plain, mean = network(0), network(1)
    wrapped = {"n_averaged": np.array(5), **{f"module.{name}": value for name, value in mean.items()}}
    rb.weights.from_timm(backbone, {"model": plain, averaged: wrapped, "epoch": 2})
    assert loaded(backbone, mean)
    del wrapped["module.conv1.weight"]
    rb.weights.from_timm(backbone, {"model": plain, averaged: wrapped, "epoch": 2})
    assert loaded(backbone, plain)


@pytest.mark.parametrize(
    ("extra", "shape"),
    [
        ("layer1.1.conv1.weight", (4, 4, 3, 3)),  # a deeper network
        ("layer3.0.conv1.weight", (16, 8, 3, 3)),
        ("layer1.0.se.fc1.weight", (2, 4, 1, 1)),  # with attention
        ("conv1.3.weight", (4, 4, 3, 3)),  # with another stem
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_another_network_is_not_taken_for_this_one(backbone, empty, extra, shape, prefix):
    backbone.set_weights(empty)
    state = network() | {extra: np.ones(shape, "float32")}
    with pytest.raises(WeightsMismatchError, match=rf"1 unexpected:\n    {extra}"):
        rb.weights.from_timm(backbone, checkpoint(prefix, (), "nothing", state))
    assert_same(empty, values(backbone))


def test_a_mismatch_says_under_which_prefix_it_looked(backbone):
    state = network()
    del state["conv1.weight"]
    with pytest.raises(
        WeightsMismatchError, match=r"1 missing:\n    conv1.weight.*\nIn it all names are under prefix 'a.b.'"
    ):
        rb.weights.from_timm(backbone, checkpoint("a.b.", (), "nothing", state))
    with pytest.raises(WeightsMismatchError, match=r"the names that fit best are under prefix 'state_dict/a.b.'"):
        rb.weights.from_timm(backbone, checkpoint("a.b.", ("state_dict",), "heads", state))
    strangers = {f"encoder.trunk.{number}.kernel": np.ones(3) for number in range(5)}
    with pytest.raises(WeightsMismatchError, match=r"all names are under prefix 'encoder.trunk.'"):
        rb.weights.from_timm(backbone, strangers)


def test_skipping_mismatches_loads_what_fits_from_under_a_prefix(backbone, empty):
    backbone.set_weights(empty)
    state = network()
    del state["conv1.weight"]
    state["layer1.0.conv1.weight"] = np.ones((5, 5, 3, 3), "float32")
    with pytest.warns(UserWarning, match=r"(?s)Skipped.*1 missing:\n    conv1.weight.*1 of another shape") as seen:
        rb.weights.from_torchvision(
            backbone, checkpoint("backbone.", ("state_dict",), "heads", state), skip_mismatch=True
        )
    assert seen[0].filename == __file__
    assert loaded(backbone, state)
    np.testing.assert_array_equal(backbone.get_layer("stem_conv1").kernel, empty[0])


def test_a_prefix_is_for_checkpoints_of_torch(tmp_path, backbone):
    for ending in ("npz", "weights.h5"):
        rb.weights.save(backbone, tmp_path / f"x.{ending}")
        with pytest.raises(ValueError, match="is for checkpoints of torch"):
            rb.weights.load(backbone, tmp_path / f"x.{ending}", prefix="model")


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


DETECTION = {"bbox_head.cls.weight": np.ones((9, 8), "float32"), "neck.convs.0.bias": np.ones(8, "float32")}
#: Layouts of well-known training scripts: a checkpoint of two networks, plain and averaged -> which is taken.
SCRIPTS = {
    "DDP and EMA under Lightning": (
        lambda one, mean: {
            "state_dict": prefixed("model.module.", one),
            "state_dict_ema": prefixed("model.module.", mean),
        },
        "mean",
    ),
    "Lightning, EMA within": (
        lambda one, mean: {"state_dict": {**prefixed("model.", one), **prefixed("ema_model.module.", mean)}},
        "mean",
    ),
    "timm's head": (lambda one, _: {**one, "head.fc.weight": np.ones((10, 8), "float32")}, "one"),
    "teacher alone": (lambda one, _: prefixed("teacher.backbone.", one), "one"),
    "compiled, parallel": (lambda one, _: {"state_dict": prefixed("module._orig_mod.", one)}, "one"),
    "compiled within": (lambda one, _: {k.replace("layer1.0", "layer1._orig_mod.0"): v for k, v in one.items()}, "one"),
    "FSDP": (lambda one, _: prefixed("_fsdp_wrapped_module.", one), "one"),
    "mmdet": (lambda one, _: {"meta": {}, "state_dict": {**prefixed("backbone.", one), **DETECTION}}, "one"),
    "mmdet, EMA hook": (
        lambda one, mean: {
            "state_dict": {**prefixed("backbone.", one), **prefixed("ema_backbone.", mean), **DETECTION}
        },
        "mean",
    ),
    "mmdet3d": (lambda one, _: {"state_dict": {**prefixed("img_backbone.", one), **DETECTION}}, "one"),
    "detectron2": (lambda one, _: {"model": {**prefixed("backbone.bottom_up.", one), **DETECTION}}, "one"),
    "torchvision's detectors": (lambda one, _: {**prefixed("backbone.body.", one), **DETECTION}, "one"),
    "swav": (lambda one, _: prefixed("module.", {**one, "prototypes.weight": np.ones((5, 8), "float32")}), "one"),
    "a segmenter": (lambda one, _: {**prefixed("encoder.", one), "decoder.0.bias": np.ones(3, "float32")}, "one"),
    "fastai": (lambda one, _: {"model": prefixed("0.", one), "opt": {}}, "one"),
    "moco": (
        lambda one, mean: {"state_dict": {**prefixed("module.encoder_q.", one), **prefixed("module.encoder_k.", mean)}},
        None,
    ),
    "dino": (lambda one, mean: {"student": prefixed("module.", one), "teacher": mean}, None),
}


@pytest.mark.filterwarnings("ignore:.*left out what is no part")
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_well_known_scripts_write(backbone, empty, script):
    make, taken = SCRIPTS[script]
    one, mean = network(0), network(1)
    backbone.set_weights(empty)
    if taken is None:
        with pytest.raises(ValueError, match=r"holds the network 2 times: .*Choose one with prefix="):
            rb.weights.from_timm(backbone, make(one, mean))
        assert_same(empty, values(backbone))
    else:
        rb.weights.from_timm(backbone, make(one, mean))
        assert loaded(backbone, one if taken == "one" else mean)


@pytest.mark.parametrize("state", [[], (network(),), None, "x.pt"])
def test_what_is_no_mapping_is_an_error(backbone, state):
    with pytest.raises(TypeError, match=r"must be a mapping from names to arrays, as model\.state_dict\(\) gives; got"):
        rb.weights.from_torchvision(backbone, state)
