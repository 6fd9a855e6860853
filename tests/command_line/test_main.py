"""The group of commands: it finds them, and names what is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner

from samestep.command_line import commands as folder
from samestep.command_line.main import PACKAGES, commands

REFUSED = 2
"""Exit code."""


def test_a_command_is_a_file() -> None:
    files = {path.stem for path in Path(folder.__file__).parent.glob("[!_]*.py")}
    group = commands()
    assert {*group.list_commands(Context(group))} == files
    shown = CliRunner().invoke(group, ["--help"]).output
    for name in files:
        command = group.get_command(Context(group), name)
        assert command is not None and command.name == name
        assert command.help and f"  {name} " in shown


def test_an_unknown_command_is_refused() -> None:
    done = CliRunner().invoke(commands(), ["report"])
    assert done.exit_code == REFUSED and "No such command 'report'" in done.output


RUN = """
import contextlib, io, json, os, sys
from samestep.command_line.main import main

for missing, words in json.loads(sys.argv[1]):
    if os.fork():
        os.wait()
        continue
    sys.modules.update(dict.fromkeys(missing))
    sys.argv, out, err, code = ["samestep", *words], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as exit:
            code = exit.code
    print(json.dumps([code, out.getvalue(), err.getvalue(), os.listdir()]), flush=True)
    os._exit(0)
"""
"""Runs command lines, each in a fork where some packages cannot be imported."""
Outcome = tuple[int, str, str, list[str]]
"""Exit code, output, errors and files."""
MISSING = {
    **{package: ["demo"] for package in ("click", "rich", "jinja2", "sklearn")},
    "matplotlib": ["bench"],
    "rich, for list": ["list"],
    "jinja2, for parity": ["parity", "samestep:SGD", "samestep:SGD", "--html", "page.html"],
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The outcome of every command line, all from one process."""
    others = [package for package in PACKAGES if package != "click"]
    help_alone = ([*others, "torch", "jax", "mlx"], ["--help"])
    asked = [help_alone, *(([name.partition(",")[0]], words) for name, words in MISSING.items())]
    command = [sys.executable, "-c", RUN, json.dumps(asked)]
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(zip(["help", *MISSING], map(json.loads, done.stdout.splitlines()), strict=True))


def test_help_needs_click_alone(outcomes: dict[str, Outcome]) -> None:
    code, out, err, _ = outcomes["help"]
    assert code == 0, err
    assert "parity" in out


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_package_is_a_sentence(outcomes: dict[str, Outcome], name: str) -> None:
    code, _, err, files = outcomes[name]
    package = name.partition(",")[0]
    assert (code, files) == (REFUSED, [])
    assert err.splitlines()[-1] == (
        f'samestep needs {package}, which is not installed: pip install "samestep[demo]"'
    )
    assert "Traceback" not in err
