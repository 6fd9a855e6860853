"""Deviations that change numbers: ignore, exchange, subtract from 1 or round them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy

from samestep.declaration import Hyper
from samestep.quirks import with_coefficients
from samestep.rule import Rule

from .deviation import Deviation, Numbers

__all__ = ["of_numbers"]

Fields = dict[str, Hyper]

TINY = 1e-300
"""An eps that makes no difference, for rules that refuse zero."""


def of_numbers(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations in the numbers that a rule is given."""
    fields = {n: f for n, f in rule.fields().items() if isinstance(f, Hyper)}
    yield from _of_pairs(fields)
    for name, field in fields.items():
        if field.ge == 0 and 1 in (field.lt, field.le):
            yield from _complements(name, field)
    yield from _ignored(fields)
    if "eps" in fields and not _several(fields["eps"]):
        yield from _of_eps()
    if "lr" in fields:
        yield from _of_lr(fields["lr"].default)
    for name in fields:
        yield Deviation(
            f"{name} in float32",
            f"rounds {name} to float32",
            f"uses {name} as it is given",
            numbers=partial(_rounded, name),
        )


def _several(field: Hyper) -> bool:
    return isinstance(field.default, tuple)


def _of_pairs(fields: Fields) -> Iterator[Deviation]:
    for name, field in fields.items():
        if not _several(field) or field.ordered:
            continue
        called = [f"{name[:-1]}{place + 1}" for place in range(2)]
        first, second = f"{{{name}[0]:g}}", f"{{{name}[1]:g}}"
        yield Deviation(
            f"swapped {name}",
            f"takes {second} for {called[0]} and {first} for {called[1]}",
            f"takes {called[0]} = {first} and {called[1]} = {second}",
            **_exchange(name, field),
        )


def _exchange(name: str, field: Hyper) -> dict[str, Any]:
    """The first two numbers exchanged: where each has its own range, as coefficients only."""
    if len({part.range for part in field.each}) == 1:
        return {"numbers": partial(_exchanged, name)}
    return {"methods": with_coefficients(lambda _, s: {**s, **_exchanged(name, s)})}


def _exchanged(name: str, numbers: Numbers) -> Numbers:
    return {name: (numbers[name][1], numbers[name][0], *numbers[name][2:])}


def _complements(name: str, field: Hyper) -> Iterator[Deviation]:
    """``1 - b`` in place of a decay ``b``."""
    for place in range(len(field.default)) if _several(field) else (None,):
        called = name if place is None else f"{name[:-1]}{place + 1}"
        at = name if place is None else f"{name}[{place}]"
        yield Deviation(
            f"1 - {called}",
            f"takes 1 - {called} for {called} = {{{at}:g}}",
            f"takes {called} = {{{at}:g}}",
            numbers=partial(_complemented, name, place),
        )


def _complemented(name: str, place: int | None, numbers: Numbers) -> Numbers | None:
    value = numbers[name]
    if place is None:
        return {name: 1 - value} if value else None
    return {name: tuple(1 - part if i == place else part for i, part in enumerate(value))}


def _ignored(fields: Fields) -> Iterator[Deviation]:
    """Numbers that are ignored: 0, 1 or no limit in their place."""
    for name, field in fields.items():
        value = _neutral(name, field)
        if value is not None:
            shown = f"{{{name}[0]:g}} to {{{name}[1]:g}}" if _several(field) else f"{{{name}:g}}"
            yield Deviation(
                f"no {name}",
                f"ignores {name} = {shown}",
                f"uses {name} = {shown}",
                numbers=partial(_having, name, value),
            )


def _neutral(name: str, field: Hyper) -> Any:
    if field.ordered:
        return (0.0, math.inf)
    if name == "lr" or _several(field) or field.default is None:
        return None
    neutral = (0.0, TINY) if name.startswith("eps") else (0.0, math.inf, 1.0)
    return next((value for value in neutral if field.contains(value)), None)


def _having(name: str, value: Any, numbers: Numbers) -> Numbers | None:
    return None if numbers[name] == value else {name: value}


def _of_eps() -> Iterator[Deviation]:
    powers: tuple[tuple[str, str, Callable[[float], float]], ...] = (
        ("eps squared", "the square", lambda eps: eps**2),
        ("root of eps", "the square root", math.sqrt),
    )
    for name, word, power in powers:
        yield Deviation(
            name,
            f"uses {word} of eps = {{eps:g}}",
            "uses eps = {eps:g} as it is",
            numbers=partial(_powered, power),
        )


def _powered(power: Callable[[float], float], numbers: Numbers) -> Numbers | None:
    return {"eps": power(numbers["eps"])} if numbers["eps"] else None


def _of_lr(usual: float) -> Iterator[Deviation]:
    yield Deviation(
        "no lr",
        f"ignores lr = {{lr:g}} and takes {usual:g}",
        "uses lr = {lr:g}",
        numbers=lambda v: None if callable(v["lr"]) or v["lr"] == usual else {"lr": usual},
    )
    yield Deviation(
        "decay times lr twice",
        "multiplies the decay by lr once more",
        "multiplies the decay by lr no more than that",
        numbers=lambda v: _decay_times(1, v),
    )
    yield Deviation(
        "decay not times lr",
        "does not multiply the decay by lr = {lr:g}",
        "multiplies the decay by lr = {lr:g}",
        numbers=lambda v: _decay_times(-1, v),
    )
    for shift, word in ((1, "early"), (-1, "late")):
        yield Deviation(
            f"schedule one step {word}",
            f"reads the schedule of lr one step {word}",
            "reads the schedule of lr at its own step, from 0",
            numbers=partial(_rescheduled, partial(_shifted, shift)),
        )
    yield Deviation(
        "schedule frozen",
        "reads the schedule of lr once, at step 0",
        "reads the schedule of lr at every step",
        numbers=partial(_rescheduled, lambda step: 0),
    )


def _shifted(by: int, step: int) -> int:
    return max(step + by, 0)


def _decay_times(power: int, numbers: Numbers) -> Numbers | None:
    lr, decay = numbers["lr"], numbers["weight_decay"]
    return {"weight_decay": decay * lr**power} if decay and lr and not callable(lr) else None


def _rescheduled(place: Callable[[int], int], numbers: Numbers) -> Numbers | None:
    schedule = numbers["lr"]
    return {"lr": lambda step: schedule(place(step))} if callable(schedule) else None


def _rounded(name: str, numbers: Numbers) -> Numbers | None:
    value = numbers[name]
    parts = value if isinstance(value, tuple) else (value,)
    if any(callable(part) or part is None for part in parts):
        return None
    single = tuple(float(numpy.float32(part)) for part in parts)
    return {name: single if parts is value else single[0]} if single != parts else None
