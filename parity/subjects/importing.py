"""What a description of a subject names: a class, a function, or something that is made already."""

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

__all__ = ["SubjectError", "entries", "imported", "stepping"]


class SubjectError(ValueError):
    """A subject that cannot be imported, built or stepped; the message says which and why."""


@cache
def entries() -> dict[str, Any]:
    """The modules that step optimizers, by the package that these are made with."""
    return {entry.name: entry for entry in entry_points(group="samestep.subjects")}


def stepping(package: str, who: str = "") -> ModuleType:
    """The module that steps the optimizers of a package.

    Raises:
        SubjectError: it, or the package, cannot be imported.
    """
    try:
        module: ModuleType = entries()[package].load()
    except ImportError as error:
        raise SubjectError(f"{who or package} cannot be imported: {error}") from error
    return module


def imported(name: str) -> Any:
    """What a dotted name, ``module:name``, ``file.py:name`` or ``samestep:Rule`` names.

    Raises:
        SubjectError: the name does not exist, or it cannot be imported.
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
    """The name in the same module that is nearest to one that is not there."""
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
    """The content of a module whose packages lack a dependency that it does not need itself.

    holocron and timm cannot be imported without a torchvision that fits; their optimizers need
    none. The folder is looked through for the module that defines the name, which is imported as
    if there were nothing in the packages around it.
    """
    *above, inside = re.split(r"[.:]", name)
    try:
        spec = importlib.util.find_spec(above[0]) if len(above) > 1 else None
    except (ImportError, ValueError):
        return None
    for root in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(root, *above[1:])
        if folder.is_dir():
            for path in sorted(folder.glob("*.py")):
                if _defines(path, inside):
                    return _alone(folder, f"_subject_{'_'.join(above)}", path.stem, inside)
    return None


def _defines(path: Path, name: str) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return re.search(rf"^(class|def) {re.escape(name)}\b", text, re.MULTILINE) is not None


def _alone(folder: Path, package: str, module: str, name: str) -> Any:
    if package not in sys.modules:
        bare = sys.modules[package] = ModuleType(package)
        bare.__path__ = [str(folder)]
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), name, None)
    except ImportError:
        return None
