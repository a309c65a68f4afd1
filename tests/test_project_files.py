"""What contributors and their tools read is true: paths, targets of make, versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PAGES = ["CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_a_page_names_are_there(page):
    text = read(page)
    named = re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:md|txt|toml))`", text) + re.findall(r"\]\(([^)#:]+)\)", text)
    named += re.findall(r"^# ([\w/]+\.py)$", text, re.MULTILINE)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, ".github/workflows/ci.yml", ".pre-commit-config.yaml", "README.md"])
def test_targets_of_make_that_a_file_names_are_there(page):
    called = set(re.findall(r"(?:`|^|: |: \[)make ([a-z][a-z0-9-]*)", read(page), re.MULTILINE))
    assert called <= TARGETS


def test_ci_runs_lint_and_both_kerases_and_every_python():
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert all(line.startswith("make ") for line in lines)
    assert "make lint" in lines
    assert set(jobs["tests"]["strategy"]["matrix"]["target"]) == {"test-keras3", "test-legacy"} <= TARGETS
    marker = "Programming Language :: Python :: 3."
    pythons = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if name.startswith(marker)]
    assert jobs["pythons"]["strategy"]["matrix"]["python"] == pythons
    named = [word for line in lines for word in re.findall(r"tests/[\w/.]+", line)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_hooks_have_the_versions_of_make_lint():
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    pinned = [pin for hook in repository["hooks"] for pin in hook.get("additional_dependencies", ())]
    assert pinned
    assert set(pinned) == {f"ruff=={PINS['ruff']}"}


def test_citation_is_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "authors"} <= set(citation)
    for key, value in (("title", PROJECT["name"]), *((key, PROJECT[key]) for key in ("version", "license"))):
        assert citation[key] == value


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_issue_forms_ask_for_something(form):
    found = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert found["name"]
    assert found["description"]
    identifiers = [field["id"] for field in found["body"]]
    assert len(set(identifiers)) == len(identifiers) > 0
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in found["body"])


def test_every_tool_of_tests_and_lint_is_pinned():
    extras = PROJECT["optional-dependencies"]
    asked = [re.split(r"[\[><=]", one)[0] for name in ("test", "lint") for one in extras[name]]
    pins = {name.lower() for name in PINS}
    assert [name for name in asked if name not in pins and name != PROJECT["name"]] == []
