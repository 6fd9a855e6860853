"""Instances of a rule to try, derived from its declaration."""

from __future__ import annotations

from typing import Any

from ..declaration import Hyper, Option
from ..parity import Trajectory
from ..rule import Rule, Wrapper, registry

__all__ = ["all_rules", "settings", "suited", "typical"]


def all_rules() -> list[type[Rule]]:
    """Every registered rule: the package's and those of ``SAMESTEP_RULES``."""
    return [registry[name] for name in sorted(registry)]


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
    """The typical instance, one for every other choice of every option, one without each slot."""
    found = {"typical": typical(rule)}
    for name, field in rule.fields().items():
        if isinstance(field, Option) and name != "state_dtype":
            choices = field.choices or ((True, False) if isinstance(field.default, bool) else ())
            for choice in choices:
                if choice != field.default:
                    found[f"{name}={choice}"] = typical(rule, **{name: choice})
    switches = {slot.only_if for slot in typical(rule).slots().values()}
    for name, field in rule.fields().items():
        if name in switches:
            found[f"{name}=0"] = typical(rule, **{name: type(field.default)(0)})
    if issubclass(rule, Wrapper):
        for need in ("tensor", "tree"):
            found[f"around {need}"] = rule(typical(_of_need(need)))
    return found


def suited(rule: Rule, trajectory: Trajectory) -> Trajectory:
    """The part of a trajectory whose parameters the rule takes."""
    return trajectory.taken(
        {path for path, array in trajectory.params.items() if array.ndim >= rule.min_ndim}
    )


def _of_need(need: str) -> type[Rule]:
    return next(
        rule for rule in all_rules() if not issubclass(rule, Wrapper) and rule.needs == need
    )
