"""Names that could steer a terminal, and specs larger than any published network: refused, or shown harmlessly."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

import resnet_backbones as rb
from resnet_backbones._util.text import visible
from resnet_backbones.backbones.info import natural
from tests.support.processes import run_command

pytestmark = pytest.mark.usefixtures("registry_as_it_was")

STEERING = ["a\x00b", "a\nb", "a\rb", "\x1b[31mred", "a\x07", "a\x7f", "a\x9bm", "a\u2028b", "a\u202eb", "a\ud800"]
HARMLESS = [
    "[/]",
    "[red]x[/red]",
    "[link=http://x]y",
    "50²",
    "\\",
    "٣",
    "näme",
    "猫 ",
    "می\u200cخواهم",
    "9" * 5000,
]


@pytest.mark.parametrize("name", STEERING, ids=ascii)
def test_names_with_control_characters_are_refused(name):
    before = rb.list_backbones()
    for register in (
        lambda: rb.register_backbone(name, rb.ResNetSpec()),
        lambda: rb.register_backbone("fine", rb.ResNetSpec(), aliases=[name]),
        lambda: rb.register_backbone("fine", rb.ResNetSpec(), family=name),
        lambda: rb.register_backbone("fine", rb.ResNetSpec(), weights=[name]),
        lambda: rb.register_block(name, lambda net, x, plan: x),
    ):
        with pytest.raises(ValueError, match="must not hold control characters.*leave them out") as error:
            register()
        assert str(error.value).isprintable()
    assert rb.list_backbones() == before


@pytest.mark.parametrize("name", HARMLESS, ids=lambda name: ascii(name)[:20])
def test_other_names_are_listed_shown_and_sorted(name):
    rb.register_backbone(name, rb.ResNetSpec(), aliases=[f"{name}²"], family=name, description=f"{name} \x1b[31m[/]")
    assert name in rb.list_backbones()
    for words in (["list"], ["list", "--family", name], ["info", name], ["info", f"{name}²"]):
        result = run_command(*words)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.stdout
        assert name[:10] in result.stdout.replace("\n", "")
    assert json.loads(run_command("info", name, "--json").stdout)["name"] == name


def test_numbers_in_names_sort_by_value():
    names = ["r50²", "r100", "r9", "r", "r050", "r50", "٣", "r" + "9" * 5000, "r50b"]
    assert sorted(names, key=natural) == ["r", "r9", "r050", "r50", "r50b", "r50²", "r100", "r" + "9" * 5000, "٣"]


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_what_is_shown_never_steers_the_terminal(text):
    shown = visible(text)
    assert shown.isprintable() or shown == text == "a\nb"


def numbers(value):
    """The places in a field that hold a size, each given as a function that puts another number there."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield lambda new: new
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            for put in numbers(item) if not dataclasses.is_dataclass(item) else stage_numbers(item):
                yield lambda new, put=put, place=place: (*value[:place], put(new), *value[place + 1 :])
        if value:
            yield lambda new: value[:1] * min(new, 10**6)


def stage_numbers(stage):
    for field in dataclasses.fields(stage):
        for put in numbers(getattr(stage, field.name)):
            yield lambda new, put=put, field=field: dataclasses.replace(stage, **{field.name: put(new)})


CASES = [
    (spec, field.name, place, size)
    for spec in (
        rb.ResNetSpec(stage_strides=(1, 2, 2, 2)),
        rb.RegNetSpec(),
        rb.DarkNetSpec(stage_strides=(2,) * 5, expand_ratio=(1.0,) * 5, block_ratio=1.0, groups=(1,) * 5),
        rb.MobileNetSpec(),
    )
    for field in dataclasses.fields(spec)
    for place in range(len(list(numbers(getattr(spec, field.name)))))
    for size in (10**6, 10**9, 10**400)
    if field.name not in ("widths_", "preprocessing")
]


def test_sizes_that_no_published_network_reaches_are_refused_at_once():
    """Every number of every spec in turn, and every list grown."""
    started = time.perf_counter()
    for spec, field, place, size in CASES:
        put = list(numbers(getattr(spec, field)))[place]
        with pytest.raises((ValueError, TypeError)) as error:  # TypeError: what is no number of stages at all
            spec.replace(**{field: put(size)})
        assert len(str(error.value)) < 10_000, (field, size)
    assert len(CASES) > 250
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize(
    "spec",
    [
        lambda: rb.ResNetSpec(depths=(10**9, 1), widths=(8, 8)),
        lambda: rb.ResNetSpec(depths=(9_999, 2), widths=(8, 8)),
        lambda: rb.RegNetSpec(depth=10_000, wa=10.0),
        lambda: rb.MobileNetSpec(depth_multiplier=64.0, stages=[rb.MobileStage("conv", 8, (1.0,) * 200)]),
    ],
)
def test_limits_count_what_is_derived(spec):
    with pytest.raises(ValueError, match="must be at most .*, which no published network reaches; got"):
        spec()


def test_the_deepest_and_widest_published_networks_are_within_the_limits():
    rb.ResNetSpec(block="preact_bottleneck", depths=(333, 333, 334), widths=(16, 32, 64), stem="3x3").plan()
    rb.RegNetSpec(depth=27, w0=1744, wa=620.83, wm=2.52, group_width=1010, se_ratio=0.25)  # SEER, 10 billion
    rb.register_block("of_64", lambda net, x, plan: x, expansion=64)
    with pytest.raises(ValueError, match="1 to 64"):
        rb.register_block("of_65", lambda net, x, plan: x, expansion=65)


@pytest.mark.parametrize("names", [["a", "b\x1b[31m"], ["a", ""], "ab", ["a", "b\nc"]], ids=ascii)
def test_class_names_that_steer_are_refused(names, tmp_path):
    from resnet_backbones.keras_compat import keras

    model = keras.Model(image := keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)(image))
    with pytest.raises((TypeError, ValueError), match=r"control characters|not empty|must be a list"):
        rb.export_model(model, tmp_path / "m.tflite", class_names=names)
    assert not list(tmp_path.iterdir())
    if isinstance(names, list) and "\n" not in names[1]:
        model.save(tmp_path / "m.keras")
        (tmp_path / "names.txt").write_text("\n".join([*names, "c"]))
        result = run_command(
            "export", tmp_path / "m.keras", tmp_path / "m.tflite", "--class-names", tmp_path / "names.txt"
        )
        assert result.exit_code == 1
        assert "line 2 of" in result.stderr
        assert "\x1b" not in result.stderr
