"""The state of Keras 3's own optimizers, from and to ours, whatever backend Keras runs on.

    samestep.save(path, keras_adam)           # the optimizer has its variables, and so the names
    samestep.load(path, keras_adam, model)    # the values of the model's variables too

Keras is not imported here: an optimizer is asked for its attributes and variables. Parameters are
called by their variables' paths, joined by dots. A learning rate that is a schedule is the number
that it gives now, and a checkpoint says that it is one.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import array_api_compat
import numpy

from samestep.arrays import map_parts
from samestep.checkpoints import correspondence
from samestep.checkpoints.correspondence import (
    About,
    Native,
    entries,
    natives,
    placed,
)
from samestep.checkpoints.description import differing_numbers, on_schedules, schedules_in
from samestep.checkpoints.state import (
    Checkpoint,
    CheckpointError,
    ParameterState,
    Wanted,
    common_count,
    few,
)
from samestep.checkpoints.tensor import Tensor
from samestep.checkpoints.trees import check_values
from samestep.rule import Rule, registry
from samestep.step import check_slots, init_slots
from samestep.wrapper import Wrapper

from .tables import APART, DECAYS, KERAS, ONLY, REFUSED, State

__all__ = ["KERAS", "checkpoint", "counterpart", "kept", "restore", "tensor"]


class _Variable(NamedTuple):
    """A parameter of the optimizer."""

    path: str
    variable: Any
    about: About
    state: State
    kept: Mapping[str, Any]
    """Keras's own variables with the state."""
    native: Native
    """The correspondence of the parameter."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> str:
        return str(self.variable.dtype)


def counterpart(rule: str, values: Mapping[str, Any], dtype: str = "float32") -> partial[Any]:
    """The class of keras.optimizers that computes the same as a rule, with the rule's numbers.

    Raises:
        LookupError: keras.optimizers has no such class.
    """
    import_module("samestep.keras.subject")  # which chooses Keras's backend
    classes = import_module("keras.optimizers")
    return correspondence.counterpart(classes, KERAS, rule, values, dtype)


def checkpoint(optimizer: Any, params: Any = None, state: Any = None) -> Checkpoint:
    """The state of an optimizer of Keras; see ``samestep.checkpoint``.

    Raises:
        CheckpointError: no rule of ours computes the same, or the optimizer has no variables yet.
        TypeError: a state is given, which the optimizer holds itself.
    """
    if state is not None:
        raise TypeError(f"{_who(optimizer)} holds its state itself; give no other")
    found = _variables(optimizer, params)
    step = int(_host(optimizer.iterations))
    rate = optimizer._learning_rate
    schedules: dict[tuple[str, int | None], Any] = {} if _is_number(rate) else {("lr", None): rate}
    states = {}
    for own in found:
        rule = _rule(optimizer, own)
        inner = rule.rule if isinstance(rule, Wrapper) else rule
        slots = own.native.taken(inner, own.state, own.about) or {}
        if isinstance(rule, Wrapper):
            slots["average"] = own.state["_model_variables_moving_average"]
        slots = {name: map_parts(Tensor.of, value) for name, value in slots.items()}
        check_slots(rule, own.path, slots, own.shape)
        value = None if params is None else tensor(own.variable)
        one = ParameterState.of(rule, own, step, slots if step else None, value)
        states[own.path] = replace(one, rule=on_schedules(one.rule, schedules))
    others = {path: tensor(variable) for path, variable in _others(found, params).items()}
    return Checkpoint(states, {}, "keras", others)


def restore(optimizer: Any, saved: Checkpoint, params: Any = None) -> None:
    """Give an optimizer of Keras the state in a checkpoint; see ``samestep.restore``.

    It keeps its own hyperparameters but for a learning rate that is a number, and a warning says
    which are others than when the checkpoint was made.

    Raises:
        CheckpointError: the checkpoint does not fit; nothing has been changed.
    """
    found = _variables(optimizer, params)
    who = _who(optimizer)
    rules = {own.path: _rule(optimizer, own) for own in found}
    wanted = {own.path: Wanted(rules[own.path], own) for own in found}
    natives = {own.path: _averaging(own.native, optimizer) for own in found}
    states = correspondence.matched(who, natives, saved, wanted)
    step = common_count(who, states)
    late = [path for path, own in states.items() if own.slots is None]
    if step and late:
        raise CheckpointError(
            f"the checkpoint has no state of {few(late)} after {step} steps, and {who} counts for "
            "all parameters together; samestep counts for each"
        )
    assigned: list[tuple[Any, Any]] = []
    others = _others(found, params)
    if params is not None:
        check_values(states, {own.path: own for own in found}, others, saved)
    for path in saved.others.keys() & others.keys():
        assigned.append((others[path], saved.others[path].like(others[path].value)))
    for own in found:
        state = states[own.path]
        if params is not None and state.value is not None:
            assigned.append((own.variable, state.value.like(own.variable.value)))
        assigned += _assignments(own, state, rules[own.path])
    _refuse_several(who, assigned)
    rate = _rate(optimizer, found, states)
    for variable, value in assigned:
        variable.assign(value)
    optimizer._iterations.assign(step)
    if rate is not None:
        optimizer.learning_rate = rate
    _warn(
        who,
        {own.path: _rule(optimizer, own) for own in found},
        states,
        step,
        rate is not None,
    )


def _native(optimizer: Any) -> Native:
    who = _who(optimizer)
    cls = type(optimizer)
    name = cls.__name__ if cls.__module__.partition(".")[0] == "keras" else ""
    native = natives(KERAS, REFUSED, who, name)
    if not optimizer.built:
        raise CheckpointError(
            f"{who} has no variables yet; call its build(model.trainable_variables) first"
        )
    return native


def _averaging(native: Native, optimizer: Any) -> Native:
    """The correspondence, with the average that ``use_ema`` adds."""
    if not optimizer.use_ema:
        return native
    return replace(
        native,
        rule="Average",
        also={},
        apart=None,
        fields={**native.fields, "average_decay": "ema_momentum"},
    )


def _rule(optimizer: Any, own: _Variable) -> Rule:
    rule = replace(own.native, only={**ONLY, **own.native.only}).rule_of(_who(optimizer), own.about)
    if not optimizer.use_ema:
        return rule
    average = registry["Average"]
    return average(rule, average_decay=own.about.numbers["ema_momentum"], average_start=1)


def _variables(optimizer: Any, params: Any) -> list[_Variable]:
    """Every parameter of the optimizer, with its numbers and its state."""
    native, numbers = _native(optimizer), _numbers(optimizer)
    decays = [name for name in DECAYS if name in numbers]
    adam_s = getattr(optimizer, "_should_use_adamw", lambda _: False)
    step = int(_host(optimizer.iterations))
    names = _names(optimizer, params)
    found = []
    for at, (variable, path) in enumerate(zip(optimizer._trainable_variables, names, strict=True)):
        own = numbers | {APART: bool(adam_s(variable))}
        own |= {} if optimizer._use_weight_decay(variable) else dict.fromkeys(decays, 0.0)
        held = kept(optimizer, at)
        state = {name: tensor(one) for name, one in held.items()}
        about = About(own, str(variable.dtype), step, tuple(variable.shape))
        found.append(_Variable(path, variable, about, state, held, native.of(about)))
    return found


def _names(optimizer: Any, params: Any) -> list[str]:
    variables = optimizer._trainable_variables
    if params is None or hasattr(params, "trainable_variables"):
        given = variables if params is None else params.trainable_variables
        pairs = [(_name(variable), variable) for variable in given]
    else:
        named: Iterable[Any] = params.items() if isinstance(params, Mapping) else params
        pairs = [*named]
    names = {id(variable): name for name, variable in pairs}
    for variable in variables:
        if id(variable) not in names:
            raise CheckpointError(
                f"variable {variable.path!r} of the optimizer is not among the {len(names)} given; "
                "is it the model that the optimizer was built for?"
            )
    return placed(names[id(variable)] for variable in variables)


def _others(found: list[_Variable], params: Any) -> dict[str, Any]:
    """The variables of a model that the optimizer does not have, but for seeds and metrics."""
    held = {id(own.variable) for own in found}
    weights = getattr(params, "weights", ())
    return {_name(weight): weight for weight in weights if id(weight) not in held}


def _name(variable: Any) -> str:
    return str(variable.path.replace("/", "."))


ATTRIBUTES = (*entries(KERAS), "_model_variables_moving_average")
"""Variables of state, most in a list with one for every parameter."""


def kept(optimizer: Any, at: int) -> dict[str, Any]:
    """Keras's variables with the state of one parameter, by the attribute that they are under."""
    held = {name: getattr(optimizer, name, None) for name in ATTRIBUTES}
    lists = {name: value for name, value in held.items() if isinstance(value, list) and value}
    single = {n: v for n, v in held.items() if not (v is None or isinstance(v, list))}
    own = {name: value[at] for name, value in lists.items()}
    return {name: value for name, value in (own | single).items() if value is not None}


