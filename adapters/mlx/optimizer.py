"""A rule as an ``mlx.optimizers.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mlx.core as xp
import mlx.optimizers
from mlx.utils import tree_flatten, tree_map, tree_map_with_path

from .. import packing
from .. import step as stepping
from ..arrays import known
from ..execution import EXECUTIONS, checked, say
from ..rule import Rule

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]


class _Placed:
    """A parameter with its path."""

    def __init__(self, path: str, array: xp.array) -> None:
        self.path, self.array = path, array


class RuleOptimizer(mlx.optimizers.Optimizer):
    """A rule as an ``mlx.optimizers.Optimizer``; see ``bind``."""

    def __init__(self, rule: Rule, *, execution: str = "auto") -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
        checked(rule.name, execution)
        super().__init__()  # type: ignore[no-untyped-call]
        self.rule = rule
        self.execution = execution
        self._said = ""
        self._on_host: dict[str, tuple[xp.array, float]] = {}
        if self._has_rate:
            self._show_learning_rate(0)

    @property
    def learning_rate(self) -> xp.array:
        """The learning rate: an array in ``state``, float32 but beside float64 parameters.

        With a schedule it is that of the step just taken, as in MLX's own optimizers.

        Raises:
            AttributeError: there is not one learning rate, since parameters have several rules.
        """
        if not self._has_rate:
            raise AttributeError(f"{self.rule!r} has no learning rate of its own; its rules have")
        rate: xp.array = self.state["learning_rate"]
        return rate

    @property
    def _has_rate(self) -> bool:
        return "lr" in self.rule.hypers

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.rule = self.rule.replace(lr=known(value))
        self._show_learning_rate(self._value("step"), self.learning_rate.dtype)

    def init(self, parameters: Any) -> None:
        """Make the state of every parameter in a tree; state that is there already stays."""
        for path, parameter in _flat(parameters):
            if not isinstance(parameter, xp.array):
                raise TypeError(
                    f"{self.rule.name}: parameter {path!r} is {type(parameter).__name__}; it must "
                    "be an mlx.core.array"
                )
            rule = self.rule.of(path, parameter.shape)
            stepping.check(rule, xp, path, parameter)
        arrays: list[Any] = [array for _, array in _flat(parameters)]
        if self._has_rate and xp.float64 in {array.dtype for array in arrays}:
            rate = self._value("learning_rate")
            self._store("learning_rate", rate, xp.array(rate, xp.float64))
        super().init(tree_map_with_path(_Placed, parameters))
        if self.rule.shared() and arrays and "shared_state" not in self.state:
            self.state["shared_state"] = stepping.init_shared(self.rule, xp, arrays)

    def init_single(self, parameter: Any, state: dict[str, Any]) -> None:
        """Make the state of one parameter."""
        placed = parameter if isinstance(parameter, _Placed) else _Placed("", parameter)
        rule = self.rule.of(placed.path, placed.array.shape)
        state.update(stepping.init_slots(rule, xp, placed.array))

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """The parameters after one step, in a tree shaped like the gradients.

        Args:
            gradients: a tree of arrays.
            parameters: a tree that holds at least the gradients' parameters.
        """
        arrays = dict(_flat(parameters))
        for path, grad in _flat(gradients):
            self._check(path, grad, arrays.get(path))
        self.init(tree_map(lambda _, parameter: parameter, gradients, parameters))
        step = self._value("step")
        if isinstance(step, xp.array):  # MLX counts in an unsigned type, where 0 - 1 is not -1
            step = step.astype(xp.int64)
        rule = self.rule.replace(lr=self._learning_rate(step)) if self._has_rate else self.rule
        entries: list[stepping.Entry] = []

        def enter(path: str, grad: Any, param: Any, state: dict[str, Any]) -> int:
            own = rule.of(path, param.shape)
            stepping.check_slots(own, path, state, param.shape)
            entries.append(stepping.Entry(own, step, grad, param, state))
            return len(entries) - 1

        places = tree_map_with_path(enter, gradients, parameters, self.state)
        execution = self._chosen(traced=isinstance(step, xp.array))
        run = stepping.run if execution == "reference" else packing.run
        executor = (_compiled, _as_arrays) if execution == "compiled" else ()
        results, common = run(xp, entries, self.state.get("shared_state", {}), *executor)
        new_params = []
        for entry, (param, slots) in zip(entries, list(results), strict=True):
            new_params.append(param)
            entry.slots.update(slots)
        if common:
            self.state["shared_state"] = common
        self._store("step", step + 1, self.state["step"] + 1)
        return tree_map(lambda place: new_params[place], places)

    def _chosen(self, traced: bool) -> str:
        """The execution; for ``auto`` mx.compile, unless the whole step is in it already."""
        if self.execution != "auto":
            return self.execution
        execution, reason = (
            ("reference", "mx.compile has the whole step")
            if traced
            else ("compiled", "mx.compile takes a moment, at the first step")
        )
        if self._said != execution:
            self._said = execution
            say(self.rule.name, execution, reason)
        return execution

    def _check(self, path: str, grad: Any, parameter: Any) -> None:
        """Refuse a gradient that is none, or that is for no parameter."""
        if not isinstance(grad, xp.array):
            raise TypeError(
                f"{self.rule.name}: the gradient of parameter {path!r} is {type(grad).__name__}; "
                "it must be an mlx.core.array, or be left out"
            )
        if not isinstance(parameter, xp.array):
            raise ValueError(
                f"{self.rule.name}: there is a gradient for {path or 'a single array'!r} and no "
                "such parameter"
            )
        stepping.check(self.rule.of(path, parameter.shape), xp, path, parameter, grad)

    def _learning_rate(self, step: Any) -> Any:
        """The learning rate of this step: a number, or an array where it is traced."""
        if callable(self.rule.hypers["lr"]):
            self._show_learning_rate(step, self.learning_rate.dtype)
        return self._value("learning_rate")

    def _show_learning_rate(self, step: Any, dtype: xp.Dtype = xp.float32) -> None:
        lr = self.rule.at(step).hypers["lr"]
        self._store("learning_rate", lr, xp.array(lr, dtype))

    def _store(self, name: str, value: Any, array: xp.array) -> None:
        """Put an array into the state, and remember its exact value if that is known."""
        self.state[name] = array
        if not isinstance(value, xp.array):
            self._on_host[name] = (array, value)

    def _value(self, name: str) -> Any:
        """The exact value of a state array if it is known, the array itself if it is traced."""
        array = self.state[name]
        held, value = self._on_host.get(name, (None, None))
        if held is not array:
            value = known(array)
            exact = self.rule.hypers.get("lr")
            same = isinstance(value, float) and isinstance(exact, float)
            if name == "learning_rate" and same and xp.array(exact, array.dtype).item() == value:
                value = exact  # what a state that was saved and loaded has been rounded from
            self._store(name, value, array)
        return value

    def __getattr__(self, name: str) -> Any:
        hypers = self.__dict__["rule"].hypers if "rule" in self.__dict__ else {}
        if name in hypers:
            return self._value("learning_rate") if name == "lr" else hypers[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("like", "mask", "groups"):
            raise AttributeError(
                f"{self.rule.name}: {name} is fixed when an optimizer is made; give it to the "
                f"constructor, or bind rule.replace({name}=...)"
            )
        if name == "lr":
            self.learning_rate = value
        elif "rule" in self.__dict__ and name in self.rule.hypers:
            self.rule = self.rule.replace(**{name: value})
        else:
            super().__setattr__(name, value)


def _flat(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf of a tree with its path."""
    found: Any = tree_flatten(tree)
    return list(found)


def bind(rule: Rule, *, execution: str = "auto") -> RuleOptimizer:
    """A rule object (the package's, a user's own, a wrapped one) as an MLX optimizer.

    Args:
        rule: the rule.
        execution: one of ``EXECUTIONS``.
    """
    return RuleOptimizer(rule, execution=execution)


def _as_arrays(values: Any, param: xp.array) -> Any:
    """Scalars as 0-d arrays, so that a change of value is no reason to compile again."""
    if isinstance(values, dict):
        return {name: _as_arrays(value, param) for name, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_as_arrays(value, param) for value in values)
    if isinstance(values, bool):
        return xp.array(values)
    return xp.array(values, stepping.compute_dtype(xp, param.dtype))


@cache
def _compiled(function: Callable[..., Any], xp: Any, rule: Rule) -> Callable[..., Any]:
    """The kernel compiled once per rule and dtype; per shape too, if it looks at axes."""
    shaped = rule.sees_axes
    compiled: Callable[..., Any] = xp.compile(partial(function, xp, rule), shapeless=not shaped)
    return compiled if shaped else stepping.as_vectors(xp, compiled)
