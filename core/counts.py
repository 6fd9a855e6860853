"""How often a parameter has been stepped: the calls of the optimizer, and its own updates.

A parameter without a gradient misses a call. While none has, nothing is kept. Parameters that have
missed the same calls share a count of them, in the shared state, under a key such as
``"step missed by 0-2,7 of 5e6f8a10"``: the name of a count, the places of the parameters in the
order of their paths, and a checksum of all paths. So their coefficients are computed once, and
other parameters do not take over a count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy

from .arrays import dtype_name, is_array, known, listed
from .notice import warn

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "MISSED",
    "MOST",
    "PLACES",
    "Counts",
    "Form",
    "Histories",
    "advanced",
    "counts_of",
    "furthest",
    "key_of",
    "placed",
    "refuse_count",
    "refuse_more",
    "split",
    "warn_apart",
    "withheld",
]

MISSED = " missed by "
MOST = 2**31 - 1
"""The largest number in int32; up to it, the next count is one more in every dtype."""
WIDE = ("int32", "int64", "uint32", "uint64")
"""The dtypes of counts."""
MANY = 1 << 20
"""A number of calls that has another number of steps where a rule steps in some calls only."""
OF = " of "
PLACES = r"\d+(-\d+)?(,\d+(-\d+)?)*"
"""How a key names parameters by their places."""


class Counts(NamedTuple):
    """The counts of a parameter: whole numbers, or 0-d integer arrays when traced.

    ``calls``: the calls of the optimizer, which schedules count. ``updates``: the calls in which
    the parameter had a gradient; bias corrections, starts and periods count them. ``missed``: of
    the calls in which a wrapper let no step be taken, by the name of the shared array that counts
    them, how many the parameter had missed anyway.
    """

    calls: Any
    updates: Any
    missed: tuple[tuple[str, Any], ...] = ()


def counts_of(step: Any) -> Counts:
    """The counts of an entry; a plain number or array is the number of calls and of updates."""
    return step if isinstance(step, Counts) else Counts(step, step)


def key_of(step: Any) -> Any:
    """A key that is equal for equal counts; for traced counts, for the same objects."""
    if isinstance(step, int):
        return step
    host = isinstance(step, Counts) and all(
        isinstance(count, int) for count in (*step[:2], *dict(step.missed).values())
    )
    return step if host else id(step)


def furthest(xp: Any, counts: Iterable[Counts]) -> Counts:
    """The counts with the most steps of the rule inside: updates, less those that were withheld."""
    most, *others = counts
    for own in others:
        one, other = dict(most.missed), dict(own.missed)
        later = own.updates + sum(other.values()) > most.updates + sum(one.values())
        if isinstance(later, bool):
            most = own if later else most
            continue
        pairs = {name: (other.get(name, 0), one.get(name, 0)) for name in (*one, *other)}
        missed = tuple((name, _either(xp, later, *pair)) for name, pair in pairs.items())
        most = Counts(most.calls, _either(xp, later, own.updates, most.updates), missed)
    return most


def _either(xp: Any, condition: Any, count: Any, other: Any) -> Any:
    """``where`` of two counts, which may both be numbers."""
    if isinstance(count, int) and isinstance(other, int):
        return xp.astype(condition, xp.int32) * (count - other) + other
    return xp.where(condition, count, other)


def advanced(count: Any) -> Any:
    """The next count; an array stays at the largest number of its dtype.

    One in 64 bits never gets there. The shift gives -1 below that number, and 0 there; it keeps
    JAX's weak types, and needs no promotion.
    """
    if isinstance(count, int) or "64" in dtype_name(count.dtype):
        return count + 1
    limits = numpy.iinfo(dtype_name(count.dtype))
    if limits.min == 0:  # a dtype without a sign
        return count + (~count != 0)
    return count - ((count - limits.max) >> (limits.bits - 1))


def refuse_count(rule: Rule, count: Any, name: str = "step") -> None:
    """Raise if an entry of a state is no count, or one that soon ends, of 8 or 16 bits."""
    if type(count) is int and count >= 0:
        return
    wide = dtype_name(getattr(count, "dtype", "int64")) in WIDE
    number = known(count)
    whole = is_array(number) or (isinstance(number, int) and number >= 0)
    if not (wide and whole) or isinstance(number, bool):
        raise ValueError(
            f"{rule.name}: the state's {name} is {_shown(count)}; it must be a whole number >= 0, "
            "or a 0-d array of one in 32 or 64 bits"
        )


def _shown(count: Any) -> str:
    """The count; an array that is traced has no value to show."""
    shape, dtype = getattr(count, "shape", None), getattr(count, "dtype", None)
    if shape is None or known(count) is not count:
        return repr(count)
    return f"an array of shape {tuple(shape)} and {dtype}"


def refuse_more(rule: Rule, name: str, count: Any, calls: Any) -> None:
    """Raise if an entry of the shared state, if it can be read, counts more than all calls."""
    number, calls = known(count), known(calls)
    if isinstance(number, (int, float)) and isinstance(calls, int) and number > calls:
        raise ValueError(
            f"{rule.name}: the shared state counts {number:g} calls ({name}), and the state's step "
            f"is {calls}; take both from one state. Where the step is set anew, remove the counts "
            "of missed calls from the shared state, and set those of skipped steps to 0"
        )


def withheld(
    xp: Any, rule: Rule, common: Mapping[str, Any], like: Any, most: Any = None
) -> dict[str, Any]:
    """The calls that each wrapper in a rule has withheld: whole numbers where they can be read.

    Args:
        xp: array namespace.
        rule: the rule.
        common: the shared state, in which they are counted.
        like: a count; where it is traced, the result has its dtype.
        most: all calls; more than these are refused.
    """
    found = {}
    for name in rule.withholds:
        value = common.get(name, 0)  # a state without parameters has none
        refuse_more(rule, name, value, most)
        value = known(value) if isinstance(like, int) else value
        host = isinstance(value, (int, float))
        dtype = getattr(like, "dtype", xp.int32)
        found[name] = int(value) if host else xp.astype(value, dtype)
    return found


@cache
def warn_apart(rule: Rule) -> None:
    """Warn, once for a rule, where skipped steps are counted for parameters that step apart."""
    inside = [one for one in rule.inside if one.withholds]
    if inside and rule.steps_inside(MANY) != MANY:
        names = rule.name, inside[0].name
        warn(
            "{0}({1}(...)): parameters have missed different gradients, so their steps come in "
            "different calls, and {1} counts a skipped step for all of them, whichever takes its "
            "own in that call; {1}({0}(...)) counts for each".format(*names)
        )
    for one in inside:
        warn_apart(one)


def standing(rule: Rule, common: Mapping[str, Any]) -> Rule:
    """The rule after the steps that are withheld in a shared state, whose values are known."""
    counts = {name: int(known(common.get(name, 0))) for name in rule.withholds}
    return rule.withholding(counts) if counts else rule


def split(shared: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The shared state of the rule, and the counts of missed calls by their keys."""
    missed = {key: count for key, count in shared.items() if MISSED in key}
    return {name: value for name, value in shared.items() if name not in missed}, missed


