"""All but one step of the build is in pyproject.toml: the type stubs are written before it."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def load(name, path):
    """Import a module of the checkout, which is not installed yet, under its name."""
    spec = spec_from_file_location(name, ROOT / path)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithStubs(build_py):
    """The build of a package whose rules have made the stubs of their classes."""

    def run(self):
        """Write the stubs, then build."""
        load("samestep", "core/__init__.py")
        load("stubs", "conformance_tests/harness/stubs.py").main()
        super().run()


setup(cmdclass={"build_py": BuildWithStubs})
