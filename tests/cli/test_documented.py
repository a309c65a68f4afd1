"""Every command line that README, docs and --help give is one the command line takes, and those of README work."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from resnet_backbones.cli import app as cli
from tests.cli.command_lines import ROOT, documented
from tests.support.processes import run_command

APP = typer.main.get_command(cli.app)
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
HEAVY = ("compare", "export")  # tried elsewhere: with small networks, and by the fixture
LIGHT = [words for words in documented() if words[0] not in (*HEAVY, "convert")]


def accepted(words):
    """Parses a line without running it; a mistyped one raises."""
    APP.commands[words[0]].make_context(words[0], list(words[1:]))


def test_readme_shows_every_command():
    assert {words[0] for words in documented()} == set(APP.commands)


@pytest.mark.parametrize("page", PAGES)
def test_lines_in_blocks_are_taken(page):
    for words in documented(page):
        accepted(words)


def test_a_line_with_a_wrong_option_would_be_noticed():
    with pytest.raises(Exception, match="No such option: --colour"):
        accepted(["compare", "resnet18", "--colour", "red"])


@pytest.mark.parametrize("name", sorted(APP.commands))
def test_help_has_an_example_that_is_taken(name):
    examples = re.findall(r"\[bold\]resnet-backbones (.*?)\[/bold\]", APP.commands[name].epilog)
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[0] == name
        accepted(words)
    assert " ".join(examples[0].split()[:1]) in run_command(name, "--help").stdout


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_readmes_lines_work(words, command_files, monkeypatch):
    monkeypatch.chdir(command_files.folder)
    result = run_command(*words)
    assert result.exit_code == 0, result.output


def test_readmes_prediction_is_where_readme_says(command_files, monkeypatch):
    monkeypatch.chdir(command_files.folder)
    (line,) = (words for words in LIGHT if words[0] == "predict")
    run_command(*line)
    assert (command_files.folder / "predictions" / "street.predicted.png").exists()


@pytest.mark.parametrize("name", sorted(APP.commands))
def test_every_command_takes_json(name):
    assert any("--json" in parameter.opts for parameter in APP.commands[name].params)
