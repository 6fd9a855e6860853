"""What of the build is not in pyproject.toml: stubs are written, and links for type checkers."""

import shutil
import sys
import tomllib
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent


def load(name, path):
    """Import a module of the checkout, which is not installed yet, under its name."""
    spec = spec_from_file_location(name, ROOT / path)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def link_packages(target):
    """Lay links to the packages out as an installation lays out the packages.

    An editable installation maps names to folders while Python runs, which no type checker follows.
    A folder ``samestep-stubs`` is followed by type checkers, and never imported.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = settings["tool"]["setuptools"]["package-dir"]
    root = Path(target, "samestep-stubs")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for source in (ROOT / folders["samestep"]).iterdir():
        (root / source.name).symlink_to(source)
    for name, folder in folders.items():
        if name.startswith("samestep."):
            (root / name.removeprefix("samestep.")).symlink_to(ROOT / folder)


class BuildWithStubs(build_py):
    """The build of a package whose rules have made the stubs of their classes."""

    def run(self):
        """Write the stubs, then build."""
        load("samestep", "core/__init__.py")
        load("stubs", "conformance_tests/harness/stubs.py").main()
        super().run()


class EditableWithTypes(editable_wheel):
    """An editable installation that type checkers find."""

    def _run_build_commands(self, name, unpacked, *others):
        found = super()._run_build_commands(name, unpacked, *others)
        with suppress(OSError):  # a system without links
            link_packages(ROOT / "build" / "types")
            Path(unpacked, "samestep_types.pth").write_text(f"{ROOT / 'build' / 'types'}\n")
        return found


setup(cmdclass={"build_py": BuildWithStubs, "editable_wheel": EditableWithTypes})
