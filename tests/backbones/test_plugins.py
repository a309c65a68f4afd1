import pytest

from tests.support.processes import run_python


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
    names, messages, owners, error = run_python(code, paths=[plugin_folder]).splitlines()
    assert names == "['from_function', 'from_module']"
    assert messages.count("could not be loaded and is left out") == 2
    assert "plug-in 'bad' of package 'badpack' (bad_module)" in messages
    assert "RuntimeError: no luck" in messages
    assert "plug-in 'greedy' of package 'greedypack'" in messages
    assert owners == "plug-in 'called' of package 'goodpack' | resnet_backbones.backbones.catalogue"
    assert "broken: bad, greedy" in error or "broken: greedy, bad" in error


def test_plugins_are_not_loaded_before_they_are_needed(plugin_folder):
    code = """
import resnet_backbones as rb
rb.backbone_info("resnet50")
print("bad_module" in sys.modules, "good_module" in sys.modules)
"""
    assert run_python(code, paths=[plugin_folder]) == "False False"


def test_the_catalogue_loads_once_for_many_threads():
    code = """
import threading
import resnet_backbones as rb
results = []
threads = [threading.Thread(target=lambda: results.append(tuple(rb.list_backbones()))) for _ in range(16)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print(len(results), len(set(results)), len(results[0]) >= 18)
"""
    assert run_python(code) == "16 1 True"


# What a plug-in does after it has registered half of what it wants -> words of the warning.
FAILURES = {
    "raise RuntimeError('half-way')": "RuntimeError: half-way",
    "import sys; sys.exit(3)": "SystemExit: 3",
    "import sys; sys.exit('bye')": "SystemExit: bye",
    "exit()": "SystemExit",
    "raise BaseException('low')": "BaseException: low",
    "raise GeneratorExit": "GeneratorExit",
    "import no_such_module": "ModuleNotFoundError",
    "1 +": "SyntaxError",
    "raise ValueError('\\x1b[31mred')": "ValueError: \\x1b[31mred",
    "rb.register_backbone('resnet50', rb.ResNetSpec())": "DuplicateNameError",
    "rb.register_backbone('a\\nb', rb.ResNetSpec())": "ValueError: the name of a backbone must not hold control",
}
HALF = """
print('plug-in says hello')
rb.register_backbone('half', rb.ResNetSpec(), aliases=['h'], family='halves')
rb.register_backbone('resnet18', rb.ResNetSpec(), overwrite=True)
rb.register_backbone('resnet34', rb.ResNetSpec(), aliases=['wide_resnet'], overwrite=True)
rb.register_block('half_block', lambda net, x, plan: x)
class HalfSpec(rb.ResNetSpec):
    family = 'halves'
"""


def test_a_plugin_that_fails_half_way_leaves_nothing_and_the_rest_works(tmp_path):
    """Each plug-in in turn, all in one process: whatever it does, before and after are the same."""
    for number, failure in enumerate(FAILURES):
        half = HALF if failure != "1 +" else ""
        (tmp_path / f"failing{number}.py").write_text(f"import resnet_backbones as rb\n{half}\n{failure}\n")
    (tmp_path / "good.py").write_text("import resnet_backbones as rb\nrb.register_backbone('good', rb.ResNetSpec())\n")
    code = f"""
import importlib.metadata, warnings
import resnet_backbones as rb
from resnet_backbones.backbones import block_registry, plugins, registry
from resnet_backbones.backbones import spec as base
state = lambda: [list(t.items()) for t in (registry._backbones, registry._aliases, block_registry._blocks, base._SPECS)]
for number in range({len(FAILURES)}):
    plugins._plugins_loaded = False
    points = [importlib.metadata.EntryPoint(f"failing{{number}}", f"failing{{number}}", plugins.GROUP)]
    importlib.metadata.entry_points = lambda group: points
    before = state()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = rb.list_backbones()
    assert state() == before, number
    print(len(caught), caught[0].message)
plugins._plugins_loaded = False
points = [importlib.metadata.EntryPoint("good", "good", plugins.GROUP)]
assert "good" in rb.list_backbones() and "half" not in rb.list_backbones()
"""
    printed = run_python(code, paths=[tmp_path]).splitlines()
    assert len(printed) == len(FAILURES), "what a plug-in prints does not reach stdout"
    for line, message in zip(printed, FAILURES.values(), strict=True):
        assert line.startswith("1 plug-in 'failing")
        assert message in line


