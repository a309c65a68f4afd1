import importlib
import json
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import resnet_backbones as rb


def test_the_module_lists_its_public_names_and_no_others():
    assert set(rb.__all__) <= set(dir(rb))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        rb.nonsense  # noqa: B018


ROOT = Path(__file__).resolve().parents[1]
RECORD = json.loads((ROOT / "tests" / "public_names.json").read_text())
PACKAGES = ("export", "layers", "quantization", "runtime", "weights")


@pytest.mark.parametrize("module", RECORD)
def test_public_names_are_those_recorded(module):
    """A new name is added to tests/public_names.json; one that goes is deprecated first."""
    found = importlib.import_module(module)
    assert sorted(found.__all__) == RECORD[module]
    assert [name for name in RECORD[module] if not hasattr(found, name)] == []


def test_every_public_module_is_recorded():
    adapters = [path.parent.name for path in (ROOT / "adapters").glob("*/__init__.py")]
    public = [*PACKAGES, "adapters", *(f"adapters.{name}" for name in adapters)]
    assert {"resnet_backbones", *(f"resnet_backbones.{name}" for name in public)} <= set(RECORD)


@pytest.mark.parametrize("name", rb.__all__)
def test_every_public_name_is_there(name):
    assert getattr(rb, name) is not None


@pytest.fixture(autouse=True)
def version_as_it_was(monkeypatch):
    """Forgets the version that a test pretends."""
    monkeypatch.setattr(rb, "__version__", rb.__version__)


def test_the_version_is_what_is_installed(monkeypatch):
    monkeypatch.setattr(metadata, "version", {"resnet-backbones": "12.3"}.__getitem__)
    assert rb.__getattr__("__version__") == rb.__version__ == "12.3"


def test_the_version_of_a_source_tree_that_is_not_installed_is_the_one_it_would_install(monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert rb.__getattr__("__version__") == settings["project"]["version"]
    monkeypatch.setattr(rb, "__file__", str(tmp_path / "resnet_backbones" / "__init__.py"))
    assert rb.__getattr__("__version__") == "0+unknown"
