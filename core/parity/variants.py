"""Variants of a rule: its options and numbers changed, and what people get wrong beside them.

A variant is a rule with some changes. A change sets an option or a number that the rule declares,
or plants a ``Deviation``: something that is no option, such as swapped betas. Deviations are
applied to a copy of the rule's class, on what every rule has: its numbers, the coefficients of a
step, and the way in which it descends. So they need not know the rule.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy

from ..declaration import Hyper, Option, Storage
from ..rule import Rule
from ..vocabulary import decayed_direction, decayed_parameter, norm, trust_ratio
from ..wrapper import Wrapper

__all__ = ["Change", "Deviation", "Variant", "changes", "deviations"]

BEGINNINGS = {"first": 1, "second": 2}
"""Coefficients that say which step it is."""

Numbers = Mapping[str, Any]
Methods = Callable[[type[Rule]], dict[str, Any]]


class Change(NamedTuple):
    """A field with another value; or a deviation, by its name."""

    field: str
    value: Any


DEVIATION = "deviation"
"""In place of a field's name in the key of a deviation."""


@dataclass(frozen=True)
class Deviation:
    """Something that is done otherwise and is no option of the rule."""

    name: str
    says: str
    """What one side does, after its name; braces are filled with the rule's numbers."""
    instead: str
    """What the other side does that does not do so."""
    numbers: Callable[[Numbers], Numbers | None] | None = None
    """Other numbers, or ``None`` where it makes no difference."""
    methods: Methods | None = None
    """What the copy of the class does otherwise."""
    late: int = 0
    """How many steps late the gradients come."""
    loose: bool = False
    """Whether it is arithmetic in float32, which two libraries do not round alike."""


@dataclass(frozen=True)
class Variant:
    """A rule with changes."""

    rule: type[Rule]
    numbers: tuple[tuple[str, Any], ...]
    """What the subject has, in our terms."""
    changes: tuple[Change, ...] = ()

    def with_changes(self, *more: Change) -> Variant:
        """The same with more changes, which go before those that it has."""
        kept = {_key(change): change for change in (*self.changes, *more)}
        return Variant(self.rule, self.numbers, tuple(sorted(kept.values(), key=repr)))

    @property
    def values(self) -> dict[str, Any]:
        """The values of the rule's fields, before any deviation."""
        fields = self.rule.fields()
        found = dict(self.numbers)
        return found | {c.field: c.value for c in self.changes if c.field in fields}

    @property
    def deviations(self) -> tuple[Deviation, ...]:
        """What it does that is no option."""
        fields = self.rule.fields()
        known = {deviation.name: deviation for deviation in deviations(self.rule)}
        return tuple(known[c.field] for c in self.changes if c.field not in fields)

    @property
    def late(self) -> int:
        """How many steps late the gradients come."""
        return sum(deviation.late for deviation in self.deviations)

    @property
    def loose(self) -> bool:
        """Whether some of it is arithmetic in float32."""
        return any(deviation.loose for deviation in self.deviations)

    def made(self) -> Any:
        """The rule, or ``None`` where the changes exclude each other."""
        values: dict[str, Any] = self.values
        for deviation in self.deviations:
            if deviation.numbers is not None:
                changed = deviation.numbers({**_defaults(self.rule), **values})
                if changed is None:
                    return None
                values = {**values, **changed}
        kinds = tuple(d for d in self.deviations if d.methods is not None)
        try:
            cls: Any = self.rule
            return _copy(cls, kinds)(**values)
        except (TypeError, ValueError):
            return None


def _key(change: Change) -> str:
    return change.field


def _defaults(rule: type[Rule]) -> dict[str, Any]:
    return {name: field.default for name, field in rule.fields().items()}


@cache
def _copy(rule: Any, kinds: tuple[Deviation, ...]) -> Any:
    """The class with what the deviations do otherwise; it is registered nowhere."""
    made: type[Rule] = rule
    for kind in kinds:
        assert kind.methods is not None
        body = partial(_filled, kind.methods(made))
        made = types.new_class(rule.__name__, (made,), {"register": False}, body)
    return made


def _filled(found: dict[str, Any], space: dict[str, Any]) -> None:
    space.update(found)


def changes(rule: type[Rule], numbers: Numbers) -> list[Change]:
    """Every single change of a rule: options, numbers that a dialect has, deviations.

    Args:
        rule: the rule.
        numbers: what the subject lets be chosen; only other numbers are looked for.
    """
    found: list[Change] = []
    for name, field in rule.fields().items():
        if isinstance(field, Storage):
            continue
        if isinstance(field, Option):
            found += [Change(name, value) for value in _choices(rule, name, field)]
        elif name not in numbers:
            found += [Change(name, value) for value in _usual(rule, name, field)]
    found += [Change(deviation.name, DEVIATION) for deviation in deviations(rule)]
    return found


