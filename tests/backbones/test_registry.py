import threading

import pytest

import resnet_backbones as rb
from resnet_backbones.errors import DuplicateNameError, UnknownNameError

pytestmark = pytest.mark.usefixtures("registry_as_it_was")


def _unchanged(net, x, plan):
    return x


def test_a_spec_is_registered_by_a_call():
    spec = rb.ResNetSpec(depths=(1, 1, 1, 1))
    assert rb.register_backbone("called", spec, description="By a call") is spec
    assert rb.backbone_info("called").spec is spec
    assert rb.backbone_info("called").description == "By a call"
    assert rb.backbone_info("called").owner == __name__


def test_a_function_returning_a_spec_is_registered_by_a_decorator_with_aliases():
    @rb.register_backbone("decorated", aliases=["deco"])
    def decorated():
        """One line.

        And more.
        """
        return rb.ResNetSpec(depths=(2, 2, 2, 2))

    assert decorated().depths == (2, 2, 2, 2)
    info = rb.backbone_info("deco")
    assert (info.name, info.aliases, info.description) == ("decorated", ("deco",), "One line.")
    assert info.spec == decorated()
    assert rb.list_backbones("dec*") == ["decorated"]


def test_create_backbone_accepts_an_alias_and_a_spec():
    spec = rb.ResNetSpec(block="basic", depths=(1,), widths=(8,))
    rb.register_backbone("tiny", spec, aliases=["t"])
    by_alias = rb.create_backbone("t", input_shape=(32, 32, 3), activation="silu")
    assert by_alias.name == "tiny"
    assert by_alias.spec == spec.replace(activation="silu")
    assert rb.create_backbone(spec, input_shape=(32, 32, 3)).spec == spec


@pytest.mark.parametrize("as_pair", [True, False])
def test_a_function_building_a_model_is_registered(as_pair):
    from resnet_backbones.keras_compat import keras

    @rb.register_backbone("custom")
    def custom(input_shape, width=4):
        image = keras.Input(input_shape)
        x = keras.layers.Conv2D(width, 3, 2, "same", name="half")(image)
        x = keras.layers.Conv2D(8, 3, 2, "same", name="quarter")(x)
        model, levels = keras.Model(image, x), {"P1": "half", "P2": "quarter"}
        return (model, levels) if as_pair else rb.from_model(model, levels)

    backbone = rb.create_backbone("custom", input_shape=(32, 48, 1), width=6)
    assert {level: (info.channels, info.stride) for level, info in backbone.feature_info.items()} == {
        "P1": (6, 2),
        "P2": (8, 4),
    }
    assert rb.backbone_info("custom").spec is None
    with pytest.raises(TypeError, match=r"takes no 'output_stride'; it takes input_shape, width"):
        rb.create_backbone("custom", output_stride=16)


def test_a_function_returning_something_else_is_an_error():
    rb.register_backbone("wrong", lambda: 42)
    with pytest.raises(TypeError, match=r"returned int; it must return a spec"):
        rb.create_backbone("wrong")


def test_a_taken_name_is_an_error_naming_its_owner():
    with pytest.raises(
        DuplicateNameError, match=r"'resnet50' is already registered by resnet_backbones.backbones.catalogue.*overwr"
    ):
        rb.register_backbone("resnet50", rb.ResNetSpec())


def test_a_taken_alias_is_an_error_and_registers_nothing():
    rb.register_backbone("first", rb.ResNetSpec(), aliases=["shared"])
    with pytest.raises(DuplicateNameError, match="'shared' is already registered"):
        rb.register_backbone("second", rb.ResNetSpec(), aliases=["shared"])
    with pytest.raises(UnknownNameError):
        rb.backbone_info("second")


def test_overwrite_replaces_a_backbone_and_frees_its_aliases():
    rb.register_backbone("mine", rb.ResNetSpec(), aliases=["old"])
    rb.register_backbone("mine", rb.ResNetSpec(block="basic"), overwrite=True)
    assert rb.backbone_info("mine").spec.block == "basic"
    with pytest.raises(UnknownNameError):
        rb.backbone_info("old")


def test_overwrite_may_take_an_alias_away():
    rb.register_backbone("mine", rb.ResNetSpec(), aliases=["a", "b"])
    rb.register_backbone("a", rb.ResNetSpec(block="basic"), overwrite=True)
    assert rb.backbone_info("a").name == "a"
    assert rb.backbone_info("b").aliases == ("b",)


@pytest.mark.parametrize(("name", "nearest"), [("resnet5", "'resnet50'"), ("ResNet-50D", "'resnet50d'")])
def test_an_unknown_name_gives_the_nearest(name, nearest):
    with pytest.raises(UnknownNameError, match=f"Did you mean .*{nearest}.*is the plug-in installed"):
        rb.create_backbone(name)


@pytest.mark.parametrize(
    "register",
    [
        lambda: rb.register_backbone(lambda: rb.ResNetSpec()),
        lambda: rb.register_backbone("x", 3),
        lambda: rb.register_backbone("x", rb.ResNetSpec(), aliases="y"),
        lambda: rb.register_block("x", 3),
        lambda: rb.register_block(None),
    ],
)
def test_what_cannot_be_registered_is_a_type_error(register):
    with pytest.raises(TypeError, match="got"):
        register()


def test_a_registered_block_builds_a_backbone():
    @rb.register_block("single", expansion=2)
    def single(net, x, plan):
        y = net.conv(x, 2 * plan.filters, 3, plan.name, 1, strides=plan.strides, dilation=plan.first_dilation)
        y = net.norm(y, plan.name, 1, zero=True)
        return net.merge(y, net.shortcut(x, plan, 2 * plan.filters), plan)

    spec = rb.ResNetSpec(block="single", depths=(1, 2), widths=(8, 16))
    rb.register_backbone("singles", spec)
    backbone = rb.create_backbone("singles", input_shape=(64, 64, 3))
    levels = {level: (info.channels, info.stride) for level, info in backbone.feature_info.items()}
    assert levels == rb.backbone_info("singles").levels == {"P1": (64, 2), "P2": (16, 4), "P3": (32, 8)}


def test_a_block_whose_channels_are_not_its_expansion_is_an_error():
    rb.register_block("liar", _unchanged, expansion=3)
    with pytest.raises(ValueError, match=r"block 'liar' gave 64 channels at stage1_block1; expansion=3 says 192"):
        rb.create_backbone(rb.ResNetSpec(block="liar"))


def test_a_taken_block_and_an_unknown_block_are_errors():
    with pytest.raises(DuplicateNameError, match="'basic' is already registered by resnet_backbones"):
        rb.register_block("basic", _unchanged)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'bottleneck'"):
        rb.create_backbone("resnet50", block="botleneck")


def test_threads_may_register_and_list_at_once():
    winners, errors = [], []

    def work(number):
        try:
            for index in range(30):
                rb.register_backbone(f"thread{number}_{index}", rb.ResNetSpec(), aliases=[f"alias{number}_{index}"])
                rb.list_backbones("thread*")
            rb.register_backbone("contested", rb.ResNetSpec())
            winners.append(number)
        except DuplicateNameError:
            pass
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(winners) == 1
    assert len(rb.list_backbones("thread*")) == 240
