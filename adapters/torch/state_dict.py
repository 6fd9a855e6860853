"""The state dict of an optimizer: saving it, and checking and loading another one."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Hashable, Mapping
from copy import deepcopy
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from samestep.arrays import listed, parts
from samestep.checkpoints.tensor import Tensor
from samestep.kept import rule_of
from samestep.names import unwrapped
from samestep.rule import Rule
from samestep.step import FLOATING
from samestep.weight_decay import of_schedule
from torch.utils._pytree import tree_map

from .aged import RECORD, completed, written_by
from .counting import CALLS, calls_in, counts_in, entry, now, numbers_in
from .described import warn_of_numbers
from .entries import entries_of
from .kernels import is_fake
from .members import count_of, is_ours, slots_of
from .modes import EVALUATION, POINT, TRAINED, refuse_half_evaluated
from .pieces import is_spread
from .sharded import placed

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["as_mapping", "is_called_by", "loaded", "settled"]

Group = dict[str, Any]

CALLS_BETWEEN = 6
"""How many calls there may be between a method and who calls it, as of hooks and schedulers."""


def settled(optimizer: RuleOptimizer, saved: dict[str, Any], is_form: bool) -> dict[str, Any]:
    """A state dict with the current numbers instead of schedules.

    ``is_form``: whether another state is to be loaded in its form, which may be one of training.
    """
    if is_form:
        for key, own in saved["state"].items():
            saved["state"][key] = {n: v for n, v in own.items() if n != TRAINED}
    calls = calls_in(optimizer)
    for group, packed in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        own = optimizer._rule_of(group)
        packed[RECORD] = written_by(optimizer, group)
        if not own.constant:
            rule = now(optimizer, own)
            packed.update({name: rule.hypers[name] for name in _scheduled(group, rule)})
        packed[CALLS] = calls
    return saved


def loaded(optimizer: RuleOptimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """State and groups of the optimizer as a state dict has them; the optimizer stays as it is."""
    _check_form(optimizer, saved)
    matched, states = _matched(optimizer, saved["param_groups"]), {**saved["state"]}
    saved_groups = [
        completed(optimizer, group, saved_group)
        for group, saved_group in zip(optimizer.param_groups, matched, strict=True)
    ]
    groups: list[Group] = []
    state: defaultdict[Any, Any] = defaultdict(dict)
    for group, saved_group in zip(optimizer.param_groups, saved_groups, strict=True):
        _check_group(optimizer, group, saved_group, stepped=bool(states))
        rule, named = optimizer._rule_of(saved_group), optimizer._named(group)
        for (name, param), key in zip(named, saved_group["params"], strict=True):
            own = entries_of(as_mapping(optimizer, f"the state of {name!r}", states.pop(key, {})))
            if "step" in own:
                own["step"] = count_of(own["step"], "cpu")
                none = {entry(name): torch.zeros(()) for name in optimizer.rule.withholds}
                own |= {name: zero for name, zero in none.items() if name not in own}
                own = _of_mode(saved_group.get(POINT) == EVALUATION, param, own)
            if own:
                _check_state(rule, name, param, own)
                counted = param.device if optimizer.capturable else "cpu"
                state[param] = {
                    n: _copied(v, counted if n == "step" else param.device) for n, v in own.items()
                }
        names = ["params", "param_names", "places", *_scheduled(group, optimizer._own(group))]
        kept = {name: group[name] for name in names if name in group}
        both = saved_group | kept
        groups.append({n: v if n in kept else _own(v) for n, v in both.items()})
    _check_shared(optimizer, saved_groups)
    refuse_half_evaluated(optimizer, groups, state)
    fours = zip(optimizer.param_groups, groups, saved_groups, matched, strict=True)
    for group, new, saved_group, before in fours:
        warn_of_numbers(optimizer, group, new, saved_group, before.get(RECORD))
    steps = [n or 0 for n in counts_in([s["step"] for s in state.values() if "step" in s])]
    calls = [group[CALLS] for group in saved_groups if CALLS in group] or steps
    state.update(states)  # of no parameter: kept as it is, as torch does
    common = {n: v for n, v in (groups or [{}])[0].items() if n in optimizer.rule.shared()}
    most = max(calls, default=0)
    for group in groups:
        group[CALLS] = most
    return {"state": state, "param_groups": groups, "_calls": most, "_common": common}


def is_called_by(function: str) -> bool:
    """Whether one of torch's functions of state dicts calls the method that asks."""
    frame: Any = sys._getframe(2)
    for _ in range(CALLS_BETWEEN):
        if frame is None:
            return False
        code, frame = frame.f_code, frame.f_back
        if code.co_name == function:
            return True
    return False


