"""The group of commands: it finds them, and names what is not installed."""

from __future__ import annotations

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


def run(words: list[str], *missing: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where some packages cannot be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); "
        f"sys.argv = ['samestep', *{words!r}]\n"
        "from samestep.command_line.main import main; main()"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_needs_click_alone() -> None:
    others = [package for package in PACKAGES if package != "click"]
    done = run(["--help"], *others, "torch", "jax", "mlx")
    assert done.returncode == 0, done.stderr
    assert "parity" in done.stdout


@pytest.mark.parametrize(
    ("package", "words"),
    [
        *((package, ["demo"]) for package in ("click", "rich", "jinja2", "sklearn")),
        ("matplotlib", ["bench"]),
        ("rich", ["list"]),
        ("jinja2", ["parity", "samestep:SGD", "samestep:SGD", "--html", "page.html"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_package_is_a_sentence(
    package: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(words, package)
    assert done.returncode == REFUSED
    assert done.stderr.splitlines()[-1] == (
        f'samestep needs {package}, which is not installed: pip install "samestep[demo]"'
    )
    assert "Traceback" not in done.stderr and not [*tmp_path.iterdir()]
