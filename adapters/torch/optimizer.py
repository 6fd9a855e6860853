"""A rule as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import array_api_compat.torch as xp

import torch

from .. import step as stepping
from ..execution import EXECUTIONS, checked, say
from ..rule import ELSEWHERE, Rule
from . import kernels
from .plan import Member, Plan, tried

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]

_EXECUTORS: dict[str, tuple[Any, ...]] = {
    "reference": (kernels.reference,),
    "packed": (kernels.packed,),
    "compiled": (kernels.compiled, kernels.as_tensors),
}


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a ``torch.optim.Optimizer``; see ``bind``."""

    _plan: Plan | None
    _tried: set[Any]
    _auto: str | None
    _rules: list[tuple[tuple[Any, ...], Rule]]
    _branches: tuple[Rule, ...]

    def __init__(
        self, rule: Rule, params: Any, *, execution: str = "auto", capturable: bool = False
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
        self.rule = rule
        self.execution = checked(rule.name, execution)
        self.capturable = capturable
        self._forget()
        super().__init__(params, rule.hypers)

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
        for branch, part in self._parts_of(param_group).items():
            own = self._branches[branch]
            group = {**part, "branch": branch} if len(self._branches) > 1 else part
            self._rule_of({**own.hypers, **group})
            super().add_param_group({**own.hypers, **group})
            self._share_with_last()

    def _parts_of(self, param_group: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """A group, taken apart by the rules that its parameters have."""
        if len(self._branches) == 1:
            return {0: param_group}
        params = param_group["params"]
        params = [params] if isinstance(params, torch.Tensor) else list(params)
        before = sum(len(group["params"]) for group in self.param_groups)
        found: dict[int, list[Any]] = {}
        for place, item in enumerate(params):
            name, param = item if isinstance(item, tuple) else (str(before + place), item)
            found.setdefault(self.rule.branch(name, param.shape), []).append(item)
        return {branch: {**param_group, "params": own} for branch, own in sorted(found.items())}

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
        with torch.no_grad():
            self._advance()
        return loss

    def init_state(self) -> None:
        """Make the state of every parameter now, not at its first gradient."""
        with torch.no_grad():
            params = [p for group in self.param_groups for p in group["params"]]
            for group in self.param_groups:
                rule = self._rule_of(group)
                for name, param in self._named(group):
                    stepping.check(rule, xp, name, param)
                    self.state[param] = self._state_of(rule.of(name, param.shape), param)
            self._share(self._shared(params))

    def _advance(self) -> None:
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
        executor = _EXECUTORS[self._chosen()]
        results, common = stepping.run(xp, entries, common, *executor, vmap=torch.vmap)
        if plan is not self._plan:
            plan.enter(self.state)
            self._plan = plan
        for place, _ in enumerate(results):
            plan.finish(place)
        plan.count()
        self._share(common)

    def _planned(self, rules: list[Rule], common: dict[str, Any]) -> Plan:
        """The parameters that have a gradient, checked, with their state; new where there is none.

        No state is given to the optimizer here, so that a step that is refused adds none.
        """
        members, grads = [], []
        for place, (group, rule) in enumerate(zip(self.param_groups, rules, strict=True)):
            for name, param in self._named(group):
                if param.grad is None:
                    continue
                if param.grad.layout is not torch.strided:
                    raise TypeError(
                        f"{rule.name}: parameter {name!r} has a gradient of layout "
                        f"{param.grad.layout}; allowed: dense (torch.strided)"
                    )
                stepping.check(rule, xp, name, param, param.grad)
                state = self._state_of(rule.of(name, param.shape), param)
                slots = self._slots_of(rule, name, param, state)
                members.append(Member(place, name, param, state, slots))
                grads.append(param.grad)
        limit = kernels.PACK[self._chosen()]
        return Plan(rules, members, grads, common, limit, self.capturable)

    def _chosen(self) -> str:
        """The execution; for ``auto`` the one chosen at the first step."""
        if self.execution != "auto":
            return self.execution
        if torch.compiler.is_compiling():
            return "reference"
        if self._auto is None:
            params = [param for group in self.param_groups for param in group["params"]]
            self._auto, reason = kernels.chosen(params)
            say(self.rule.name, self._auto, reason)
        return self._auto

    def _rule_of(self, group: dict[str, Any]) -> Rule:
        return self._rule_with(self._values_of(group))

    def _own(self, group: dict[str, Any]) -> Rule:
        """The rule that a group was made with."""
        return self._branches[group.get("branch", 0)]

    def _values_of(self, group: dict[str, Any]) -> tuple[Any, ...]:
        own = self._own(group)
        return own, *(_on_host(group[name]) for name in own.hypers)

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
        names = group.get("param_names")
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
            **stepping.init_slots(rule, xp, param.detach()),
        }
        conditional = {n for n, item in rule.slots().items() if item.only_if is not None}
        if state and not {n for n in fresh if n not in state} <= conditional:
            return state  # somebody else's; _slots_of says so
        return {**fresh, **state}

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
        stepping.check_slots(rule, name, slots, param.shape)
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
        return stepping.init_shared(rule, xp, [p.detach() for p in params])

    def _share(self, common: dict[str, Any]) -> None:
        for group in self.param_groups:
            group.update(common)

    def state_dict(self) -> dict[str, Any]:
        """The state; where a hyperparameter is a schedule, its number at the last step."""
        saved = super().state_dict()
        for group, packed in zip(self.param_groups, saved["param_groups"], strict=True):
            states = [self.state[param] for param in group["params"] if param in self.state]
            taken = max((int(own["step"]) for own in states), default=0)
            rule = self._rule_of(group).at(max(taken - 1, 0))
            packed.update({name: rule.hypers[name] for name in _scheduled(group, rule)})
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; it keeps the dtype it was saved in (torch casts it to the parameter's).

        Schedules are not part of a state: those of this optimizer stay.

        Raises:
            ValueError: the groups or the state are not those of this rule and these parameters;
                nothing has been loaded then.
        """
        pairs = list(self._paired(state_dict))
        schedules = [
            {name: group[name] for name in _scheduled(group, self._own(group))}
            for group in self.param_groups
        ]
        super().load_state_dict(state_dict)
        for group, own in zip(self.param_groups, schedules, strict=True):
            group.update(own)
        for param, saved in pairs:
            for name, value in saved.items():
                own = name != "step" or self.capturable
                self.state[param][name] = _copied(value, param.device if own else "cpu")

    def _paired(self, state_dict: dict[str, Any]) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
        """Every parameter with its saved state, checked."""
        saved_groups = state_dict["param_groups"]
        saved_sizes = [len(group["params"]) for group in saved_groups]
        sizes = [len(group["params"]) for group in self.param_groups]
        if saved_sizes != sizes:
            raise ValueError(
                f"{self.rule.name}: the state dict has groups of {saved_sizes} "
                f"parameters, the optimizer of {sizes}"
            )
        for group, saved_group in zip(self.param_groups, saved_groups, strict=True):
            if saved_group.get("branch", 0) != group.get("branch", 0):
                raise ValueError(
                    f"{self.rule.name}: the state dict has its parameters on other routes"
                )
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
            if missing and state_dict["state"]:
                raise ValueError(f"{self.rule.name}: the state dict has no {', '.join(missing)}")
            for (name, param), key in zip(self._named(group), saved_group["params"], strict=True):
                saved = state_dict["state"].get(key)
                if saved:
                    self._slots_of(rule, name, param, saved)
                    yield param, saved

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("rule", "execution", "capturable")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        self._plan, self._tried, self._auto, self._rules = None, set(), None, []
        self._branches = self.rule.branches


def bind(
    rule: Rule, params: Iterable[Any], *, execution: str = "auto", capturable: bool = False
) -> RuleOptimizer:
    """A rule object as a ``torch.optim.Optimizer``.

    Args:
        rule: any rule: the package's, a user's own, a wrapped one.
        params: parameters, named parameters or parameter groups, as for ``torch.optim``.
        execution: one of ``EXECUTIONS``.
        capturable: whether steps are counted on the parameters' device and coefficients computed
            there (in the compute dtype), so that a CUDA graph of a step can be replayed. A
            learning rate that is to change between replays must be a tensor on that device.
    """
    return RuleOptimizer(rule, params, execution=execution, capturable=capturable)


def _scheduled(group: dict[str, Any], rule: Rule) -> list[str]:
    """The hyperparameters that a group has a schedule for, or one for a part of."""
    return [
        name
        for name in rule.hypers
        if any(map(callable, group[name] if isinstance(group[name], tuple) else (group[name],)))
    ]


def _on_host(value: Any) -> Any:
    """A hyperparameter as the rule wants it: a CPU tensor becomes a number."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_on_host, value))
    if isinstance(value, torch.Tensor) and value.device.type == "cpu":
        return value.item()
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