def as_mapping(optimizer: RuleOptimizer, what: str, value: Any) -> Mapping[Any, Any]:
    """The value, if it is a mapping; raises ValueError otherwise."""
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{optimizer.rule.name}: {what} must be a dict; what is to be loaded has {value!r}"
        )
    return value


def _check_form(optimizer: RuleOptimizer, saved: dict[str, Any]) -> None:
    """Refuse a value that does not have the form of an optimizer's state dict."""
    who = optimizer.rule.name
    if not {"state", "param_groups"} <= {*saved}:
        raise ValueError(
            f"{who}: this is no state dict of an optimizer; it has "
            f"{listed(saved)}, not state and param_groups"
        )
    as_mapping(optimizer, "state", saved["state"])
    groups, keys = saved["param_groups"], set()
    if not isinstance(groups, (list, tuple)):
        raise ValueError(f"{who}: param_groups must be a list; the state dict has {groups!r}")
    for place, group in enumerate(groups):
        as_mapping(optimizer, f"group {place}", group)
        params = group.get("params")
        if not isinstance(params, (list, tuple)):
            raise ValueError(
                f"{who}: params of group {place} must be a list of keys of state; the state dict "
                f"has {params!r}"
            )
        for key in params:
            if not isinstance(key, Hashable) or key in keys:
                raise ValueError(
                    f"{who}: params of group {place} are {params!r} in the state dict; every "
                    f"parameter must have a key of its own, not {key!r}"
                )
            keys.add(key)
        for name in {"param_names", "places"} & {*group}:
            names = group[name]
            if not isinstance(names, (list, tuple)) or len(names) != len(params):
                raise ValueError(
                    f"{who}: {name} of group {place} must be a list of {len(params)} names; the "
                    f"state dict has {names!r}"
                )


def _matched(optimizer: RuleOptimizer, saved_groups: list[Group]) -> list[Group]:
    """The saved groups, with groups and parameters in the order of the optimizer."""
    if all("param_names" in group for group in (*optimizer.param_groups, *saved_groups)):
        return _matched_by_name(optimizer, saved_groups)
    saved_sizes = [len(group["params"]) for group in saved_groups]
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if saved_sizes != sizes:
        raise ValueError(
            f"{optimizer.rule.name}: the state dict has groups of {saved_sizes} "
            f"parameters, the optimizer of {sizes}"
        )
    for group, saved in zip(optimizer.param_groups, saved_groups, strict=True):
        own, theirs = group.get("places", ()), saved.get("places", ())
        if own and theirs and [*own] != [*theirs]:
            raise ValueError(
                f"{optimizer.rule.name}: the state dict has the parameters {', '.join(theirs)} in "
                f"a group where the optimizer has {', '.join(own)}; they must be given in the same "
                "order, or with names on both sides"
            )
    return saved_groups


def _matched_by_name(optimizer: RuleOptimizer, saved_groups: list[Group]) -> list[Group]:
    if len(saved_groups) != len(optimizer.param_groups):
        raise ValueError(
            f"{optimizer.rule.name}: the state dict has {len(saved_groups)} groups, the optimizer "
            f"{len(optimizer.param_groups)}"
        )
    left, found = _named_by_key(optimizer, saved_groups), []
    for place, group in enumerate(optimizer.param_groups):
        names = group["param_names"]
        alike = [own for own in left if sorted(own["param_names"]) == sorted(names)]
        same = [own for own in alike if own["param_names"] == names]
        if not alike or (not same and len({*names}) < len(names)):
            theirs = "; ".join(", ".join(own["param_names"]) for own in left)
            raise ValueError(
                f"{optimizer.rule.name}: group {place} has the parameters {', '.join(names)}; the "
                f"state dict has groups of {theirs or 'none'}; names must be equal, and "
                "different from each other where the order is another"
            )
        saved = (same or alike)[0]
        if not same and _has_other_keys(saved):
            raise ValueError(
                f"{optimizer.rule.name}: group {place} has the parameters {', '.join(names)}; the "
                f"state dict has them as {', '.join(saved['param_names'])} under the keys "
                f"{', '.join(map(str, saved['params']))}, which does not say which is which; give "
                "the names that the model has for them"
            )
        left = [own for own in left if own is not saved]
        keys = dict(zip(saved["param_names"], saved["params"], strict=True))
        found.append(saved if same else {**saved, "params": [keys[name] for name in names]})
    return found


