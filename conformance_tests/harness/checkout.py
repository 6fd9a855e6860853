"""The checkout that the suite was installed from, where there is one."""

from __future__ import annotations

import shutil
from pathlib import Path

from .stubs import ROOT, folder, project

__all__ = ["ROOT", "copy_packages", "packages"]


def packages() -> dict[str, Path]:
    """The folder of every package that does not lie in its parent's folder, outer ones first."""
    return {name: folder(name) for name in sorted(project()["tool"]["setuptools"]["package-dir"])}


def copy_packages(target: Path) -> None:
    """Lay the packages out as an installation does, without tests.

    An editable installation maps names to folders while Python runs, which no type checker follows.
    """
    left_out = shutil.ignore_patterns("__pycache__", "test_*.py", "conftest.py")
    for name, source in packages().items():
        place = target / name.replace(".", "/")
        shutil.copytree(source, place, ignore=left_out, dirs_exist_ok=True)
