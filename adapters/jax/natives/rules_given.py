"""The rule of every parameter, from the rules that a user gives for a transformation of optax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samestep.arrays import listed
from samestep.checkpoints.state import CheckpointError
from samestep.kept import rule_of
from samestep.rule import Rule

from .nodes import Node, States
from .tables import BESIDE, INSIDE, KEPT

__all__ = ["rules_of"]


def rules_of(given: Any, states: States) -> list[Rule]:
    """The rule of every parameter.

    Raises:
        TypeError: the argument is neither a rule nor a dict of rules by label.
        CheckpointError: the labels differ from the labels of the state, or are unknown.
    """
    if isinstance(given, Mapping):
        rules = _by_label(given, states)
    else:
        rule = given if isinstance(given, Rule) else getattr(given, "rule", None)
        if not isinstance(rule, Rule):
            raise TypeError(
                f"{type(given).__name__} tells nothing of its numbers, being a closure; give the "
                'rule that it carries out, such as samestep.AdamW(lr=1e-3, like="optax")'
            )
        rules = dict.fromkeys(states.params, rule)
    return [rule_of(rules[path], path, param) for path, param in states.params.items()]


def _by_label(given: Mapping[Any, Rule], states: States) -> dict[str, Rule]:
    """The rules of parameters that ``optax.partition`` has told apart."""
    labels = _labels(given, states)
    chosen: dict[str, Rule] = {}
    bare = []
    for label, fields in labels.items():
        for entries in fields:
            pairs = zip(states.params, entries, strict=True)
            chosen |= {path: given[label] for path, entry in pairs if entry is not None}
        bare += [] if fields else [label]
    rest = [path for path in states.params if path not in chosen]
    if rest and len(bare) != 1:
        raise CheckpointError(
            f"the state does not tell the labels of {listed(rest[:5])}, since "
            f"{listed(map(str, bare)) or 'no label'} keeps no arrays; give a samestep.route"
        )
    return chosen | (dict.fromkeys(rest, given[bare[0]]) if rest else {})


def _labels(given: Mapping[Any, Rule], states: States) -> dict[Any, list[list[Any]]]:
    """By label, the state of each parameter, field by field."""
    parts = states.of_kinds("PartitionState")
    if len(parts) != 1:
        raise CheckpointError(
            f"rules by label are for one PartitionState; the state has {states.listed()}"
        )
    labels = parts[0].value.inner_states
    if {*map(str, labels)} != {*map(str, given)}:
        raise CheckpointError(
            f"rules are given for the labels {listed(map(str, given))}; the PartitionState has "
            f"{listed(map(str, labels))}"
        )
    return {
        label: [
            states.entries(node, field)
            for node in states.nodes
            if node.place.startswith(f"{parts[0].place}.inner_states[{label!r}]")
            for field in _fields_by_parameter(node)
        ]
        for label in labels
    }


def _fields_by_parameter(node: Node) -> list[str]:
    """The fields of a part that hold something for each parameter."""
    if node.ours:
        return [*node.value.slots]
    places = [kept for table in KEPT.values() for kept in table.values() if not kept.once]
    holds = node.kind in INSIDE and all(node.kind not in kept.states for kept in places)
    if node.kind in BESIDE or holds:
        return []
    known = {kept.field for kept in places}
    return [field for field in node.fields or () if field in known]
