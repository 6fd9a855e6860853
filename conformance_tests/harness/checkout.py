"""The checkout that the suite was installed from, where there is one."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import samestep

__all__ = ["ROOT", "copy_packages", "packages"]

ROOT = Path(samestep.__file__).parent.parent
"""The folder of ``pyproject.toml``; of an installed package it holds something else."""


def packages() -> dict[str, Path]:
    """The folder of every package that does not lie in its parent's folder, outer ones first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = project["tool"]["setuptools"]["package-dir"]
    return {name: ROOT / folders[name] for name in sorted(folders)}


def copy_packages(target: Path) -> None:
    """Lay the packages out as an installation does, without tests.

    An editable installation maps names to folders while Python runs, which no type checker follows.
    """
    left_out = shutil.ignore_patterns("__pycache__", "test_*.py", "conftest.py")
    for name, folder in packages().items():
        place = target / name.replace(".", "/")
        shutil.copytree(folder, place, ignore=left_out, dirs_exist_ok=True)
