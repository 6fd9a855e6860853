"""A step of arrays on several devices: what all parameters share is copied to each device once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import array_api_compat

from .arrays import is_array, map_parts, parts
from .counts import Counts, counts_of

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["Spread", "device_of", "spread_in", "spread_of"]

Array = Any


class Spread:
    """The devices of one step, and the 0-d arrays that have been copied to them.

    Args:
        xp: array namespace.
        where: the device of an array.
        home: the device on which sums meet, and on which new shared state is.
    """

    def __init__(self, xp: Any, where: Callable[[Array], Any], home: Any) -> None:
        self.xp, self.where, self.home = xp, where, home
        self._copies: dict[Any, tuple[Array, Array]] = {}

    def on(self, place: Any, arrays: Iterable[Any]) -> list[Any]:
        """Arrays on a device; of one dtype and device they go there together, and once.

        What is on no certain device, such as a number of Python, stays as it is.
        """
        arrays, alike = [*arrays], dict[Any, dict[int, Array]]()
        for array in arrays if place is not None else ():
            if hasattr(array, "dtype") and (id(array), place) not in self._copies:
                source = self.where(array)
                if source not in (None, place):
                    kind = source, array.dtype, tuple(array.shape)
                    alike.setdefault(kind, {})[id(array)] = array
        for together in alike.values():
            self._copy(place, [*together.values()])
        return [self._copies.get((id(array), place), (array, array))[1] for array in arrays]

    def _copy(self, place: Any, arrays: list[Array]) -> None:
        stack = arrays[0] if len(arrays) == 1 else self.xp.stack(arrays)
        copied = array_api_compat.to_device(stack, place)
        copies = [copied] if len(arrays) == 1 else [copied[at] for at in range(len(arrays))]
        for array, copy in zip(arrays, copies, strict=True):
            self._copies[id(array), place] = array, copy  # the array keeps its id

    def shared(self, place: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Shared state and totals on a device."""
        there = iter(self.on(place, (part for value in values.values() for part in parts(value))))
        return {name: map_parts(lambda _: next(there), value) for name, value in values.items()}

    def together(self, place: Any, sums: list[dict[str, Array]]) -> list[dict[str, Array]]:
        """The terms of several parameters on a device."""
        there = iter(self.on(place, (value for terms in sums for value in terms.values())))
        return [{name: next(there) for name in terms} for terms in sums]

    def given(self, place: Any, rule: Any, step: Any, common: Mapping[str, Any]) -> Any:
        """A rule, a count and a shared state, from which coefficients are computed on a device."""
        if rule.has_arrays:
            rule = rule.map_numbers(lambda number: self.on(place, [number])[0])
        return rule, self._counts(place, step), self.shared(place, common)

    def counts(self, place: Any, steps: Sequence[Any]) -> list[Any]:
        """The counts of entries on a device; the same object for the same counts."""
        counts = [*map(counts_of, steps)]
        self.on(place, [n for one in counts for n in (*one[:2], *dict(one.missed).values())])
        return [self._counts(place, step) for step in steps]

    def _counts(self, place: Any, step: Any) -> Any:
        if not isinstance(step, Counts):
            return self.on(place, [step])[0]
        if (id(step), place) not in self._copies:
            calls, updates, *missed = self.on(place, [*step[:2], *dict(step.missed).values()])
            there = Counts(calls, updates, tuple(zip(dict(step.missed), missed, strict=True)))
            self._copies[id(step), place] = step, there
        return self._copies[id(step), place][1]


def device_of(array: Array) -> Any:
    """The device of an array of any library; ``None`` where it may be on any.

    An array that JAX has spread over several devices is everywhere on these.
    """
    if not (hasattr(array, "device") and getattr(array, "committed", True)):
        return None
    place = array_api_compat.device(array)
    return type(place)(place.mesh, type(place.spec)()) if hasattr(place, "mesh") else place


def spread_of(
    xp: Any,
    params: Iterable[Array],
    common: Mapping[str, Any] | None = None,
    where: Callable[[Array], Any] = device_of,
    rules: Iterable[Rule] = (),
) -> Spread | None:
    """The devices of some parameters, if there are several, or if a number is on another one.

    Sums meet where the shared state ``common`` is, if that is one of them, else on the first.
    """
    places = dict.fromkeys(place for param in params if (place := where(param)) is not None)
    numbers = (number for rule in rules if rule.has_arrays for number in rule.numbers())
    others = {where(number) for number in numbers if is_array(number)} - {None}
    if len(others.union(places)) < 2 or not places:
        return None
    shared = [where(part) for value in (common or {}).values() for part in parts(value)]
    return Spread(xp, where, next(place for place in (*shared, *places) if place in places))


def spread_in(
    rule: Rule, xp: Any, entries: Sequence[Any], common: Mapping[str, Any]
) -> Spread | None:
    """``spread_of`` the entries of a step, if anything comes to each device."""
    shares = rule.phases or rule.has_arrays or any(is_array(entry.step) for entry in entries[:1])
    params = [entry.param for entry in entries]
    return spread_of(xp, params, common, rules=[rule]) if shares else None
