"""Parameter groups of a torch optimizer, and the rule made from the numbers of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count, repeat
from operator import attrgetter, is_, is_not
from typing import Any

import torch
from samestep.groups import refuse_apart
from samestep.matching import warn_hidden, warn_unmatched
from samestep.names import Place, around, unwrapped
from samestep.rule import Rule, registry
from samestep.spelling import ELSEWHERE
from samestep.steady import refuse_changed
from torch.nn.parameter import is_lazy

from .counting import CALLS, counts_in
from .foreign import refuse_foreign
from .held import Held, alike, is_fixed, on_host, renumbered, rule_with

__all__ = ["GroupedOptimizer"]


_grad = attrgetter("grad")

FIXED = ("rule", "execution", "capturable", "differentiable", "reduce_over", "share_work")
"""Attributes that are the constructor's."""


class GroupedOptimizer(torch.optim.Optimizer):
    """An optimizer whose groups hold the hyperparameters of a rule."""

    rule: Rule
    differentiable: bool
    _branches: tuple[Rule, ...]
    _held: list[Held]
    _rules: list[Rule]
    _within: frozenset[str] = frozenset()
    """The paths of the modules of DDP in the names of all parameters."""
    _common: Mapping[str, Any] = {}
    """The shared state of the last step, for parameters that come back when no group is left."""

    @property
    def steps_taken(self) -> int:
        """The largest number of steps that a parameter has taken."""
        steps = [state["step"] for state in self.state.values() if "step" in state]
        read = zip(counts_in(steps), steps, strict=True)
        return max((int(step) if count is None else count for count, step in read), default=0)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; what it leaves out is taken from ``defaults`` and the optimizer's rule."""
        own = {name for rule in registry.values() for name in rule.fields()}  # groups go round
        for name, value in param_group.items():
            other = name in FIXED and value and value != getattr(self, name)
            if name in ("like", "mask", "groups") or other:
                raise TypeError(
                    f"{self.rule.name}: a parameter group has {name!r}; it is for the whole "
                    "optimizer, give it to the constructor"
                )
            if name in ELSEWHERE and name not in own:
                raise TypeError(
                    f"{self.rule.name}: a parameter group has {name!r}; it is called "
                    f"{ELSEWHERE[name]!r} here"
                )
        parts = self._parts_of(param_group)
        self._refuse_twice(parts)
        first = self._branches[0].hypers
        changed = {
            name: value
            for name, value in self.defaults.items()
            if name in first and not alike(value, first[name])
        }
        groups = [
            {**self._branches[part.get("branch", 0)].hypers, **changed, **part} for part in parts
        ]
        ours = {name for group in groups for name in self._own(group).hypers}
        for group in groups:
            refuse_foreign(self._own(group), group, ours)
        refuse_apart([self._rule_of(group) for group in (*self.param_groups, *groups)])
        before = len(self.param_groups)
        try:
            for group in groups:
                super().add_param_group(group)
                self._share_with_last()
            self._warn(warn_hidden, self.param_groups[before:])
        except Exception:
            del self.param_groups[before:]
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; refuse what steps would not follow.

        The rule and the ways of executing it are the constructor's. A learning rate scheduler is
        refused for a group with a schedule.

        A scheduler calls no method of the optimizer when it is made: it writes ``initial_lr`` into
        the groups, and then wraps ``step``, which is the first moment to notice it.
        """
        if name in FIXED and "param_groups" in vars(self):
            raise AttributeError(
                f"{self.rule.name}: {name} is given to the constructor; make another optimizer, "
                "which takes this one's state_dict(), and numbers in param_groups"
            )
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
        """A group, divided by the rules of its parameters.

        Parameters without names are called by their places in the given order. Entries in which
        another optimizer notes its own parts and shared state are left out.
        """
        theirs = {"branch", "places", "param_names", CALLS, *self.rule.shared()}
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
        if params and all(isinstance(item, tuple) for item in params):
            own = unwrapped([name for name, _ in params], self._within)
            params = [(name, item[1]) for name, item in zip(own, params, strict=True)]
        if not self._routed:
            return [{**param_group, "params": params}]
        parts: dict[int, dict[str, Any]] = {}
        for place, item in enumerate(params, self._count()):
            name, param = item if isinstance(item, tuple) else (Place(place), item)
            if is_lazy(param):
                raise ValueError(
                    f"{self.rule.name}: parameter {name!r} of a lazy module has no shape yet, by "
                    "which it may get a rule; run the model once before the optimizer is made"
                )
            branch = self.rule.branch(name, getattr(param, "shape", ()))
            part = parts.setdefault(branch, {**param_group, "params": [], "branch": branch})
            part["params"].append(item)
            if not isinstance(item, tuple):
                part.setdefault("places", []).append(str(place))
        empty = {**param_group, "params": [], "branch": 0}
        return [parts[branch] for branch in sorted(parts)] or [empty]

    def _listed(self, params: Any) -> Any:
        """Parameters or groups as a list, of whose names it is noted what is around them."""
        if isinstance(params, (torch.Tensor, dict)) or not isinstance(params, Iterable):
            return params  # which torch refuses
        items = [*params]
        names: list[str] = []
        for at, item in enumerate(items):
            given = item.get("params", ()) if isinstance(item, dict) else [item]
            if isinstance(given, Iterator):
                given = [*given]
                items[at] = {**item, "params": given}
            own = [] if isinstance(given, torch.Tensor) else given
            names += [str(pair[0]) for pair in own if isinstance(pair, tuple)]
            names += item.get("param_names", ()) if isinstance(item, dict) else ()
        self._within = around(names)
        return items

    def _params(self) -> list[Any]:
        """All parameters."""
        return [*chain.from_iterable(group["params"] for group in self.param_groups)]

    def _count(self) -> int:
        """How many parameters there are."""
        return sum(len(group["params"]) for group in self.param_groups)

    def _refuse_twice(self, parts: list[dict[str, Any]]) -> None:
        """Refuse a parameter that the optimizer has already, or that is given twice."""
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

    def _share(self, common: dict[str, Any]) -> None:
        vars(self)["_common"] = common
        for group in self.param_groups:
            group.update(common)

    def _share_with_last(self) -> None:
        """Give the last group the shared state of the others, or of those that have gone."""
        first, last = self.param_groups[0], self.param_groups[-1]
        held = first if first is not last else self._common if self.steps_taken else {}
        last.update({name: held[name] for name in self.rule.shared() if name in held})
        last[CALLS] = first.get(CALLS, 0)

    def _called(self, calls: Any) -> None:
        """Note the calls so far: a number, or a tensor that counts them on a device."""
        vars(self)["_calls"] = calls
        for group in self.param_groups:
            group[CALLS] = calls

    def _rule_of(self, group: dict[str, Any]) -> Rule:
        return rule_with(self._values_of(group))

    def _own(self, group: dict[str, Any]) -> Rule:
        """The rule with which a group was made."""
        place: int = group.get("branch", 0)
        return self._branches[place]

    def _values_of(self, group: dict[str, Any]) -> tuple[Any, ...]:
        own = self._own(group)
        try:
            return own, *(on_host(group[name], self.differentiable) for name in own.hypers)
        except (KeyError, RuntimeError):
            self._refuse_group(own, group)
            raise

    @staticmethod
    def _refuse_group(own: Rule, group: dict[str, Any]) -> None:
        """Raise if a hyperparameter is not in a group, or is no number there."""
        for name in own.hypers:
            if name not in group:
                raise ValueError(f"{own.name}: a parameter group has no {name!r} any more; set it")
            value = group[name]
            if isinstance(value, torch.Tensor) and value.numel() != 1:
                raise ValueError(
                    f"{own.name}: {name} of a parameter group is a tensor of shape "
                    f"{tuple(value.shape)}; it must be a number, or a tensor of one element"
                )

    def _rules_of_groups(self) -> list[Rule]:
        """The rule of every group; the same list as before as long as no value changes."""
        groups = self.param_groups
        if len(groups) == len(self._held):
            for group, held in zip(groups, self._held, strict=True):
                same = map(is_, map(group.get, held.names), held.values)
                if not (held.fixed and all(same)):
                    break
            else:
                return self._rules
        return self._renewed()

    def _renewed(self) -> list[Rule]:
        """The rule of every group; with unchanged numbers it is the same object."""
        held: list[Held] = []
        rules: list[Rule] = []
        before = chain(zip(self._held, self._rules, strict=True), repeat((None, None)))
        for group, (old, rule) in zip(self.param_groups, before, strict=False):
            now, new = renumbered(old, rule, group) or self._read(old, rule, group)
            if rule is not None and rule.has_point and new is not rule:
                refuse_changed(rule, new)
            held.append(now)
            rules.append(new)
        if len(rules) != len(self._rules) or any(map(is_not, rules, self._rules)):
            refuse_apart(rules)
            self._rules = rules
        self._held = held
        return self._rules

    def _read(
        self, old: Held | None, rule: Rule | None, group: dict[str, Any]
    ) -> tuple[Held, Rule]:
        """What a group holds now, and its rule."""
        numbers = self._values_of(group)
        names = ("branch", *numbers[0].hypers)
        values = [*map(group.get, names)]
        now = Held(names, values, all(map(is_fixed, values)), numbers)
        if old is None or rule is None or not alike(numbers, old.numbers):
            rule = rule_with(numbers)
        return now, rule

    def _with_gradients(self) -> tuple[list[Any], list[Any], list[Any]]:
        """The parameters that have a gradient, these, and names and places of the parameters."""
        params: list[Any] = []
        grads: list[Any] = []
        where: list[Any] = []
        for group in self.param_groups:
            own = group["params"]
            found = [*map(_grad, own)]
            names = group.get("param_names", group.get("places"))
            where += len(own), None if names is None else [*names]
            if any(map(is_, found, repeat(None))):
                places = [place for place, grad in enumerate(found) if grad is not None]
                own, found = [own[p] for p in places], [found[p] for p in places]
                where.append(places)
            params += own
            grads += found
        return params, grads, where

    def _named(self, group: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
        """Parameters with their names, or with their places among all parameters."""
        names = group.get("param_names")
        if names is None:
            names = [*map(Place, self._places(group))]
        if len(names) != len(group["params"]):
            kind = "param_names" if "param_names" in group else "places, by which its rule goes,"
            raise ValueError(
                f"{self.rule.name}: a group has {len(group['params'])} parameters and "
                f"{len(names)} {kind} ({', '.join(names)}); change group['params'] and "
                f"group[{kind.partition(',')[0]!r}] together, or use add_param_group"
            )
        return zip(names, group["params"], strict=True)

    def _places(self, group: dict[str, Any]) -> Iterable[Any]:
        """The places of a group's parameters among all."""
        known = [id(other) for other in self.param_groups]
        before = self.param_groups[: known.index(id(group))] if id(group) in known else []
        first = sum(len(other["params"]) for other in before)
        places: Iterable[Any] = group.get("places", range(first, first + len(group["params"])))
        return places

    def _warn_unmatched(self) -> None:
        """Warn of predicates that choose no parameter; shapes of lazy ones are not known yet."""
        self._warn(warn_unmatched, self.param_groups)

    def _warn(self, say: Callable[..., None], groups: list[dict[str, Any]]) -> None:
        named = [item for group in groups for item in self._named(group)]
        if not any(is_lazy(param) for _, param in named):
            say(self.rule, [(name, param.shape) for name, param in named])