def _named_by_key(optimizer: RuleOptimizer, groups: list[Group]) -> list[Group]:
    """The saved groups, with names in the order of the keys if the keys are names.

    They are in ``torch.distributed.checkpoint``, which sorts the keys as the loading optimizer has
    them and leaves ``param_names`` as the saved optimizer had them.
    """
    named = []
    for group in groups:
        names = [*group["param_names"]]
        alike = (form for form in _forms(group) if sorted(form) == sorted(names))
        named.append({**group, "param_names": next(alike, names)})
    saved = [name for group in named for name in group["param_names"]]
    own = [name for group in optimizer.param_groups for name in group["param_names"]]
    short = iter(saved if sorted(saved) == sorted(own) else unwrapped(saved))
    return [{**group, "param_names": [*islice(short, len(group["params"]))]} for group in named]


def _has_other_keys(group: Group) -> bool:
    """Whether the keys are names that differ from ``param_names``."""
    return not _by_place(group) and group["param_names"] not in _forms(group)


def _forms(group: Group) -> list[list[str]]:
    """The keys where they are names, as they are and without what wrappers add to them."""
    keys = [] if _by_place(group) else [*map(str, group["params"])]
    return [keys, *(unwrapped(keys, within) for within in ((), {""}, None))]


def _by_place(group: Group) -> bool:
    return all(isinstance(key, int) for key in group["params"])


def _check_group(optimizer: RuleOptimizer, group: Group, saved_group: Group, stepped: bool) -> None:
    """Refuse a saved group of another rule."""
    who = optimizer.rule.name
    if saved_group.get("branch", 0) != group.get("branch", 0):
        raise ValueError(f"{who}: the state dict has its parameters on other routes")
    rule = optimizer._rule_of(saved_group)
    if rule.bare != optimizer._rule_of(group).bare:
        raise ValueError(
            f"{who}: the state dict is that of {rule!r}, "
            f"the optimizer is {optimizer._rule_of(group)!r}; options must be equal"
        )
    missing = {*optimizer.rule.shared()} - {*saved_group}
    if missing and stepped:
        raise ValueError(f"{who}: the state dict has no {', '.join(missing)}")
    calls = saved_group.get(CALLS, 0)
    if not isinstance(calls, int) or isinstance(calls, bool) or calls < 0:
        raise ValueError(
            f"{who}: {CALLS} is {calls!r} in the state dict; it must be a whole number >= 0"
        )


def _check_shared(optimizer: RuleOptimizer, saved_groups: list[Group]) -> None:
    """Refuse shared state that is no finite number, or another one in another group."""
    who, names = optimizer.rule.name, optimizer.rule.shared()
    values = [(n, group[n]) for n in names for group in saved_groups if n in group]
    first: dict[str, Any] = {}
    for (name, value), number in zip(values, numbers_in([v for _, v in values]), strict=True):
        if number is None:
            raise ValueError(
                f"{who}: {name} is {value!r} in the state dict; it must be a 0-d tensor of "
                f"{', '.join(FLOATING)}, and finite"
            )
        if first.setdefault(name, number) != number:
            raise ValueError(
                f"{who}: {name} is {first[name]} in a group of the state dict and {number} in "
                "another; it belongs to all parameters together"
            )


def _of_mode(evaluating: bool, param: torch.Tensor, own: dict[str, Any]) -> dict[str, Any]:
    """A state with the parameter of training, in pieces as that is, in evaluation only."""
    if not evaluating:
        return {name: value for name, value in own.items() if name != TRAINED}
    value = own.get(TRAINED)
    if is_spread(param) and isinstance(value, torch.Tensor) and not is_spread(value):
        return own | {TRAINED: placed(Tensor.of(value), param)}
    return own


def _check_state(rule: Rule, name: str, param: torch.Tensor, own: dict[str, Any]) -> None:
    """Refuse a saved state of another rule or of another parameter."""
    if not is_ours(rule, own):
        return
    try:
        slots_of(rule_of(rule, name, param), name, param, own, *counts_in([own.get("step")]))
    except ValueError as error:
        raise ValueError(
            f"{error}; so it is in the state dict, of which nothing has been loaded"
        ) from error


def _scheduled(group: Group, rule: Rule) -> list[str]:
    """The hyperparameters of a group that are schedules, or have a schedule as an element.

    So are numbers that a schedule of another one knows.
    """
    found = [name for name in rule.hypers if any(map(callable, parts(group[name])))]
    return [*found, *of_schedule(group)]


def _own(value: Any) -> Any:
    """A copy; a fake tensor has no memory, which ``deepcopy`` would look for."""
    fake = isinstance(value, torch.Tensor) and is_fake(value)
    return value.clone() if fake else deepcopy(value)


def _copied(value: Any, device: torch.device | str) -> Any:
    """A copy with its tensors on a device; entries of other code may have any type."""

    def one(part: Any) -> Any:
        if not isinstance(part, torch.Tensor):
            return deepcopy(part)
        made: torch.Tensor = getattr(
            part, "copied", part.clone
        )()  # an array in a file reads itself
        return made.to(device)

    return tree_map(one, value)
