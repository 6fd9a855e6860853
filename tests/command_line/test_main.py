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


PLAIN = """
import contextlib, importlib.metadata as metadata, io, json, re, sys
from importlib.abc import MetaPathFinder

def needed(name, found):
    # a distribution and what it requires, without extras
    if name not in found:
        found.add(name)
        for each in metadata.requires(name) or ():
            if "extra ==" not in each:
                needed(re.match(r"[\\w-]+", each)[0].lower().replace("_", "-"), found)
    return found

installed = needed("samestep", set())
allowed = {
    package
    for package, names in metadata.packages_distributions().items()
    if {name.lower().replace("_", "-") for name in names} & installed
}

class Plain(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in {*allowed, *sys.stdlib_module_names} and not root.startswith("_"):
            raise ModuleNotFoundError(f"no {root}", name=root)

sys.meta_path.insert(0, Plain())
import numpy, samestep
print(sorted({"click", "rich"} & {*sys.modules}))
from samestep.command_line.main import main
from samestep.recording import Recorder
rule, params = samestep.AdamW(), {"w": numpy.ones(3)}
samestep.save("state", rule, params, rule.init(params))
with Recorder("run") as recording:
    recording.note(0, params, params, rule.update(params, params, rule.init(params))[0], rule)
for words in json.loads(sys.argv[1]):
    sys.argv = ["samestep", *words]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as exit:
        print(words, exit.code)
"""
"""Runs command lines where only what a plain install brings can be imported."""
COMMANDS = [
    ["--help"],
    ["list"],
    ["list", "Adan", "--differences"],
    ["inspect", "state"],
    ["convert", "state", "other"],
    ["replay", "run"],
    ["parity", "samestep:SGD", "samestep:SGD"],
]


def test_a_plain_install_has_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PLAIN, json.dumps(COMMANDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", *(f"{words} 0" for words in COMMANDS)], done.stderr


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
        f'this needs {package}, which is not installed: pip install "{PACKAGES[package]}"'
    )
    assert "Traceback" not in err
