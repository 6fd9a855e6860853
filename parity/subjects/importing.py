"""Imports of subjects by name."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from samestep.arrays import listed
from samestep.rule import registry
from samestep.spelling import did_you_mean

__all__ = ["SubjectError", "alone", "entries", "imported", "stepping"]


class SubjectError(ValueError):
    """A subject that cannot be imported, built or stepped; the message says which and why."""


@cache
def entries() -> dict[str, Any]:
    """The entry points of modules that step optimizers, by package."""
    return {entry.name: entry for entry in entry_points(group="samestep.subjects")}


def stepping(package: str, who: str = "") -> ModuleType:
    """The module that steps the optimizers of a package.

    Raises:
        SubjectError: the module or the package cannot be imported.
    """
    try:
        module: ModuleType = entries()[package].load()
    except ImportError as error:
        raise SubjectError(f"{who or package} cannot be imported: {error}") from error
    return module


def imported(name: str) -> Any:
    """The object with a dotted name, ``module:name``, ``file.py:name`` or ``samestep:Rule``.

    Raises:
        SubjectError: the name does not exist, or cannot be imported.
    """
    place, _, inside = name.rpartition(":")
    if place == "samestep":
        if inside not in registry:
            raise SubjectError(
                f"{name}: there is no such rule; there are {listed(registry)}"
                f"{did_you_mean(inside, registry)}"
            )
        return registry[inside]
    if name.endswith((".py", ".py:")):
        file = name.rstrip(":")
        raise SubjectError(f"{file}: name what is in the file, as in {file}:MyOptimizer")
    root = re.split(r"[.:]", name)[0]
    if root in entries():  # Keras's backend must be chosen before it is imported
        stepping(root, name)
    try:
        if place.endswith(".py"):
            return resolve_name(f"{_loaded(Path(place)).__name__}:{inside}")
        return resolve_name(name)
    except AttributeError as error:
        raise SubjectError(f"{name} cannot be imported: {error}{_near(name)}") from error
    except (ImportError, ValueError) as error:
        found = _without_its_package(name)
        if found is None:
            raise SubjectError(f"{name} cannot be imported: {error}{_near(name)}") from error
        return found


def _near(name: str) -> str:
    """A suggestion: the nearest name in the same module."""
    place, _, inside = name.replace(":", ".").rpartition(".")
    module = sys.modules.get(place)
    known = [other for other in dir(module) if other[:1].isalpha()] if module else []
    return did_you_mean(inside, known)


def _loaded(path: Path) -> ModuleType:
    if not path.exists():
        raise SubjectError(f"{path}: there is no such file")
    try:
        return _executed(f"_subject_{path.stem}", path)
    except Exception as error:
        raise SubjectError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _without_its_package(name: str) -> Any:
    """The object with a name, if only the packages around its module cannot be imported.

    The module that defines the name is searched in the package's folder.
    """
    *above, inside = re.split(r"[.:]", name)
    try:
        folders = [Path(root, *above[1:]) for root in _folders(above[0])] if above[1:] else []
        for path in (path for folder in folders for path in sorted(folder.glob("*.py"))):
            if re.search(rf"^(class|def) {re.escape(inside)}\b", path.read_text("utf-8"), re.M):
                return getattr(alone(".".join((*above, path.stem))), inside, None)
    except (ImportError, ValueError):
        pass
    return None


def _folders(package: str) -> list[str]:
    """The folders of a package, which need not be importable."""
    spec = importlib.util.find_spec(package)
    return [*(spec.submodule_search_locations or [])] if spec else []


@cache
def alone(name: str) -> ModuleType:
    """A module, imported without running the ``__init__`` of the packages around it.

    A package may import more than its optimizers need: holocron and timm import torchvision.

    Raises:
        ImportError: the module does not exist, or cannot be imported.
    """
    root, *parts = name.split(".")
    folders = _folders(root)
    before = {key: sys.modules.pop(key) for key in [*sys.modules] if key.partition(".")[0] == root}
    for at in range(len(parts)):
        bare = sys.modules[".".join((root, *parts[:at]))] = ModuleType(root)
        bare.__path__ = [str(Path(folder, *parts[:at])) for folder in folders]
    try:
        return importlib.import_module(name)
    finally:
        for made in [module for module in sys.modules if module.partition(".")[0] == root]:
            del sys.modules[made]
        sys.modules.update(before)