class Form(NamedTuple):
    """How a key names parameters, and which it names."""

    written: Callable[[Iterable[Any]], str]
    read: Callable[[str], Iterable[Any]]


def _runs(members: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for place in sorted(members):
        if runs and runs[-1][-1] == place - 1:
            runs[-1] = [runs[-1][0], place]
        else:
            runs.append([place])
    return ",".join("-".join(map(str, run)) for run in runs)


def _places(text: str, among: int) -> list[int] | None:
    """The places in a text, or ``None`` if it has others than those of so many parameters."""
    if not re.fullmatch(PLACES, text):
        return None
    ends = [
        (int(low), int(high or low))
        for low, _, high in (run.partition("-") for run in text.split(","))
    ]
    if not all(low <= high < among for low, high in ends):
        return None
    return [at for low, high in ends for at in range(low, high + 1)]


def placed(rule: Rule, paths: Iterable[str]) -> Form:
    """Places among all parameters of a tree: ``0-2,7 of 5e6f8a10``.

    Args:
        rule: the rule, for messages.
        paths: the paths of all parameters, in their order. A key without a checksum, which an
            earlier version wrote, is read as well.
    """
    paths = [*paths]
    own = f"{crc32(chr(10).join(paths).encode()):08x}"

    def read(text: str) -> list[int]:
        places, _, of = text.partition(OF)
        found = _places(places, len(paths)) if of in ("", own) else []
        if found is None:
            raise ValueError(
                f"{rule.name}: the state counts calls that were missed by {text!r}; these must be "
                f"places of parameters, of which there are {len(paths)}, such as 0-2,7"
            )
        if found:
            return found
        raise ValueError(
            f"{rule.name}: the state counts calls that parameters have missed "
            f"({MISSED.strip()} {text}) in a tree of other parameters: some have come, gone or got "
            "another name. Give the parameters of that state, or make a new state with init(); "
            "without this key in state.shared, its parameters have missed nothing"
        )

    return Form(lambda members: f"{_runs(members)}{OF}{own}", read)


def recorded(
    names: Sequence[str], counts: Mapping[Any, Sequence[int]], form: Form
) -> dict[str, int]:
    """The counts of missed calls by their keys.

    Args:
        names: the names of the counts; ``step`` is the first.
        counts: of each parameter, how many it has missed of each.
        form: how a key names parameters.
    """
    alike: dict[tuple[int, ...], list[Any]] = {}
    for member, own in counts.items():
        if any(own):
            alike.setdefault(tuple(own), []).append(member)
    return {
        f"{name}{MISSED}{form.written(members)}": count
        for own, members in alike.items()
        for name, count in zip(names, own, strict=True)
    }


class Histories:
    """The parameters by the calls that they have missed, before a call and after it.

    Args:
        rule: the rule. The calls are counted, and the calls that ``rule.withholds`` names.
        members: all parameters, in the form that keys name them in.
        absent: the parameters without a gradient in this call.
        keys: the keys of the counts before the call.
        form: how a key names parameters.
    """

    def __init__(
        self,
        rule: Rule,
        members: Sequence[Any],
        absent: Iterable[Any],
        keys: Iterable[str],
        form: Form,
    ) -> None:
        self.rule, self.names = rule, ("step", *rule.withholds)
        parted = [key.partition(MISSED) for key in keys]
        others = {name for name, _, _ in parted} - {*self.names}
        if others:
            raise ValueError(
                f"{rule.name}: the state has counts of missed calls of {listed(others)}; "
                f"{rule.name} counts {listed(self.names)}"
            )
        texts = {text for _, _, text in parted}
        pairs = [(member, text) for text in sorted(texts) for member in form.read(text)]
        self.of = dict(pairs)
        """The key's text of every parameter that had missed a call before."""
        if len(self.of) < len(pairs):
            raise ValueError(
                f"{rule.name}: the state counts the calls that one parameter has missed under "
                f"several keys: {listed(texts)}"
            )
        absent, parts = {*absent}, dict[tuple[str, bool], list[Any]]()
        for member in members:
            part = self.of.get(member, ""), member in absent
            if part != ("", False):
                parts.setdefault(part, []).append(member)
        self.after = [(form.written(own), *part) for part, own in parts.items()]
        """Of every later history: its text, that of the history before, and whether it misses."""
        now = {self.of.get(member, "") for member in members if member not in absent}
        self.apart = len(now) > 1
        """Whether parameters with a gradient have missed different calls."""
        self.grows = texts != {text for text, _, _ in self.after}
        """Whether there are other histories after the call."""

    def steps(self, xp: Any, calls: Any, missed: Mapping[str, Any]) -> Callable[[Any], Any]:
        """A function from a parameter to the counts of its entry, before the call.

        Args:
            xp: array namespace, which numbers do not need.
            calls: the calls before it.
            missed: the counts of missed calls by their keys, numbers or arrays.

        Raises:
            ValueError: a count is none, or is larger than ``calls``.
        """
        host, found = isinstance(calls, int), {}
        for text in {*self.of.values()}:
            own = []
            for name in self.names:
                key = f"{name}{MISSED}{text}"
                count = missed.get(key, 0)
                refuse_count(self.rule, count, key)
                refuse_more(self.rule, key, count, calls)
                own.append(known(count) if host else count)
            updates = calls - own[0]
            if not host:  # where they cannot be read, they may be those of another state
                updates = xp.where(updates > 0, updates, xp.zeros_like(updates))
            found[text] = Counts(calls, updates, tuple(zip(self.names[1:], own[1:], strict=True)))
        return lambda member: found.get(self.of.get(member, ""), calls)

    def later(
        self,
        xp: Any,
        missed: Mapping[str, Any],
        calls: tuple[Any, Any],
        shared: tuple[Mapping[str, Any], Mapping[str, Any]],
        count: Callable[[Any], Any] = lambda count: count,
    ) -> dict[str, Any]:
        """The counts of missed calls after the call.

        Args:
            xp: array namespace.
            missed: the counts of missed calls before it, by their keys.
            calls: the calls before and after it.
            shared: the shared state of the rule before and after it.
            count: makes a count of a number; numbers stay numbers by default.
        """
        if self.apart:
            warn_apart(self.rule)
        more = {"step": calls[1] - calls[0]}
        if shared[0] is not shared[1]:
            old, new = (withheld(xp, self.rule, values, calls[0]) for values in shared)
            more |= {name: new[name] - old[name] for name in new}
        found = {}
        for text, before, misses in self.after:
            for name in self.names:
                old_count = missed.get(f"{name}{MISSED}{before}", 0)
                grown = old_count + more.get(name, 0) if misses else old_count
                found[f"{name}{MISSED}{text}"] = count(grown)
        return found