def _numbers(optimizer: Any) -> dict[str, Any]:
    """Hyperparameters by their names, with the current learning rate."""
    found = {name: value for name, value in vars(optimizer).items() if not name.startswith("_")}
    found["backend"] = sys.modules["keras"].backend.backend()
    found["learning_rate"] = float(_host(optimizer.learning_rate))
    return found | {name: found[name] or 0.0 for name in DECAYS if name in found}


def _assignments(own: _Variable, state: ParameterState, rule: Rule) -> list[tuple[Any, Any]]:
    """Keras's variables and the new value of each."""
    slots = state.slots
    if slots is None:
        value = own.variable.value
        first = init_slots(rule, array_api_compat.array_namespace(value), value)
        slots = {name: map_parts(Tensor.of, array) for name, array in first.items()}
    slots = dict(slots)
    given: dict[str, Any] = {}
    if isinstance(rule, Wrapper):
        given["_model_variables_moving_average"] = slots.pop("average")
    given |= own.native.given(slots, own.about)
    found = []
    for name, part in given.items():
        variable = own.kept[name]
        if part.dtype != str(variable.dtype):
            raise CheckpointError(
                f"the checkpoint's state of {own.path!r} has {name} in {part.dtype}; Keras keeps "
                f"it in {variable.dtype}"
            )
        found.append((variable, part.like(variable.value)))
    return found