# A function that is registered, and fails when it is called -> words of the reason.
FUNCTIONS = {
    "lambda: 1 / 0": "ZeroDivisionError: division by zero",
    "lambda: sys.exit(3)": "RuntimeError: SystemExit: 3",
    "lambda needed: rb.ResNetSpec()": "TypeError",
    "lambda: rb.ResNetSpec(depths=(10**9, 1), widths=(8, 8))": "ValueError: depths must be at most",
    "rb.ResNetSpec(block='nobody_has_it')": "UnknownNameError: no block is called 'nobody_has_it'",
    "rb.ResNetSpec(block='by_path')": "ModuleNotFoundError: No module named 'no_such_module'",
    "lambda: [print('noise'), rb.ResNetSpec(block='nobody')][1]": "UnknownNameError",
    "dict": None,
    "lambda: None": None,
    "lambda: rb.ResNetSpec()": None,
}


def test_one_bad_backbone_is_listed_with_its_reason_and_breaks_no_list(tmp_path):
    registered = "\n".join(f"rb.register_backbone('bad{i}²', {code})" for i, code in enumerate(FUNCTIONS))
    code = f"""
import json, sys
import resnet_backbones as rb
from typer.testing import CliRunner
from resnet_backbones.cli.app import app
rb.register_block('by_path', 'no_such_module:block')
{registered}
assert len(rb.list_backbones("bad*")) == {len(FUNCTIONS)}
rb.list_backbones(quantizable=True), rb.list_backbones(quantizable=False), rb.list_families()
run = CliRunner().invoke
for words in (["list"], ["list", "--json"], ["list", "--quantizable"], ["doctor"]):
    assert run(app, words).exit_code == 0, words
for name in rb.list_backbones("bad*"):
    assert run(app, ["info", name]).exit_code == 0
    info = json.loads(run(app, ["info", name, "--json"]).stdout)
    print(info["problem"])
"""
    printed = run_python(code).splitlines()
    for line, reason in zip(printed, FUNCTIONS.values(), strict=True):
        assert line.startswith(str(reason)), line


SLOW = """
import importlib.metadata, threading, time, warnings
import resnet_backbones as rb
from resnet_backbones.backbones import plugins
plugins.PATIENCE = 0.3
points = [importlib.metadata.EntryPoint("slow", "slow_module", plugins.GROUP)]
importlib.metadata.entry_points = lambda group: points
warnings.simplefilter("always")
messages = []
warnings.showwarning = lambda message, *_: messages.append(str(message))
"""


def test_a_plugin_that_hangs_is_named_while_it_does(tmp_path):
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(1)\n")
    waiting = """
def wait():
    time.sleep(0.1)
    rb.list_backbones()
    print("went on", plugins._loading != "")
waiter = threading.Thread(target=wait)
waiter.start()
rb.list_backbones()
waiter.join()
print(*messages, sep="\\n")
"""
    went_on, *messages = run_python(SLOW + waiting, paths=[tmp_path]).splitlines()
    assert went_on == "went on True"
    assert len(messages) == 2
    for words in ("(slow_module) has not finished loading after 0.3 s", "is still being loaded by another thread"):
        assert any(f"plug-in 'slow' of package 'unknown' {words}" in message for message in messages)


def test_threads_that_need_the_same_module_do_not_wait_for_ever(tmp_path):
    """One thread imports a package itself, which lists names; another one loads it as a plug-in at that moment."""
    (tmp_path / "slow_module.py").write_text(
        "import time, resnet_backbones as rb\ntime.sleep(0.3)\nrb.list_backbones()\n"
        "rb.register_backbone('late', rb.ResNetSpec())\n"
    )
    both = """
first = threading.Thread(target=lambda: __import__("slow_module"))
first.start()
time.sleep(0.1)
names = rb.list_backbones()
first.join()
print("late" in names, "late" in rb.list_backbones())
"""
    assert run_python(SLOW + both, paths=[tmp_path]).splitlines()[-1] == "True True"


def test_an_interrupted_load_goes_on_where_it_was(tmp_path):
    (tmp_path / "slow_module.py").write_text(
        "import resnet_backbones as rb, os\nrb.register_backbone('once', rb.ResNetSpec())\n"
        "if not os.environ.get('AGAIN'):\n    raise KeyboardInterrupt\n"
    )
    first = "import resnet_backbones as rb\ndef register(): rb.register_backbone('f', rb.ResNetSpec())"
    (tmp_path / "first.py").write_text(first)
    code = """
import os
points.insert(0, importlib.metadata.EntryPoint("first", "first:register", plugins.GROUP))
try:
    rb.list_backbones()
except KeyboardInterrupt:
    os.environ["AGAIN"] = "1"
print(rb.list_backbones("once"), rb.list_backbones("f"), messages)
"""
    assert run_python(SLOW + code, paths=[tmp_path]) == "['once'] ['f'] []"