def _choices(rule: type[Rule], name: str, field: Option) -> list[Any]:
    """Values of an option; whole numbers are those that a dialect has."""
    if field.choices is not None:
        return [value for value in field.choices if value != field.default]
    if isinstance(field.default, bool):
        return [not field.default]
    return _in_dialects(rule, name, field.default)


def _usual(rule: type[Rule], name: str, field: Hyper) -> list[Any]:
    """Numbers that dialects have for what a subject does not let be chosen."""
    found = _in_dialects(rule, name, field.default)
    if name != "lr" and field.typical not in (None, field.default, *found):
        found.append(field.typical)
    return found if name != "lr" else []


def _in_dialects(rule: type[Rule], name: str, default: Any) -> list[Any]:
    values = (item.values.get(name, default) for item in rule.dialects.values())
    return [*dict.fromkeys(value for value in values if value != default)]


def deviations(rule: type[Rule]) -> tuple[Deviation, ...]:
    """What can be done otherwise in a rule, beside its options."""
    known: Any = rule
    return _deviations(known)


@cache
def _deviations(rule: Any) -> tuple[Deviation, ...]:
    if issubclass(rule, Wrapper) or isinstance(rule.needs, property):
        return ()
    return tuple(_of_numbers(rule)) + tuple(_of_coefficients(rule)) + tuple(_of_steps(rule))


def _of_numbers(rule: type[Rule]) -> Iterator[Deviation]:
    fields = {n: f for n, f in rule.fields().items() if isinstance(f, Hyper)}
    if "betas" in fields and len(fields["betas"].default) > 1:
        yield Deviation(
            "swapped betas",
            "takes {betas[1]:g} for beta1 and {betas[0]:g} for beta2",
            "takes beta1 = {betas[0]:g} and beta2 = {betas[1]:g}",
            lambda v: {"betas": (v["betas"][1], v["betas"][0], *v["betas"][2:])},
        )
    for name, field in fields.items():
        if field.ge == 0 and field.lt == 1:
            yield from _complements(name, field)
    for name in ("eps", "weight_decay", "momentum"):
        if name in fields and fields[name].contains(0.0) and not _several(fields[name]):
            yield Deviation(
                f"no {name}",
                f"ignores {name} = {{{name}:g}}",
                f"uses {name} = {{{name}:g}}",
                partial(_zeroed, name),
            )
    if "eps" in fields and not _several(fields["eps"]):
        yield Deviation(
            "eps squared",
            "uses the square of eps = {eps:g}",
            "uses eps = {eps:g} as it is",
            lambda v: {"eps": v["eps"] ** 2} if v["eps"] else None,
        )
        yield Deviation(
            "root of eps",
            "uses the square root of eps = {eps:g}",
            "uses eps = {eps:g} as it is",
            lambda v: {"eps": math.sqrt(v["eps"])} if v["eps"] else None,
        )
    if "lr" in fields:
        usual = fields["lr"].default
        yield Deviation(
            "no lr",
            f"ignores lr = {{lr:g}} and takes {usual:g}",
            "uses lr = {lr:g}",
            lambda v: None if callable(v["lr"]) or v["lr"] == usual else {"lr": usual},
        )
        yield Deviation(
            "decay times lr twice",
            "multiplies the decay by lr once more",
            "multiplies the decay by lr no more than that",
            lambda v: (
                {"weight_decay": v["weight_decay"] * v["lr"]}
                if v["weight_decay"] and not callable(v["lr"])
                else None
            ),
        )
        for shift, word in ((1, "early"), (-1, "late")):
            yield Deviation(
                f"schedule one step {word}",
                f"reads the schedule of lr one step {word}",
                "reads the schedule of lr at its own step, from 0",
                partial(_rescheduled, shift),
            )


def _several(field: Hyper) -> bool:
    return isinstance(field.default, tuple)


def _zeroed(name: str, numbers: Numbers) -> Numbers | None:
    return {name: 0.0} if numbers[name] else None


def _rescheduled(by: int, numbers: Numbers) -> Numbers | None:
    schedule = numbers["lr"]
    return {"lr": lambda step: schedule(max(step + by, 0))} if callable(schedule) else None


def _complemented(name: str, place: int | None, numbers: Numbers) -> Numbers | None:
    value = numbers[name]
    if place is None:
        return {name: 1 - value} if value else None
    return {name: tuple(1 - part if i == place else part for i, part in enumerate(value))}


