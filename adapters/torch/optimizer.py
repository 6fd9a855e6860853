"""A rule as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

import array_api_compat.torch as xp

import torch
from torch._compile import _disable_dynamo

from .. import step as stepping
from ..arrays import listed
from ..execution import EXECUTIONS, checked, say
from ..rule import ELSEWHERE, Rule
from . import kernels
from .kernels import real
from .plan import Member, Plan, tried

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]

_EXECUTORS: dict[str, dict[str, Any]] = {
    "reference": {"kernel": kernels.reference},
    "packed": {"kernel": kernels.packed},
    "compiled": {"kernel": kernels.compiled, "enter": kernels.as_tensors},
}


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a ``torch.optim.Optimizer``; see ``bind``."""

    _plan: Plan | None
    _tried: set[Any]
    _auto: str | None
    _rules: list[tuple[tuple[Any, ...], Rule]]
    _branches: tuple[Rule, ...]

    def __init__(
        self,
        rule: Rule,
        params: Any,
        *,
        execution: str = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
        self.rule = rule
        self.execution = checked(rule.name, execution)
        self.capturable = capturable
        self.differentiable = differentiable
        if differentiable and execution not in ("auto", "reference"):
            raise ValueError(
                f"{rule.name}(differentiable=True, execution={execution!r}): gradients flow "
                "through the rule's own operations; execution must be 'auto' or 'reference'"
            )
        self._forget()
        super().__init__(params, {**rule.hypers, "differentiable": differentiable})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it leaves out is taken from the optimizer's rule."""
        for name in param_group:
            if name in ("like", "mask", "groups"):
                raise TypeError(
                    f"{self.rule.name}: a parameter group has {name!r}; it is for the whole "
                    "optimizer, give it to the constructor"
                )
            if name in ELSEWHERE:
                raise TypeError(
                    f"{self.rule.name}: a parameter group has {name!r}; it is called "
                    f"{ELSEWHERE[name]!r} here"
                )
        groups = [
            {**self._branches[part.get("branch", 0)].hypers, **part}
            for part in self._parts_of(param_group)
        ]
        for group in groups:
            self._rule_of(group)
        before = len(self.param_groups)
        try:
            for group in groups:
                super().add_param_group(group)
                self._share_with_last()
        except Exception:
            del self.param_groups[before:]
            raise

    @property
    def _routed(self) -> bool:
        return self._branches != (self.rule,)

    def _parts_of(self, param_group: dict[str, Any]) -> list[dict[str, Any]]:
        """A group, taken apart by the rules that its parameters have.

        Parameters without names are called by their places in the order given.
        """
        params = param_group["params"]
        if not self._routed or isinstance(params, set):
            return [param_group]
        params = [params] if isinstance(params, torch.Tensor) else list(params)
        before = sum(len(group["params"]) for group in self.param_groups)
        parts: dict[int, dict[str, Any]] = {}
        for place, item in enumerate(params):
            name, param = item if isinstance(item, tuple) else (str(before + place), item)
            branch = self.rule.branch(name, getattr(param, "shape", ()))
            part = parts.setdefault(branch, {**param_group, "params": [], "branch": branch})
            part["params"].append(item)
            if not isinstance(item, tuple):
                part.setdefault("places", []).append(name)
        empty = {**param_group, "params": [], "branch": 0}
        return [parts[branch] for branch in sorted(parts)] or [empty]

    def _share_with_last(self) -> None:
        if len(self.param_groups) > 1:
            shared = {
                n: self.param_groups[0][n] for n in self.rule.shared() if n in self.param_groups[0]
            }
            self.param_groups[-1].update(shared)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. ``closure``, if given, re-evaluates the model and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance()
        return loss

    def init_state(self) -> None:
        """Make the state of every parameter now, not at its first gradient."""
        with torch.no_grad():
            params = [p for group in self.param_groups for p in group["params"]]
            for group in self.param_groups:
                rule = self._rule_of(group)
                for name, param in self._named(group):
                    self._check(rule, name, param)
                    self.state[param] = self._state_of(rule.of(name, param.shape), param)
            self._share(self._shared(params))

    @_disable_dynamo
    def _advance(self) -> None:
        """One step; no part of a graph that torch.compile makes, as with torch.optim.

        What is to be compiled is the kernels, which the execution sees to.
        """
        with torch.set_grad_enabled(self.differentiable):
            if self.differentiable:
                self._advance_in_graph()
            else:
                self._advance_in_place()

    def _advance_in_place(self) -> None:
        rules = self._rules_of_groups()
        params: list[Any] = []
        grads: list[Any] = []
        groups: list[int] = []
        for place, group in enumerate(self.param_groups):
            own = group["params"]
            found = [grad for param in own if (grad := param.grad) is not None]
            all_have = len(found) == len(own)
            params += own if all_have else [param for param in own if param.grad is not None]
            grads += found
            groups += [place] * len(found)
        plan, common = self._plan, self._shared(params)
        if plan is None or not plan.holds(rules, params, grads, groups, self.state):
            if plan is not None:
                plan.release(params)
            plan = self._planned(rules, common)
        entries = plan.entries(rules, grads)
        if plan is not self._plan:
            self._tried |= tried(entries, common, self._tried)
        options = {**_EXECUTORS[self._chosen()], "vmap": torch.vmap}
        results, common = stepping.run(xp, entries, common, **options)
        if plan is not self._plan:
            plan.enter(self.state)
            self._plan = plan
        for place, _ in enumerate(results):
            plan.finish(place)
        plan.count()
        self._share(common)

    def _advance_in_graph(self) -> None:
        """A step that gradients flow through.

        Nothing that an operation has seen is written into: the rule is given copies of the
        parameters, and what it returns takes the place of the state.
        """
        rules = self._rules_of_groups()
        members, grads = self._members(rules)
        common = self._shared([member.param for member in members])
        entries = [
            stepping.Entry(
                rules[member.group].of(member.name, member.param.shape),
                member.state["step"] if self.capturable else int(member.state["step"]),
                real(grad),
                real(member.param.clone()),
                member.slots,
            )
            for member, grad in zip(members, grads, strict=True)
        ]
        results, common = stepping.run(kernels.Differentiable(), entries, common)
        for member, (param, slots) in zip(members, list(results), strict=True):
            real(member.param).copy_(param)
            state = {**member.state, **slots, "step": member.state["step"] + 1}
            self.state[member.param] = state
        self._share(common)

    def _planned(self, rules: list[Rule], common: dict[str, Any]) -> Plan:
        members, grads = self._members(rules)
        limit = kernels.PACK[self._chosen()]
        return Plan(rules, members, grads, common, limit, self.capturable)

    def _members(self, rules: list[Rule]) -> tuple[list[Member], list[torch.Tensor]]:
        """The parameters that have a gradient, checked, with their state; new where there is none.

        No state is given to the optimizer here, so that a step that is refused adds none.
        """
        members, grads = [], []
        for place, (group, rule) in enumerate(zip(self.param_groups, rules, strict=True)):
            for name, param in self._named(group):
                if (grad := param.grad) is None:
                    continue
                self._check(rule, name, param, grad)
                state = self._state_of(rule.of(name, param.shape), param)
                slots = self._slots_of(rule, name, param, state)
                members.append(Member(place, name, param, state, slots))
                grads.append(grad)
        return members, grads

    def _check(
        self, rule: Rule, name: str, param: torch.Tensor, grad: torch.Tensor | None = None
    ) -> None:
        """Refuse a parameter, or a gradient for it, that the rule cannot take."""
        who = f"{rule.name}: parameter {name!r}"
        if grad is not None and grad.layout is not torch.strided:
            raise TypeError(
                f"{who} has a gradient of layout {grad.layout}; allowed: dense (torch.strided)"
            )
        if grad is not None and grad.is_complex() != param.is_complex():
            raise TypeError(f"{who} has dtype {param.dtype}, its gradient {grad.dtype}")
        if param.is_complex() and rule.sees_axes:
            raise TypeError(
                f"{who} has dtype {param.dtype}; {rule.name} looks at the axes of real parameters "
                "(give it to an element rule, such as AdamW)"
            )
        if self.differentiable and param.is_leaf and param.requires_grad:
            raise ValueError(
                f"{who} is a leaf that requires a gradient; a step to differentiate through is "
                "taken on the result of an operation, such as param.clone()"
            )
        stepping.check(rule, xp, name, real(param), None if grad is None else real(grad))

    def _chosen(self) -> str:
        """The execution; for ``auto`` the one chosen at the first step."""
        if self.execution != "auto":
            return self.execution
        if self._auto is None:
            params = [param for group in self.param_groups for param in group["params"]]
            self._auto, reason = kernels.chosen(params)
            say(self.rule.name, self._auto, reason)
        return self._auto

    def _rule_of(self, group: dict[str, Any]) -> Rule:
        return self._rule_with(self._values_of(group))

    def _own(self, group: dict[str, Any]) -> Rule:
        """The rule that a group was made with."""
        place: int = group.get("branch", 0)
        return self._branches[place]

    def _values_of(self, group: dict[str, Any]) -> tuple[Any, ...]:
        own = self._own(group)
        return own, *(_on_host(group[name], self.differentiable) for name in own.hypers)

    @staticmethod
    def _rule_with(values: tuple[Any, ...]) -> Rule:
        own: Rule = values[0]
        return own.replace(**dict(zip(own.hypers, values[1:], strict=True)))

    def _rules_of_groups(self) -> list[Rule]:
        """The rule of every group; the same objects as before as long as no value changes."""
        values = [self._values_of(group) for group in self.param_groups]
        known = self._rules + [((), self.rule)] * (len(values) - len(self._rules))
        self._rules = [
            (now, rule if _alike(now, held) else self._rule_with(now))
            for now, (held, rule) in zip(values, known, strict=True)
        ]
        return [rule for _, rule in self._rules]

    def _named(self, group: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters with their names, or with their places among all, which do not change."""
        names = group.get("param_names", group.get("places"))
        if names is None:
            known = [id(other) for other in self.param_groups]
            before = self.param_groups[: known.index(id(group))] if id(group) in known else []
            first = sum(len(other["params"]) for other in before)
            names = [str(first + i) for i in range(len(group["params"]))]
        return zip(names, group["params"], strict=True)

    def _state_of(self, rule: Rule, param: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter; a new one, not yet stored, where there is none."""
        state = self.state.get(param) or {}
        if state.keys() >= {"step", *rule.slots()}:
            return state
        device = param.device if self.capturable else "cpu"
        fresh = {
            "step": torch.tensor(0, device=device),
            **self._first_slots(rule, param),
        }
        conditional = {n for n, item in rule.slots().items() if item.only_if is not None}
        if state and not {n for n in fresh if n not in state} <= conditional:
            return state  # somebody else's; _slots_of says so
        return {**fresh, **state}

    def _first_slots(self, rule: Rule, param: torch.Tensor) -> dict[str, Any]:
        if self.differentiable:
            return stepping.init_slots(rule, kernels.Differentiable(), real(param))
        return stepping.init_slots(rule, xp, real(param.detach()))

    def _slots_of(
        self, rule: Rule, name: str, param: torch.Tensor, state: dict[str, Any]
    ) -> dict[str, Any]:
        """The slots that the rule keeps now; one that a change of momentum has ended stays."""
        count = state.get("step")
        if not isinstance(count, torch.Tensor) or count.ndim or not count >= 0:
            raise ValueError(
                f"{rule.name}: the state of {name!r} has step {count!r}; "
                "it must be a 0-d tensor >= 0"
            )
        ended = {n for n, item in rule.declared_slots().items() if item.only_if is not None}
        slots = {
            n: v for n, v in state.items() if n != "step" and (n in rule.slots() or n not in ended)
        }
        stepping.check_slots(rule, name, slots, real(param).shape)
        return slots

    def _shared(self, params: list[torch.Tensor]) -> dict[str, Any]:
        names = self.rule.shared()
        if not names or not params:
            return {}
        first = self.param_groups[0]
        if all(name in first for name in names):
            return {name: first[name].to(params[0].device) for name in names}
        rules = map(self._rule_of, self.param_groups)
        rule = next((rule for rule in rules if rule.shared()), self.rule)
        return stepping.init_shared(rule, xp, [real(param.detach()) for param in params])

    def _share(self, common: dict[str, Any]) -> None:
        for group in self.param_groups:
            group.update(common)

    def state_dict(self) -> dict[str, Any]:
        """The state; where a hyperparameter is a schedule, its number at the last step."""
        handle = self.register_state_dict_post_hook(
            lambda _, saved: self._settled(saved), prepend=True
        )
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def _settled(self, saved: dict[str, Any]) -> dict[str, Any]:
        """A state dict with numbers in the place of schedules."""
        for group, packed in zip(self.param_groups, saved["param_groups"], strict=True):
            states = [self.state[param] for param in group["params"] if param in self.state]
            taken = max((int(own["step"]) for own in states), default=0)
            rule = self._rule_of(group).at(max(taken - 1, 0))
            packed.update({name: rule.hypers[name] for name in _scheduled(group, rule)})
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; it keeps the dtype it was saved in (torch casts it to the parameter's).

        Where both sides have names of the parameters, it is by them that states are found, and
        the order may differ. Schedules are not part of a state: those of this optimizer stay.

        Raises:
            ValueError: the groups or the state are not those of this rule and these parameters;
                nothing has been loaded then.
        """
        state_dict = state_dict.copy()
        for change in self._optimizer_load_state_dict_pre_hooks.values():
            changed = change(self, state_dict)
            state_dict = state_dict if changed is None else changed
        if not {"state", "param_groups"} <= {*state_dict}:
            raise ValueError(
                f"{self.rule.name}: this is no state dict of an optimizer; it has "
                f"{listed(state_dict)}, not state and param_groups"
            )
        saved_groups, states = self._matched(state_dict["param_groups"]), {**state_dict["state"]}
        groups: list[dict[str, Any]] = []
        loaded: defaultdict[Any, Any] = defaultdict(dict)
        for group, saved_group in zip(self.param_groups, saved_groups, strict=True):
            self._check_group(group, saved_group, stepped=bool(states))
            rule = self._rule_of(saved_group)
            for (name, param), key in zip(self._named(group), saved_group["params"], strict=True):
                saved = states.pop(key, None)
                if saved:
                    self._slots_of(rule, name, param, saved)
                    loaded[param] = {
                        n: _copied(v, param.device if n != "step" or self.capturable else "cpu")
                        for n, v in saved.items()
                    }
            own = ["params", "param_names", "places", *_scheduled(group, self._own(group))]
            kept = {name: group[name] for name in own if name in group}
            both = saved_group | kept
            groups.append({n: v if n in kept else deepcopy(v) for n, v in both.items()})
        loaded.update(states)  # of no parameter: kept as it is, as torch does
        self.__setstate__({"state": loaded, "param_groups": groups})
        for see in self._optimizer_load_state_dict_post_hooks.values():
            see(self)

    def _matched(self, saved_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The saved groups, they and their parameters in the order of the optimizer's own."""
        if all("param_names" in group for group in (*self.param_groups, *saved_groups)):
            return self._matched_by_name(saved_groups)
        saved_sizes = [len(group["params"]) for group in saved_groups]
        sizes = [len(group["params"]) for group in self.param_groups]
        if saved_sizes != sizes:
            raise ValueError(
                f"{self.rule.name}: the state dict has groups of {saved_sizes} "
                f"parameters, the optimizer of {sizes}"
            )
        return saved_groups

    def _matched_by_name(self, saved_groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len(saved_groups) != len(self.param_groups):
            raise ValueError(
                f"{self.rule.name}: the state dict has {len(saved_groups)} groups, the optimizer "
                f"{len(self.param_groups)}"
            )
        left, found = [*saved_groups], []
        for place, group in enumerate(self.param_groups):
            names = group["param_names"]
            alike = [own for own in left if sorted(own["param_names"]) == sorted(names)]
            same = [own for own in alike if own["param_names"] == names]
            if not alike or (not same and len({*names}) < len(names)):
                theirs = "; ".join(", ".join(own["param_names"]) for own in left)
                raise ValueError(
                    f"{self.rule.name}: group {place} has the parameters {', '.join(names)}; the "
                    f"state dict has groups of {theirs or 'none'}; names must be equal, and "
                    "different from each other where the order is another"
                )
            saved = (same or alike)[0]
            left = [own for own in left if own is not saved]
            keys = dict(zip(saved["param_names"], saved["params"], strict=True))
            found.append(saved if same else {**saved, "params": [keys[name] for name in names]})
        return found

    def _check_group(
        self, group: dict[str, Any], saved_group: dict[str, Any], stepped: bool
    ) -> None:
        """Refuse a saved group of another rule."""
        if saved_group.get("branch", 0) != group.get("branch", 0):
            raise ValueError(f"{self.rule.name}: the state dict has its parameters on other routes")
        absent = sorted({*self._own(group).hypers} - {*saved_group})
        if absent:
            raise ValueError(
                f"{self.rule.name}: the state dict has no {', '.join(absent)}; "
                "it is another optimizer's"
            )
        rule = self._rule_of(saved_group)
        if rule.without_numbers() != self._rule_of(group).without_numbers():
            raise ValueError(
                f"{self.rule.name}: the state dict is that of {rule!r}, "
                f"the optimizer is {self._rule_of(group)!r}; options must be equal"
            )
        missing = {*self.rule.shared()} - {*saved_group}
        if missing and stepped:
            raise ValueError(f"{self.rule.name}: the state dict has no {', '.join(missing)}")

    def __getstate__(self) -> dict[str, Any]:
        own = ("rule", "execution", "capturable", "differentiable")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        self._plan, self._tried, self._auto, self._rules = None, set(), None, []
        self._branches = self.rule.branches


def bind(
    rule: Rule,
    params: Iterable[Any],
    *,
    execution: str = "auto",
    capturable: bool = False,
    differentiable: bool = False,
) -> RuleOptimizer:
    """A rule object as a ``torch.optim.Optimizer``.

    Args:
        rule: any rule: the package's, a user's own, a wrapped one.
        params: parameters, named parameters or parameter groups, as for ``torch.optim``.
        execution: one of ``EXECUTIONS``.
        capturable: whether steps are counted on the parameters' device and coefficients computed
            there (in the compute dtype), so that a CUDA graph of a step can be replayed. A
            learning rate that is to change between replays must be a tensor on that device.
        differentiable: whether gradients flow through a step, to parameters, gradients, state and
            hyperparameters that require them. Parameters are then no leaves.
    """
    return RuleOptimizer(
        rule,
        params,
        execution=execution,
        capturable=capturable,
        differentiable=differentiable,
    )


def _scheduled(group: dict[str, Any], rule: Rule) -> list[str]:
    """The hyperparameters that a group has a schedule for, or one for a part of."""
    return [
        name
        for name in rule.hypers
        if any(map(callable, group[name] if isinstance(group[name], tuple) else (group[name],)))
    ]


def _on_host(value: Any, differentiable: bool) -> Any:
    """A hyperparameter as the rule wants it: a CPU tensor becomes a number.

    Not so one that gradients are to flow to.
    """
    if isinstance(value, (tuple, list)):
        return tuple(_on_host(item, differentiable) for item in value)
    if isinstance(value, torch.Tensor) and value.device.type == "cpu":
        return value if differentiable and value.requires_grad else value.item()
    return value


def _alike(one: Any, other: Any) -> bool:
    """Whether hyperparameters are the same: numbers by value and type, all else by identity."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    plain = isinstance(one, (float, int, str)) and type(one) is type(other)
    return one is other or (plain and bool(one == other))


def _copied(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_copied(item, device) for item in value)
    return value.clone().to(device)
