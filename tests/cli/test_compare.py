"""``resnet-backbones compare``: what is measured, which is taken, what is drawn."""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image

import resnet_backbones as rb
from resnet_backbones.cli import compare_measure as cli_compare_measure
from resnet_backbones.cli.compare import plot
from resnet_backbones.cli.compare_measure import Measured, choose
from resnet_backbones.export.report.latency import Latency
from tests.support.processes import run_command


def made_up(name, gmacs, mb, ms):
    times = (Latency("", 2, 4 * ms, 4.2 * ms, 9, 0.1), Latency("", 2, 0.9 * ms, ms, 9, 0.1))
    return Measured(name, int(mb * 1e6), gmacs, 4 * mb, mb, 1.0, *times)


FOUR = [made_up("a", 1.0, 5, 4), made_up("b", 4.0, 20, 9), made_up("c", 2.0, 30, 3), made_up("d", 8.0, 60, 20)]


@pytest.mark.parametrize(
    ("ms", "mb", "fits", "take", "next_one"),
    [
        (10, 25, ["a", "b"], "b", "d"),
        (10, None, ["a", "b", "c"], "b", "d"),
        (None, 7, ["a"], "a", "c"),
        (5, 40, ["a", "c"], "c", "b"),
        (99, 99, ["a", "b", "c", "d"], "d", None),
        (9, 20, ["a", "b"], "b", "d"),  # a budget is met by what equals it
    ],
)
def test_the_most_capable_that_fits_is_taken(ms, mb, fits, take, next_one):
    choice = choose(FOUR, ms, mb)
    assert (choice.fits, choice.take, choice.next) == (fits, take, next_one)


def test_where_none_fits_the_nearest_is_named():
    choice = choose(FOUR, 2, 10)
    assert (choice.fits, choice.take, choice.nearest) == ([], None, "a")
    assert choice.excess == 2


@pytest.fixture
def measured(monkeypatch):
    """Instead of measuring: what was asked for is kept, and four made-up backbones come back."""
    asked = {}
    monkeypatch.setattr(
        cli_compare_measure, "measure", lambda names, **options: asked.update(names=names, **options) or FOUR
    )
    return asked


def test_the_answer_is_a_sentence_and_an_exit_code(measured, tmp_path):
    result = run_command("compare", "resnet18", "--budget-ms", 10, "--budget-mb", 25)
    assert result.exit_code == 0, result.output
    assert "Take b: 9.00 ms, 20.00 MB in int8, within 10 ms and 25 MB. The next larger, d, needs 20.00" in result.stdout
    none = run_command("compare", "resnet18", "--budget-ms", 2, "--png", tmp_path / "none.png")
    assert none.exit_code == 1
    assert "None fits 2 ms. Nearest is c: 3.00 ms, 30.00 MB, 1.50 times the budget." in none.stdout
    assert (tmp_path / "none.png").exists()
    free = json.loads(run_command("compare", "resnet18", "--json").stdout)
    assert free["budget"] is None
    assert [one["name"] for one in free["backbones"]] == ["a", "b", "c", "d"]


def test_names_may_be_patterns_and_aliases_and_each_counts_once(measured):
    run_command("compare", "resnet18?", "cifar_resnet20", "resnet18d", "--size", 64, "--classes", 10, "--threads", 3)
    assert measured["names"] == [*rb.list_backbones("resnet18?"), "resnet20"]
    assert (measured["size"], measured["classes"], measured["threads"]) == (64, 10, 3)


@pytest.mark.parametrize(("name", "message"), [("resnet5O", "resnet50"), ("vgg*", "no backbone matches 'vgg*'")])
def test_unknown_names_are_one_line_before_anything_is_built(measured, name, message):
    result = run_command("compare", "resnet18", name)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not measured


@pytest.mark.parametrize("option", [("--png", "picture.jpg"), ("--budget-ms", "0"), ("--size", "big")])
def test_a_mistyped_line_exits_with_2(measured, option):
    assert run_command("compare", "resnet18", *option).exit_code == 2
    assert not measured


def test_a_picture_that_cannot_be_drawn_is_known_before_anything_is_built(measured, tmp_path, monkeypatch):
    result = run_command("compare", "resnet18", "--png", tmp_path / "nowhere" / "picture.png")
    assert result.exit_code == 1
    assert "there is no folder" in result.stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run_command("compare", "resnet18", "--png", tmp_path / "picture.png")
    assert result.exit_code == 1
    assert 'pip install "resnet-backbones[plots]"' in result.stderr
    assert not measured


def test_the_picture_is_a_png(tmp_path):
    plot(FOUR, tmp_path / "four.png", "made up", 10, 25)
    with Image.open(tmp_path / "four.png") as picture:
        assert picture.size == (990, 660)
        colors = {color for _, color in picture.convert("RGB").getcolors(maxcolors=100_000)}
    assert (79, 129, 189) in colors  # points in int8
    with pytest.raises(OSError, match=r"nowhere/four\.png"):
        plot(FOUR, tmp_path / "nowhere" / "four.png", "made up", None, None)


def test_backbones_are_measured_in_both_forms():
    result = run_command("compare", "resnet20", "--size", 32, "--classes", 10, "--threads", 1, "--runs", 3, "--json")
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.stdout)["backbones"]
    info = rb.backbone_info("resnet20")
    assert one["parameters"] == info.parameters + 64 * 10 + 10
    assert one["gmacs"] == pytest.approx(info.gmacs + 640 / 1e9, rel=1e-4)
    assert one["int8_share"] == 1
    assert 3 < one["float_mb"] / one["int8_mb"] < 4.5
    for form in ("float_ms", "int8_ms"):
        assert 0 < one[form]["minimum"] <= one[form]["median"]
        assert one[form]["runs"] == 3
