"""Instances of a rule to try, derived from its declaration."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from samestep.declaration import Hyper, Option, Storage
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

OFF_BY_DEFAULT = 2**-6
"""What a number is set to that is zero by default."""

__all__ = ["all_rules", "load_rules", "settings", "typical"]


def all_rules() -> list[type[Rule]]:
    """Every registered rule: the package's and those of ``SAMESTEP_RULES``."""
    return [registry[name] for name in sorted(registry)]


def load_rules() -> None:
    """Import the files that ``SAMESTEP_RULES`` names, whose rules are registered by that.

    Raises:
        FileNotFoundError: one of them is not there, or is no Python file.
    """
    for path in map(Path, filter(None, os.environ.get("SAMESTEP_RULES", "").split(os.pathsep))):
        if getattr(sys.modules.get(path.stem), "__file__", None) == str(path):
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.exists():
            raise FileNotFoundError(f"SAMESTEP_RULES={path}: there is no such Python file")
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def typical(rule: type[Rule], **changes: Any) -> Rule:
    """The rule with every feature on that has a typical value, weight decay above all."""
    values = {
        name: field.typical
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and field.typical is not None
    }
    if issubclass(rule, Wrapper):
        return rule(typical(_of_need("element")), **{**values, **changes})
    return rule(**{**values, **changes})


def settings(rule: type[Rule]) -> dict[str, Rule]:
    """The typical instance, and one more for every other choice that its fields offer.

    For an option that is every other value; for a number that is off by default and has no typical
    value a small one; and for what switches a slot on, zero. What the rule refuses is left out.
    """
    found = {"typical": typical(rule)}
    switches = {slot.only_if for slot in typical(rule).slots().values()}
    for name, field in rule.fields().items():
        for value in _others(field, name in switches):
            try:
                found[f"{name}={value}"] = typical(rule, **{name: value})
            except ValueError:
                continue
    if issubclass(rule, Wrapper):
        for need in ("tensor", "tree"):
            try:
                found[f"around {need}"] = rule(typical(_of_need(need)))
            except ValueError:
                continue
    return found


def _others(field: Hyper | Option, switches: bool) -> list[Any]:
    """Values of a field to try beside the typical one."""
    if isinstance(field, Storage):
        return []
    if isinstance(field, Option):
        choices = field.choices or ((True, False) if isinstance(field.default, bool) else ())
        return [choice for choice in choices if choice != field.default]
    if switches:
        return [0.0]
    off = isinstance(field.default, float) and field.default == 0 and field.typical is None
    return [OFF_BY_DEFAULT] if off else []


def _of_need(need: str) -> type[Rule]:
    """The first rule of the package that needs this, whatever rules there are beside it."""
    own = [rule for rule in all_rules() if rule.__module__.startswith("samestep.")]
    return next(rule for rule in own if not issubclass(rule, Wrapper) and rule.needs == need)
