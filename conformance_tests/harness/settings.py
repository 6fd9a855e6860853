"""Instances of a rule to try, derived from its declaration."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from samestep import proof
from samestep.declaration import Hyper, Option
from samestep.kept import Keeping, as_seen
from samestep.precisions import PRECISION_KINDS
from samestep.rule import Rule, registry
from samestep.weight_decay import OF_PEAK
from samestep.wrapper import Wrapper

OFF_BY_DEFAULT = 2**-6
"""The value of a number that is zero by default, and the distance of others from their limits."""

__all__ = ["all_rules", "as_seen", "is_own", "load_rules", "representatives", "settings", "typical"]


def all_rules() -> list[type[Rule]]:
    """Every registered rule: the package's and those of ``SAMESTEP_RULES``."""
    return [registry[name] for name in sorted(registry)]


def is_own(rule: Rule | type[Rule]) -> bool:
    """Whether a rule is the package's."""
    return rule.is_own()


@cache
def representatives() -> list[type[Rule]]:
    """A few rules that together declare everything that executors and files treat specially.

    What proves an adapter or a file for these proves it for all: with every need, a wrapper, every
    shape and dtype of a slot, state that all parameters share, no state, a least number of
    dimensions. The first is an element rule.
    """
    own = [rule for rule in all_rules() if is_own(rule)]
    traits = {rule: _traits(rule) for rule in own}
    found = [_of_need("element")]
    left = set().union(*traits.values()) - traits[found[0]]
    while left:
        found.append(max(own, key=lambda rule: len(traits[rule] & left)))
        left -= traits[found[-1]]
    return found


def _traits(rule: type[Rule]) -> set[object]:
    """The declared features of a rule that executors, placements and files treat specially."""
    one, shape = typical(rule), (4, 6)
    if not (one.slots() or one.shared()):
        return {"no state"}
    found: set[object] = {"a wrapper" if issubclass(rule, Wrapper) else one.needs}
    for slot in one.slots().values():
        known = slot.init.shapes
        found.add((slot.init.dtype, known is not None and known(shape, one)))
    found |= {"shared"} if one.shared() else set()
    return found | ({one.min_ndim} if one.min_ndim else set())


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
        known = {*registry}
        spec.loader.exec_module(module)
        proof.SUITE.update(registry[name] for name in registry.keys() - known)


def typical(rule: type[Rule], **changes: Any) -> Rule:
    """The rule with every feature on that has a typical value, weight decay above all."""
    values = {
        name: field.typical
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and field.typical is not None
    }
    values |= as_seen(rule)
    if issubclass(rule, Wrapper):
        return rule(typical(_of_need("element")), **{**values, **changes})
    return rule(**{**values, **changes})


def settings(rule: type[Rule]) -> dict[str, Rule]:
    """The typical instance, and one more for every other choice that its fields offer.

    For an option that is every other value; for a number that is off by default and has no typical
    value a small one, for a limit that is infinite by default a tight one; and for what switches a
    slot on, zero. A quirk that a library has is on in one more. What the rule refuses is left out.
    """
    found = {"typical": typical(rule)}
    switches = {slot.only_if for slot in typical(rule).slots().values()}
    for name, field in rule.fields().items():
        for value in _others(field, name in switches):
            beside = {"peak_lr": 2 * typical(rule).lr} if value in OF_PEAK else {}
            try:
                found[f"{name}={value}"] = typical(rule, **{name: value}, **beside)
            except ValueError:
                continue
    for quirk in rule.quirks_known():
        option, _, without = quirk.formerly or ("", None, None)
        switched = {option: without} if option in rule.fields() else {}  # what it is a form of
        try:
            found[f"with {quirk.name}"] = typical(rule, **switched, quirks=(quirk.name,))
        except ValueError:
            continue
    if issubclass(rule, Wrapper):
        for need in ("tensor", "tree"):
            try:
                found[f"around {need}"] = rule(typical(_of_need(need)), **as_seen(rule))
            except ValueError:
                continue
    return found


def _others(field: Hyper | Option, switches: bool) -> list[Any]:
    """Values of a field to try in addition to the typical one."""
    if isinstance(field, PRECISION_KINDS):
        return []
    if isinstance(field, Option):
        choices = field.choices or ((True, False) if isinstance(field.default, bool) else ())
        usual = (None, "oi") if isinstance(field, Keeping) else (field.default,)
        return [choice for choice in choices if choice not in usual]
    if switches:
        return [0.0]
    if field.default == inf:
        return [(field.ge or 0.0) + OFF_BY_DEFAULT]
    off = isinstance(field.default, float) and field.default == 0 and field.typical is None
    return [OFF_BY_DEFAULT] if off else []


def _of_need(need: str) -> type[Rule]:
    """The first rule of the package that needs this and moves at once."""
    plain = (rule for rule in all_rules() if is_own(rule) and not issubclass(rule, Wrapper))
    return next(rule for rule in plain if rule.needs == need and not rule.waits)
