import subprocess
import sys

import pytest


def run_python(code, *paths):
    """Runs ``code`` in a fresh interpreter with ``paths`` on its search path; returns what it printed."""
    setup = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    result = subprocess.run([sys.executable, "-c", setup + code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def plugin_folder(tmp_path):
    """Two installed packages: one with a working and an impolite plug-in, one whose plug-in breaks."""

    def install(package, entry_points, **modules):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[resnet_backbones.plugins]\n" + entry_points)
        for name, code in modules.items():
            (tmp_path / f"{name}.py").write_text("import resnet_backbones as rb\n" + code)

    install(
        "goodpack",
        "good = good_module\ncalled = good_function:register\n",
        good_module="rb.register_backbone('from_module', rb.ResNetSpec())\nassert 'resnet50' in rb.list_backbones()\n",
        good_function="def register():\n    rb.register_backbone('from_function', rb.ResNetSpec(), aliases=['ff'])\n",
    )
    install("badpack", "bad = bad_module\n", bad_module="raise RuntimeError('no luck')\n")
    install(
        "greedypack", "greedy = greedy_module\n", greedy_module="rb.register_backbone('resnet18', rb.ResNetSpec())\n"
    )
    return tmp_path


def test_plugins_register_and_a_broken_one_only_warns(plugin_folder):
    code = """
import warnings
import resnet_backbones as rb
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print([name for name in rb.list_backbones() if name.startswith("from_")])
    rb.list_backbones()
print(sorted(str(warning.message) for warning in caught))
print(rb.backbone_info("ff").owner, "|", rb.backbone_info("resnet18").owner)
try:
    rb.backbone_info("from_nowhere_at_all")
except ValueError as error:
    print(error)
"""
    names, messages, owners, error = run_python(code, plugin_folder, *sys.path).splitlines()
    assert names == "['from_function', 'from_module']"
    assert messages.count("could not be loaded and is left out") == 2
    assert "plug-in 'bad' of package 'badpack' (bad_module)" in messages
    assert "RuntimeError: no luck" in messages
    assert "plug-in 'greedy' of package 'greedypack'" in messages
    assert owners == "plug-in 'called' of package 'goodpack' | resnet_backbones.variants"
    assert "broken: bad, greedy" in error or "broken: greedy, bad" in error


def test_plugins_are_not_loaded_before_they_are_needed(plugin_folder):
    code = """
import resnet_backbones as rb
rb.backbone_info("resnet50")
print("bad_module" in sys.modules, "good_module" in sys.modules)
"""
    assert run_python(code, plugin_folder, *sys.path) == "False False"


def test_the_catalogue_loads_once_for_many_threads():
    code = """
import threading
import resnet_backbones as rb
results = []
threads = [threading.Thread(target=lambda: results.append(tuple(rb.list_backbones()))) for _ in range(16)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print(len(results), len(set(results)), len(results[0]) >= 18)
"""
    assert run_python(code, *sys.path) == "16 1 True"
