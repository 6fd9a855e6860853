"""Type stubs of the classes that are made at run time, derived from the declarations.

``python -m samestep.conformance.stubs`` writes an ``__init__.pyi`` beside the ``__init__.py`` of
the package, of its rules and of every adapter. With ``--check`` it writes nothing and says which
of them are stale. The stub of an adapter whose framework is not installed is left as it is.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import rules
from ..declaration import Hyper, Option
from ..rule import Rule, Wrapper, registry

__all__ = ["adapters", "folder", "main", "stale", "stubs"]

HEADER = "# Written by python -m samestep.conformance.stubs from the declarations of the rules.\n"

TYPES = '''
class _Array(Protocol):
    """A 0-d array of any framework, for values that are traced."""

    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> Any: ...

_Schedule: TypeAlias = Callable[[Any], Any]
"""From the 0-based step to the value."""

_Scalar: TypeAlias = float | _Array | _Schedule
_Whole: TypeAlias = int | _Array | _Schedule
'''

WIDTH = 96


def adapters() -> list[str]:
    """Names of the packages that serve a native class per rule, beside which a backend is."""
    found = {entry.module.rpartition(".")[0] for entry in entry_points(group="samestep.backends")}
    return sorted(name for name in found if (folder(name) / "__init__.pyi").exists()
                  or "native.serve(" in (folder(name) / "__init__.py").read_text())


def folder(package: str) -> Path:
    """Where a package lies on disk."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no package {package}")
    return Path(spec.origin).parent


def stubs() -> Iterator[tuple[Path, str]]:
    """Every stub, path and text."""
    yield folder("samestep.rules") / "__init__.pyi", _rules_stub()
    yield folder("samestep") / "__init__.pyi", _core_stub(import_module("samestep"))
    for name in adapters():
        try:
            adapter = import_module(name)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            yield folder(name) / "__init__.pyi", _adapter_stub(adapter)


def stale() -> list[Path]:
    """The stubs that are missing or differ from what the declarations say."""
    return [path for path, text in stubs() if not path.exists() or path.read_text() != text]
