"""A rule as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep import step as stepping
from samestep.arrays import parts
from samestep.checkpoints.state import Checkpoint
from samestep.execution import EXECUTIONS, Execution, checked, say
from samestep.groups import refuse_apart
from samestep.rule import Rule
from samestep.spelling import ELSEWHERE
from torch._compile import _disable_dynamo

from . import checkpoint as checkpoints
from . import kernels
from .checkpoint import Params
from .kernels import real, real_gradient
from .plan import Member, Plan, tried
from .state_dict import as_mapping, is_floating, is_ours, loaded, settled, slots_of_all

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]

_EXECUTORS: dict[str, dict[str, Any]] = {
    "reference": {"kernel": kernels.reference, "enter": kernels.as_they_are},
    "packed": {"kernel": kernels.packed, "enter": kernels.as_they_are},
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
        execution: Execution = "auto",
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
        first, *others = (branch.hypers for branch in self._branches)
        defaults = {n: v for n, v in first.items() if all(n in other for other in others)}
        super().__init__(params, {**defaults, "differentiable": differentiable})

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
        parts = self._parts_of(param_group)
        self._refuse_twice(parts)
        groups = [{**self._branches[part.get("branch", 0)].hypers, **part} for part in parts]
        refuse_apart([self._rule_of(group) for group in (*self.param_groups, *groups)])
        before = len(self.param_groups)
        try:
            for group in groups:
                super().add_param_group(group)
                self._share_with_last()
        except Exception:
            del self.param_groups[before:]
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a learning rate scheduler sets ``step`` once it has noted the rates."""
        if name == "step":
            for place, group in enumerate(vars(self).get("param_groups", ())):
                if callable(group.get("initial_lr")):
                    self._refuse_scheduler(place, group["lr"])
        super().__setattr__(name, value)

    def _refuse_scheduler(self, place: int, schedule: Any) -> None:
        for group in self.param_groups:
            group.pop("initial_lr", None)
        raise TypeError(
            f"{self.rule.name}: lr of group {place} is {schedule!r}, a schedule of its own; a "
            "torch.optim.lr_scheduler changes a number (give it one, or leave the scheduler out)"
        )

    @property
    def _routed(self) -> bool:
        return self._branches != (self.rule,)

    def _parts_of(self, param_group: dict[str, Any]) -> list[dict[str, Any]]:
        """A group, taken apart by the rules that its parameters have.

        Parameters without names are called by their places in the order given. What a group of
        another optimizer says of its own parts, and of shared state, is left out.
        """
        theirs = {"branch", "places", "param_names", *self.rule.shared()}
        names = param_group.get("param_names")
        param_group = {name: v for name, v in param_group.items() if name not in theirs}
        params = param_group["params"]
        if isinstance(params, set):
            return [param_group]
        params = [params] if isinstance(params, torch.Tensor) else list(params)
        if names is not None and not any(isinstance(item, tuple) for item in params):
            if len(names) != len(params):
                raise ValueError(
                    f"{self.rule.name}: a parameter group has {len(params)} parameters and "
                    f"{len(names)} param_names; they must be as many"
                )
            params = [*zip(names, params, strict=True)]
        if not self._routed:
            return [{**param_group, "params": params}]
        parts: dict[int, dict[str, Any]] = {}
        for place, item in enumerate(params, self._count()):
            name, param = item if isinstance(item, tuple) else (str(place), item)
            branch = self.rule.branch(name, getattr(param, "shape", ()))
            part = parts.setdefault(branch, {**param_group, "params": [], "branch": branch})
            part["params"].append(item)
            if not isinstance(item, tuple):
                part.setdefault("places", []).append(name)
        empty = {**param_group, "params": [], "branch": 0}
        return [parts[branch] for branch in sorted(parts)] or [empty]

    def _count(self) -> int:
        """How many parameters there are."""
        return sum(len(group["params"]) for group in self.param_groups)

    def _refuse_twice(self, parts: list[dict[str, Any]]) -> None:
        """Refuse a parameter that is there already, and one that is given twice."""
        held = {id(param) for group in self.param_groups for param in group["params"]}
        seen: dict[int, str] = {}
        for part in parts:
            places = part.get("places", map(str, count(self._count())))
            for place, item in zip(places, part["params"], strict=False):
                name, param = item if isinstance(item, tuple) else (place, item)
                if id(param) in seen:
                    raise ValueError(
                        f"{self.rule.name}: a parameter group with duplicate parameters: {name!r} "
                        f"is the same as {seen[id(param)]!r}; give it once"
                    )
                if id(param) in held:
                    where, other = self._place_of(param)
                    raise ValueError(
                        f"{self.rule.name}: some parameters appear in more than one parameter "
                        f"group: {name!r} is the same as {other!r} of group {where}; give it once"
                    )
                if isinstance(param, torch.Tensor):
                    seen[id(param)] = name

    def _place_of(self, param: torch.Tensor) -> tuple[int, str]:
        """The group of a parameter, and its name."""
        return next(
            (place, name)
            for place, group in enumerate(self.param_groups)
            for name, own in self._named(group)
            if own is param
        )

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

    @property
    def steps_taken(self) -> int:
        """Steps taken so far, by the parameter that has taken most."""
        counts = [state["step"] for state in self.state.values() if "step" in state]
        return max(map(int, counts), default=0)

    def init_state(self) -> None:
        """Make the state of every parameter now, not at its first gradient; frozen ones have none.

        Do so before ``torch.distributed.checkpoint`` saves or loads. It makes state that is not
        there by a step with zero gradients, which is counted, and in which parameters decay whose
        learning rate ``groups=`` has set.
        """
        with torch.no_grad():
            states = {}
            for group in self.param_groups:
                rule = self._rule_of(group)
                for name, param in self._named(group):
                    self._check(rule, name, param)
                    if isinstance(param, torch.nn.Parameter) and not param.requires_grad:
                        continue
                    states[param] = self._state_of(rule.of(name, param.shape), param)
            common = self._shared([*states])
            self.state.update(states)
            self._share(common)

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
        taken = self._unscaled(grads)
        try:
            entries = plan.entries(rules, grads)
        except (RuntimeError, UserWarning):  # torch warns of a resized result
            if plan is not self._plan:
                raise
            plan = self._planned(rules, common)  # which names what has another shape
            entries = plan.entries(rules, grads)
        if plan is not self._plan:
            self._tried |= tried(entries, common, self._tried)
        options = {**_EXECUTORS[self._chosen()], "vmap": torch.vmap}
        if taken is not None:
            options["enter"] = kernels.conditional(taken, options["enter"])
        before = common
        results, common = stepping.run(xp, entries, common, **options)
        if plan is not self._plan:
            plan.enter(self.state)
            self._plan = plan
        for place, _ in enumerate(results):
            plan.finish(place)
        plan.count(taken)
        if taken is not None:
            common = {
                name: torch.where(taken.to(old.device), common[name], old)
                for name, old in before.items()
            }
        self._share(common)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether ``torch.amp.GradScaler`` leaves unscaling, and skipping, to the step.

        So it is where nothing else is read from the device either: with ``capturable``.
        """
        plain = (
            type(param.detach()) is torch.Tensor
            for group in self.param_groups
            for param in group["params"]
        )
        return self.capturable and not self.differentiable and all(plain)

    def _unscaled(self, grads: list[torch.Tensor]) -> torch.Tensor | None:
        """Undo the scaling that a GradScaler has left to the step; whether it is to be taken.

        It says so by attributes of the optimizer while it calls ``step``. The operations are those
        of ``GradScaler.unscale_``, and the numbers too.
        """
        found: torch.Tensor | None = getattr(self, "found_inf", None)
        scale: torch.Tensor | None = getattr(self, "grad_scale", None)
        if scale is not None:
            inverse = scale.double().reciprocal().float()
            for alike in _grouped(grads):
                on_device = inverse.to(alike[0].device)
                seen = torch.zeros_like(on_device)
                torch._amp_foreach_non_finite_check_and_unscale_(alike, seen, on_device)
        return None if found is None else found == 0

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
                real_gradient(grad),
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
        if param.layout is not torch.strided:
            raise TypeError(f"{who} has layout {param.layout}; allowed: dense (torch.strided)")
        if param.is_conj():
            raise ValueError(
                f"{who} is a view that conjugates, which cannot be written into as two real parts; "
                "give its values (param.resolve_conj()) or what it is a view of"
            )
        sizes = zip(param.shape, param.stride(), strict=True)
        if param.numel() and any(n > 1 and not step for n, step in sizes):
            raise ValueError(
                f"{who} has shape {tuple(param.shape)} and strides {param.stride()}, several "
                "elements in one place; every element must have its own (param.clone())"
            )
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
        grad = None if grad is None else real_gradient(grad)
        stepping.check(rule, xp, name, real(param), grad)

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
        alike = [_alike(now, held) for now, (held, _) in zip(values, known, strict=True)]
        rules = [
            rule if same else self._rule_with(now)
            for now, (_, rule), same in zip(values, known, alike, strict=True)
        ]
        if not all(alike):
            refuse_apart(rules)
        self._rules = list(zip(values, rules, strict=True))
        return rules

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
        if is_ours(rule, state) and not {n for n in fresh if n not in state} <= conditional:
            return state  # of another rule; _slots_of says so
        return {**fresh, **state}

    def _first_slots(self, rule: Rule, param: torch.Tensor) -> dict[str, Any]:
        if self.differentiable:
            return stepping.init_slots(rule, kernels.Differentiable(), real(param))
        return stepping.init_slots(rule, xp, real(param.detach()))

    def _slots_of(
        self, rule: Rule, name: str, param: torch.Tensor, state: dict[str, Any]
    ) -> dict[str, Any]:
        """The slots that the rule keeps now; one that a change of momentum has ended stays.

        So does what is no slot of any rule: it belongs to whoever put it there.
        """
        if not _is_count(state.get("step")):
            raise ValueError(
                f"{rule.name}: the state of {name!r} has step {state.get('step')!r}; "
                "it must be a 0-d tensor of a whole number >= 0"
            )
        ended = {n for n, item in rule.declared_slots().items() if item.only_if is not None}
        others = slots_of_all() - ended
        slots = {n: v for n, v in state.items() if n in rule.slots() or n in others}
        stepping.check_slots(rule, name, slots, real(param).shape)
        for slot, part in ((n, part) for n, value in slots.items() for part in parts(value)):
            tensor = isinstance(part, torch.Tensor)
            found = f"{part.dtype}, {part.layout}" if tensor else type(part).__name__
            if not tensor or part.layout is not torch.strided or not is_floating(part):
                raise ValueError(
                    f"{rule.name}: the state of {name!r} has a slot {slot} that is {found}; it "
                    f"must be a dense tensor (torch.strided) of {', '.join(stepping.FLOATING)}"
                )
        return slots

    def _shared(self, params: list[torch.Tensor]) -> dict[str, Any]:
        names = self.rule.shared()
        if not names or not params:
            return {}
        first = self.param_groups[0]
        if all(name in first for name in names):
            return {name: first[name].to(params[0].device) for name in names}
        common: dict[str, Any] = {}
        values = [real(param.detach()) for param in params]
        for rule in (*map(self._rule_of, self.param_groups), *self._branches):
            common = stepping.init_shared(rule, xp, values) | common
        return common

    def _share(self, common: dict[str, Any]) -> None:
        for group in self.param_groups:
            group.update(common)

    def state_dict(self) -> dict[str, Any]:
        """The state; where a hyperparameter is a schedule, its number at the last step."""
        handle = self.register_state_dict_post_hook(
            lambda _, saved: settled(self, saved), prepend=True
        )
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; it keeps the dtype it was saved in (torch casts it to the parameter's).

        Where both sides have names of the parameters, it is by them that states are found, and
        the order may differ. Schedules are not part of a state: those of this optimizer stay.

        Raises:
            ValueError: the groups or the state are not those of this rule and these parameters;
                nothing has been loaded then.
        """
        state_dict = dict(as_mapping(self, "a state dict of an optimizer", state_dict))
        for change in self._optimizer_load_state_dict_pre_hooks.values():
            changed = change(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self.__setstate__(loaded(self, state_dict))
        for see in self._optimizer_load_state_dict_post_hooks.values():
            see(self)

    def checkpoint(self, params: Params | None = None) -> Checkpoint:
        """The state, and the parameters if a model is given, without copies.

        ``samestep.checkpoint`` makes one that later steps do not change.
        """
        return checkpoints.taken(self, params)

    def restore(self, checkpoint: Checkpoint, params: Params | None = None) -> None:
        """Take over a checkpoint, in place; see ``samestep.restore``."""
        checkpoints.restore(self, checkpoint, params)

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
    execution: Execution = "auto",
    capturable: bool = False,
    differentiable: bool = False,
) -> RuleOptimizer:
    """A rule object as a ``torch.optim.Optimizer``.

    Args:
        rule: any rule: the package's, a user's own, a wrapped one.
        params: parameters, named parameters or parameter groups, as for ``torch.optim``.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones and cuts large ones, ``"compiled"`` does so through PyTorch's compiler; ``"auto"``
            chooses by the number of elements and what there is to compile with.
        capturable: whether steps are counted on the parameters' device and coefficients computed
            there (in the compute dtype), so that a CUDA graph of a step can be replayed. A
            learning rate that is to change between replays must be a tensor on that device.
            ``torch.amp.GradScaler`` then leaves it to the step to unscale and to skip.
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


def _on_host(value: Any, differentiable: bool) -> Any:
    """A hyperparameter as the rule wants it: a CPU tensor becomes a number.

    Not so one that gradients are to flow to.
    """
    if isinstance(value, (tuple, list)):
        return tuple(_on_host(item, differentiable) for item in value)
    if isinstance(value, torch.Tensor) and value.device.type == "cpu":
        return value if differentiable and value.requires_grad else value.item()
    return value


def _is_count(value: Any) -> bool:
    """Whether this can be a number of steps."""
    if not isinstance(value, torch.Tensor) or value.ndim:
        return False
    if value.is_complex() or value.dtype is torch.bool:
        return False
    number = value.item()
    return number >= 0 and float(number).is_integer()


def _grouped(grads: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Gradients by device and dtype."""
    groups: dict[Any, list[torch.Tensor]] = {}
    for grad in grads:
        groups.setdefault((grad.device, grad.dtype), []).append(grad)
    return [*groups.values()]


def _alike(one: Any, other: Any) -> bool:
    """Whether hyperparameters are the same: numbers by value and type, all else by identity."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    plain = isinstance(one, (float, int, str)) and type(one) is type(other)
    return one is other or (plain and bool(one == other))
