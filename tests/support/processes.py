"""Fresh interpreters; threads and the command line in this one."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import textwrap

#: Source that makes the packages in the set `absent` impossible to import, as if nobody had installed them.
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

sys.meta_path.insert(0, Absent())
"""


def without(*packages):
    """Source for the head of a program: these packages cannot be imported there. It imports `sys`."""
    return f"absent = {set(packages)!r}\n{WITHOUT}"


def run_python(code, *arguments, paths=(), environment=None):
    """Runs source in a fresh interpreter that finds what this one finds, `paths` before it; what it printed, stripped.

    The arguments are its `sys.argv[1:]`; the environment is this process's, with changes. It must end with code 0.
    """
    setup = f"import sys; sys.path[:0] = {[str(path) for path in [*paths, *sys.path]]!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def in_threads(work, count=4):
    """Calls a function in several threads at once; an error of one of them is raised here."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for started in [pool.submit(work) for _ in range(count)]:
            started.result()


def run_command(*arguments):
    """`run_command("list", "--json")` -> result with exit_code, stdout, stderr."""
    from typer.testing import CliRunner

    from resnet_backbones.cli.app import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])
