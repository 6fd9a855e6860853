"""A rule as an ``mlx.optimizers.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mlx.core as xp
import mlx.optimizers
from mlx.utils import tree_map, tree_map_with_path

from .. import step as stepping
from ..rule import Rule

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]

EXECUTIONS = ("reference", "compiled")
"""``reference`` runs the rule as it is; ``compiled`` runs each parameter's step in mx.compile."""


class RuleOptimizer(mlx.optimizers.Optimizer):
    """A rule as an ``mlx.optimizers.Optimizer``; see ``bind``."""

    def __init__(self, rule: Rule, *, execution: str = "reference") -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"{rule!r} is no rule; give one such as samestep.Adan(lr=1e-3)")
        if execution not in EXECUTIONS:
            raise ValueError(
                f"{rule.name}(execution={execution!r}): execution must be one of "
                + ", ".join(map(repr, EXECUTIONS))
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self.rule = rule
        self.execution = execution
        self._on_host: dict[str, tuple[xp.array, float]] = {}
        self._show_learning_rate(0)

    @property
    def learning_rate(self) -> xp.array:
        """The learning rate: an array in ``state``, float32 but beside float64 parameters.

        With a schedule it is that of the step just taken, as in MLX's own optimizers.
        """
        rate: xp.array = self.state["learning_rate"]
        return rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.rule = self.rule.replace(lr=_known(value) if isinstance(value, xp.array) else value)
        self._show_learning_rate(self._value("step"), self.learning_rate.dtype)

    def init(self, parameters: Any) -> None:
        """Make the state of every parameter in a tree; state that is there already stays."""
        self._paths: dict[int, str] = {}

        def check(path: str, parameter: xp.array) -> None:
            stepping.check(self.rule, xp, path, parameter)
            self._paths[id(parameter)] = path

        tree_map_with_path(check, parameters)
        arrays: list[Any] = []
        tree_map(arrays.append, parameters)
        if xp.float64 in {array.dtype for array in arrays}:
            rate = self._value("learning_rate")
            self._store("learning_rate", rate, xp.array(rate, xp.float64))
        super().init(parameters)
        if self.rule.shared() and "shared_state" not in self.state:
            self.state["shared_state"] = stepping.init_shared(self.rule, xp, arrays)

    def init_single(self, parameter: xp.array, state: dict[str, Any]) -> None:
        """Make the state of one parameter."""
        rule = self.rule.of(self._paths[id(parameter)], parameter.shape)
        state.update(stepping.init_slots(rule, xp, parameter))

    def apply_gradients(self, gradients: Any, parameters: Any) -> Any:
        """The parameters after one step, in a tree shaped like the gradients.

        Args:
            gradients: a tree of arrays.
            parameters: a tree that holds at least the gradients' parameters.
        """
        tree_map_with_path(
            lambda path, grad, param: stepping.check(self.rule, xp, path, param, grad),
            gradients,
            parameters,
        )
        self.init(tree_map(lambda _, parameter: parameter, gradients, parameters))
        step = self._value("step")
        if isinstance(step, xp.array):  # MLX counts in an unsigned type, where 0 - 1 is not -1
            step = step.astype(xp.int64)
        rule = self.rule.replace(lr=self._learning_rate(step))
        entries: list[stepping.Entry] = []

        def enter(path: str, grad: Any, param: Any, state: dict[str, Any]) -> int:
            stepping.check_slots(rule, path, state, param.shape)
            own = rule.of(path, param.shape)
            entries.append(stepping.Entry(own, step, grad, param, state))
            return len(entries) - 1

        places = tree_map_with_path(enter, gradients, parameters, self.state)
        executor = (_compiled, _as_arrays) if self.execution == "compiled" else ()
        results, common = stepping.run(xp, entries, self.state.get("shared_state", {}), *executor)
        new_params = []
        for entry, (param, slots) in zip(entries, list(results), strict=True):
            new_params.append(param)
            entry.slots.update(slots)
        if common:
            self.state["shared_state"] = common
        self._store("step", step + 1, self.state["step"] + 1)
        return tree_map(lambda place: new_params[place], places)

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
            value = _known(array)
            exact = self.rule.hypers["lr"]
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
        if name == "lr":
            self.learning_rate = value
        elif "rule" in self.__dict__ and name in self.rule.hypers:
            self.rule = self.rule.replace(**{name: value})
        else:
            super().__setattr__(name, value)


def bind(rule: Rule, *, execution: str = "reference") -> RuleOptimizer:
    """A rule object (the package's, a user's own, a wrapped one) as an MLX optimizer.

    Args:
        rule: the rule.
        execution: one of ``EXECUTIONS``.
    """
    return RuleOptimizer(rule, execution=execution)


def _known(array: xp.array) -> Any:
    """The value of a 0-d array, or the array itself inside a transformation."""
    try:
        return array.item()
    except ValueError:  # MLX refuses to evaluate while it traces
        return array


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