def _refuse_several(who: str, assigned: list[tuple[Any, Any]]) -> None:
    """Raise if parameters have different values of a number that Keras keeps once."""
    seen: dict[int, Any] = {}
    for variable, value in assigned:
        first = seen.setdefault(id(variable), value)
        if not numpy.array_equal(_host(first), _host(value), equal_nan=True):
            raise CheckpointError(
                f"{who} keeps {variable.path} once for all parameters, which have different ones "
                "in the checkpoint"
            )


def _is_number(rate: Any) -> bool:
    """Whether a learning rate is a variable, and no schedule or function."""
    return hasattr(rate, "assign")


def _rate(
    optimizer: Any, variables: list[_Variable], states: Mapping[str, ParameterState]
) -> float | None:
    """The learning rate of all parameters, where the optimizer's is a number."""
    if not _is_number(optimizer._learning_rate):
        return None
    found: list[float] = []
    for own in variables:
        described = states[own.path].rule
        value = described.get("rule", described)["values"]["lr"]
        value = value["value"] if isinstance(value, dict) else value
        found += own.native.arguments({"lr": value}, own.about).values()
    alike = all(math.isclose(value, found[0], rel_tol=2.0**-50) for value in found)
    return float(found[0]) if found and alike else None


def _warn(
    who: str,
    rules: Mapping[str, Rule],
    states: Mapping[str, ParameterState],
    step: int,
    numeric: bool,
) -> None:
    """Warn of what is not taken, also of a schedule if the learning rate is a number here."""
    differing: dict[str, None] = {}
    for path, rule in rules.items():
        found = differing_numbers(rule, states[path].rule, max(step - 1, 0))
        differing |= dict.fromkeys(words for words in found if not words.startswith("lr is "))
        if numeric and (schedule := schedules_in(rule, states[path].rule).get("lr")):
            differing[f"lr is a number here and {schedule} there"] = None
    for words in differing:
        warnings.warn(
            f"{who} keeps its own hyperparameters: {words} (in the checkpoint)",
            UserWarning,
            stacklevel=4,
        )


def tensor(variable: Any) -> Tensor:
    """A variable's value; that of TensorFlow as NumPy has it."""
    value = variable.value
    return Tensor.of(variable.numpy() if type(value).__module__.startswith("tensorflow") else value)


def _host(value: Any) -> Any:
    """A variable or an array of a backend as NumPy has it."""
    value = getattr(value, "value", value)
    value = value.detach().cpu() if hasattr(value, "detach") else value
    return numpy.asarray(value)


def _who(optimizer: Any) -> str:
    return f"keras.optimizers.{type(optimizer).__qualname__}"