def _complements(name: str, field: Hyper) -> Iterator[Deviation]:
    """``1 - b`` in the place of a decay ``b``."""
    for place in range(len(field.default)) if _several(field) else (None,):
        called = name if place is None else f"{name[:-1]}{place + 1}"
        at = name if place is None else f"{name}[{place}]"
        yield Deviation(
            f"1 - {called}",
            f"takes 1 - {called} for {called} = {{{at}:g}}",
            f"takes {called} = {{{at}:g}}",
            partial(_complemented, name, place),
        )


def _coefficients(change: Callable[[Rule, dict[str, Any]], dict[str, Any]], by: int = 0) -> Methods:
    """Other coefficients of a step, or those of another step."""

    def methods(cls: type[Rule]) -> dict[str, Any]:
        def coefficients(self: Rule, xp: Any, t: Any) -> dict[str, Any]:
            found = cls.coefficients(self, xp, t + by)
            found |= {name: t == at for name, at in BEGINNINGS.items() if name in found}
            return change(self, found)

        return {"coefficients": coefficients}

    return methods


def _of_coefficients(rule: type[Rule]) -> Iterator[Deviation]:
    now = _first_coefficients(rule)
    for name, value in now.items():
        if _is_pair(value):
            yield from _other_weights(rule, name)
    if "unbias_m" in now:
        yield Deviation(
            "m uncorrected",
            "does not correct m for its start at zero",
            "corrects m by 1 - beta1^t",
            methods=_coefficients(lambda rule, s: {**s, "unbias_m": 1.0}),
        )
    if hasattr(rule, "root") and "bias_correction" in rule.fields():
        yield Deviation(
            "v uncorrected",
            "does not correct the mean under the root for its start at zero",
            "corrects the mean under the root by 1 - beta^t",
            methods=lambda cls: {
                "root": lambda self, xp, gathered=1.0: cls.root(self, xp, 1.0)  # type: ignore[attr-defined]
            },
        )
    if hasattr(rule, "gathered"):
        yield Deviation(
            "correction in float32",
            "computes 1 - beta^t in float32",
            "computes 1 - beta^t in float64",
            methods=lambda cls: {"gathered": _in_float32},
            loose=True,
        )
        yield Deviation(
            "beta in float32",
            "computes 1 - beta^t with beta rounded to float32",
            "computes 1 - beta^t in float64",
            methods=lambda cls: {"gathered": _of_float32},
        )
    yield from _of_averages(rule)
    if hasattr(rule, "rescaled"):
        yield from _of_ratios(rule)
    if "eps" in now and not isinstance(now["eps"], tuple):
        yield Deviation(
            "eps as a bound",
            "takes eps = {eps:g} as the least value of the divisor",
            "adds eps = {eps:g}",
            methods=_coefficients(_bounded),
        )
    if any(name in now for name in ("unbias_m", "root", "of_m")):
        for by, word in ((1, "later"), (-1, "earlier")):
            yield Deviation(
                f"correction one step {word}",
                f"corrects as if it were one step {word}",
                "corrects by the steps taken, this one included",
                methods=_coefficients(lambda rule, s: s, by),
            )


def _of_averages(rule: type[Rule]) -> Iterator[Deviation]:
    """What can be done otherwise with averages that are made before the step that uses them."""
    if not hasattr(rule, "divided"):
        return
    for name, place in (("m", 1), ("v", 2)):
        yield Deviation(
            f"stale {name}",
            f"steps by {name} as it was before this gradient",
            f"steps by {name} with this gradient in it",
            methods=partial(_stale, name, place),
        )
    if "numerator" not in vars(rule) and "unbias_m" in _first_coefficients(rule):
        for by, word in ((0, "this"), (1, "the next")):
            yield Deviation(
                f"look ahead, m corrected as in {word} step",
                f"looks one step of momentum ahead, correcting m as in {word} step",
                "steps along m without looking ahead",
                methods=partial(_ahead, by),
            )


def _of_ratios(rule: type[Rule]) -> Iterator[Deviation]:
    """What can be done otherwise with a trust ratio."""
    yield Deviation(
        "eps in the ratio",
        "adds eps = {eps:g} to the norm in the divisor of the trust ratio",
        "divides by the norm alone in the trust ratio",
        methods=lambda cls: {"rescaled": _over_more},
    )
    if "unbias_m" in _first_coefficients(rule) and hasattr(rule, "root"):
        yield Deviation(
            "correction after the ratio",
            "corrects by 1 - beta1^t after the trust ratio, and not before it",
            "corrects m and v before the trust ratio",
            methods=_corrected_late,
        )


