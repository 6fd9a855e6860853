"""A rule as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import array_api_compat.torch as xp

import torch

from .. import step as stepping
from ..rule import ELSEWHERE, Rule

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]

EXECUTIONS = ("reference", "compiled")
"""``reference`` runs the rule on one tensor after another; ``compiled`` through torch.compile."""


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a ``torch.optim.Optimizer``; see ``bind``."""

    def __init__(self, rule: Rule, params: Any, *, execution: str = "reference") -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
        if execution not in EXECUTIONS:
            raise ValueError(
                f"{rule.name}(execution={execution!r}): execution must be one of "
                + ", ".join(map(repr, EXECUTIONS))
            )
        self.rule = rule
        self.execution = execution
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
        self._rule_of({**self.rule.hypers, **param_group})
        super().add_param_group(param_group)
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
        entries, states = [], []
        for group in self.param_groups:
            rule = self._rule_of(group)
            for name, param in self._named(group):
                if param.grad is None:
                    continue
                if param.grad.layout != torch.strided:
                    raise TypeError(
                        f"{rule.name}: parameter {name!r} has a gradient of layout "
                        f"{param.grad.layout}; allowed: dense (torch.strided)"
                    )
                stepping.check(rule, xp, name, param, param.grad)
                state = self._state_of(rule.of(name, param.shape), param)
                slots = self._slots_of(rule, name, param, state)
                own = rule.of(name, param.shape)
                entries.append(stepping.Entry(own, int(state["step"]), param.grad, param, slots))
                states.append(state)
        common = self._shared([entry.param for entry in entries])
        executor = (_compiled, _as_tensors) if self.execution == "compiled" else ()
        results, common = stepping.run(xp, entries, common, *executor)
        computed = list(results)  # before anything is written: a failed step changes nothing
        for entry, state, (param, slots) in zip(entries, states, computed, strict=True):
            entry.param.copy_(param)
            for name, new in slots.items():
                _write(state[name], new)
            state["step"] += 1
            self.state[entry.param] = state
        self._share(common)

    def _rule_of(self, group: dict[str, Any]) -> Rule:
        values = {name: _on_host(group[name]) for name in self.rule.hypers}
        return self.rule.replace(**values)

    def _named(self, group: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        names = group.get("param_names")
        if names is None:
            known = [id(other) for other in self.param_groups]
            group_of = f" of group {known.index(id(group))}" if len(known) > 1 else ""
            names = [f"{i}{group_of}" for i in range(len(group["params"]))]
        return zip(names, group["params"], strict=True)

    def _state_of(self, rule: Rule, param: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter; a new one, not yet stored, where there is none."""
        state = self.state.get(param) or {}
        if state.keys() >= {"step", *rule.slots()}:
            return state
        fresh = {"step": torch.tensor(0), **stepping.init_slots(rule, xp, param.detach())}
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
        return stepping.init_shared(self._rule_of(first), xp, [p.detach() for p in params])

    def _share(self, common: dict[str, Any]) -> None:
        for group in self.param_groups:
            group.update(common)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; it keeps the dtype it was saved in (torch casts it to the parameter's).

        Raises:
            ValueError: the groups or the state are not those of this rule and these parameters;
                nothing has been loaded then.
        """
        pairs = list(self._paired(state_dict))
        super().load_state_dict(state_dict)
        for param, saved in pairs:
            for name, value in saved.items():
                device = torch.device("cpu") if name == "step" else param.device
                self.state[param][name] = _copied(value, device)

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
            absent = sorted({*self.rule.hypers} - {*saved_group})
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
        return {**super().__getstate__(), "rule": self.rule, "execution": self.execution}


def bind(rule: Rule, params: Iterable[Any], *, execution: str = "reference") -> RuleOptimizer:
    """A rule object as a ``torch.optim.Optimizer``.

    Args:
        rule: any rule: the package's, a user's own, a wrapped one.
        params: parameters, named parameters or parameter groups, as for ``torch.optim``.
        execution: one of ``EXECUTIONS``.
    """
    return RuleOptimizer(rule, params, execution=execution)


def _on_host(value: Any) -> Any:
    """A hyperparameter as the rule wants it: a CPU tensor becomes a number."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_on_host, value))
    if isinstance(value, torch.Tensor) and value.device.type == "cpu":
        return value.item()
    return value


def _write(old: Any, new: Any) -> None:
    if isinstance(old, tuple):
        for pair in zip(old, new, strict=True):
            _write(*pair)
    else:
        old.copy_(new)


def _copied(value: Any, device: torch.device) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_copied(item, device) for item in value)
    return value.clone().to(device)


def _as_tensors(values: Any, param: torch.Tensor) -> Any:
    """Scalars as 0-d tensors, so that a change of value is no reason to compile again."""
    if isinstance(values, dict):
        return {name: _as_tensors(value, param) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_as_tensors(value, param) for value in values)
    if isinstance(values, (bool, torch.Tensor)):
        return torch.as_tensor(values)
    return torch.tensor(values, dtype=stepping.compute_dtype(xp, param.dtype))


def _compiled(function: Callable[..., Any], xp: Any, rule: Rule) -> Callable[..., Any]:
    """The kernel compiled once per rule, dtype and device; only rules that look at axes see shapes.

    Every other rule sees a parameter as a vector, of a length that may change without a new kernel.
    """
    if rule.needs in stepping.SHAPED:

        def shaped(grad: Any, param: Any, *rest: Any) -> Any:
            key = param.dtype, param.device, tuple(param.shape)
            return _kernel(function, rule, *key)(grad, param, *rest)

        return shaped

    def flat(grad: Any, param: Any, *rest: Any) -> Any:
        kernel = _kernel(function, rule, param.dtype, param.device, None)
        return stepping.as_vectors(xp, kernel)(grad, param, *rest)

    return flat


@cache
def _kernel(
    function: Callable[..., Any], rule: Rule, dtype: torch.dtype, device: torch.device, shape: Any
) -> Callable[..., Any]:
    def kernel(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        return function(xp, rule, grad, param, slots, common, s)

    # Dynamo counts recompilations per code object, so every kernel gets one of its own; its name
    # is what profiles and compilation logs show.
    kernel.__code__ = kernel.__code__.replace(co_name=f"{rule.name}_{function.__name__}")
    return torch.compile(kernel, dynamic=shape is None, fullgraph=True)
