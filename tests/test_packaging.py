"""What is built and installed: everything, once, and nothing else; and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import KERAS_FREE

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ["adapters", "resnet_backbones", "LICENSE", "README.md", "pyproject.toml"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist of a copy of the sources, and the wheel that pip would build of that sdist."""
    home = tmp_path_factory.mktemp("build")
    source = home / "source"
    source.mkdir()
    # A copy, so that no build/ or *.egg-info is left in the checkout, and no stale one gets in.
    subprocess.run(["cp", "-R", "-P", *(str(ROOT / name) for name in SHIPPED), str(source)], check=True)
    subprocess.run(["find", str(source), "-name", "__pycache__", "-prune", "-exec", "rm", "-rf", "{}", "+"], check=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(home / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,), (sdist,) = ((home / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    return wheel, sdist


def python_files() -> set[str]:
    """Every module of the checkout, by the path it is installed at."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "resnet_backbones").rglob("*.py")
        if "adapters" not in path.relative_to(ROOT).parts
    }
    return files | {
        f"resnet_backbones/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "adapters").rglob("*.py")
    }


def test_the_wheel_holds_every_module_exactly_once(built):
    names = zipfile.ZipFile(built[0]).namelist()
    assert not [name for name, count in Counter(names).items() if count > 1]
    assert {name for name in names if name.endswith(".py")} == python_files()


def test_the_wheel_holds_the_type_marker_the_license_and_the_command(built):
    wheel = zipfile.ZipFile(built[0])
    names = wheel.namelist()
    assert "resnet_backbones/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "resnet-backbones = resnet_backbones.cli.app:main" in wheel.read(entry_points).decode()


def test_the_sdist_holds_the_adapters_once_at_the_top(built):
    with tarfile.open(built[1]) as sdist:
        names = [name.partition("/")[2] for name in sdist.getnames()]
    assert names.count("adapters/keras_cv/__init__.py") == 1
    assert not [name for name in names if name.startswith("resnet_backbones/adapters")]
    assert "resnet_backbones/py.typed" in names


def test_pyproject_lists_every_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {Path(name).parent.as_posix().replace("/", ".") for name in python_files()}
    assert set(settings["packages"]) == found


def test_the_link_to_the_adapters_is_relative():
    link = ROOT / "resnet_backbones" / "adapters"
    assert link.is_symlink()
    assert link.readlink() == Path("../adapters")


def test_constraints_pin_versions_and_name_no_hosts():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        name, equals, version = line.partition("==")
        assert name, line
        assert equals, line
        assert version, line
        assert "/" not in line, line
        assert "+" not in line, line


def imported_after(statement: str) -> set[str]:
    """Which of the heavy packages a fresh process has imported after a statement."""
    heavy = "{'tensorflow', 'keras', 'tf_keras', 'keras_cv', 'torch', 'tensorflow_model_optimization'}"
    script = f"import sys\n{statement}\nprint(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_listing_backbones_imports_no_keras():
    assert imported_after("import resnet_backbones as rb\nassert 'resnet50' in rb.list_backbones()") == set()


def test_the_runtime_imports_no_keras():
    assert imported_after("import resnet_backbones as rb\nrb.runtime.load") == set()


def test_every_public_name_can_be_had():
    script = "import resnet_backbones as rb\nfor name in rb.__all__: assert getattr(rb, name) is not None, name"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_is_tested_with_keras_3_alone_is_there():
    assert [name for name in sorted(KERAS_FREE) if not (ROOT / "tests" / name).exists()] == []