def _over_more(self: Any, xp: Any, direction: Any, param: Any, s: Any) -> Any:
    direction = decayed_direction(self.decay, direction, param, s)
    size = xp.clip(norm(xp, decayed_parameter(param, s)), *s.scale_clip)
    length = norm(xp, direction)
    return trust_ratio(xp, size, length + s.eps) * direction


def _corrected_late(cls: Any) -> dict[str, Any]:
    def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found = cls.coefficients(self, xp, t)
        return {**found, "rate": found["rate"] * found["unbias_m"], "unbias_m": 1.0}

    return {
        "coefficients": coefficients,
        "root": lambda self, xp, gathered=1.0: cls.root(self, xp, 1.0),
    }


def _stale(name: str, place: int, cls: Any) -> dict[str, Any]:
    def divided(self: Any, xp: Any, *arrays: Any) -> Any:
        given = [*arrays]
        given[place] = getattr(arrays[3], name)
        direction, slots = cls.divided(self, xp, *given)
        return direction, {**slots, name: arrays[place]}

    return {"divided": divided}


def _ahead(by: int, cls: Any) -> dict[str, Any]:
    def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found = cls.coefficients(self, xp, t)
        later = cls.coefficients(self, xp, t + by)["unbias_m"]
        beta, rest = found["beta1"]
        return {**found, "of_m": beta * later, "of_grad": rest * found["unbias_m"]}

    def numerator(self: Any, grad: Any, m: Any, s: Any) -> Any:
        return s.of_grad * grad + s.of_m * m

    return {"coefficients": coefficients, "numerator": numerator}


def _first_coefficients(rule: type[Rule]) -> dict[str, Any]:
    typical = {
        name: field.typical
        for name, field in rule.fields().items()
        if isinstance(field, Hyper) and field.typical is not None
    }
    with numpy.errstate(all="ignore"):
        return rule(**typical).coefficients(numpy, 3)


def _is_pair(value: Any) -> bool:
    """Whether a coefficient is the weights of an average."""
    numbers = isinstance(value, tuple) and len(value) == 2
    return numbers and all(isinstance(v, float) for v in value) and abs(sum(value) - 1) < 1e-12


def _other_weights(rule: type[Rule], name: str) -> Iterator[Deviation]:
    called = {"weights": "its average"}.get(name, f"the average with {name}")
    yield Deviation(
        f"{name} weights swapped",
        f"gives the old value in {called} the weight 1 - b and the new one b",
        f"gives the old value in {called} the weight b and the new one 1 - b",
        methods=_coefficients(lambda rule, s: {**s, name: s[name][::-1]}),
    )
    yield Deviation(
        f"{name} sum",
        f"keeps a decaying sum in {called}, adding the new value whole",
        f"weights the new value in {called} by 1 - b",
        methods=_coefficients(lambda rule, s: {**s, name: (s[name][0], 1.0)}),
    )


def _in_float32(self: Any, xp: Any, beta: Any, t: Any) -> Any:
    if not self.bias_correction:
        return 1.0
    single = numpy.float32
    return float(single(1) - single(beta) ** single(t))


def _of_float32(self: Any, xp: Any, beta: Any, t: Any) -> Any:
    return 1 - float(numpy.float32(beta)) ** t if self.bias_correction else 1.0


class _Least:
    """A number that is not added to an array: it bounds it from below."""

    __array_ufunc__ = None

    def __init__(self, value: float) -> None:
        self.value = value

    def __radd__(self, other: Any) -> Any:
        return numpy.maximum(other, self.value)


def _bounded(rule: Rule, s: dict[str, Any]) -> dict[str, Any]:
    root = s.get("root")
    if isinstance(root, dict):
        return {**s, "root": {**root, "beside": _Least(root["beside"])}} if "beside" in root else s
    return {**s, "eps": _Least(s["eps"])}


def _of_steps(rule: type[Rule]) -> Iterator[Deviation]:
    if not rule.decays_inside and rule.step is Rule.step:
        yield Deviation(
            "decay after the step",
            "decays the parameter after the step",
            "decays the parameter before the step",
            methods=lambda cls: {"descended": _decayed_last},
        )
    yield Deviation(
        "gradients one step late",
        "steps along the gradient of the step before",
        "steps along the gradient that it is given",
        late=1,
    )


def _decayed_last(self: Rule, param: Any, direction: Any, s: Any) -> Any:
    new = param - s.rate * direction
    keep = getattr(s, "keep", 1.0)
    return (keep if self.decay in ("decoupled", "absolute") else 1.0) * new
