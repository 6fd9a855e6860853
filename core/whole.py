"""A rule on a whole tree of arrays: the first state, and one step of all parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import array_api_compat
import numpy

from . import step as stepping
from . import tree
from .arrays import is_array, known, library_of, listed, map_parts, traced, without_autocast
from .checks import check_shared
from .counts import Histories, advanced, placed, refuse_count, split
from .kept import rule_of
from .matching import warn_unmatched
from .products import float32_products, multiplies
from .proof import prove
from .spread import spread_in

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["State", "init", "update"]


class State(NamedTuple):
    """The state of a tree of parameters.

    ``step``: the number of calls of ``update``. ``slots``: a tree shaped like the parameters, per
    slot. ``shared``: 0-d arrays for all parameters together, and where parameters have missed a
    gradient, the counts of the calls that they have missed (``samestep.counts``).
    """

    step: Any
    slots: dict[str, Any]
    shared: dict[str, Any]

    @property
    def steps_taken(self) -> int:
        """Steps taken so far; every optimizer of samestep has this property.

        Raises:
            TypeError: the step is traced, so its value is unknown.
        """
        count = known(self.step)
        if is_array(count):
            raise TypeError("the step is traced; steps_taken is known outside of jit only")
        return int(count)


def init(rule: Rule, params: Any) -> State:
    """The state of ``Rule.init``."""
    prove(rule)
    arrays = dict(tree.leaves(params))
    if not arrays:
        return State(0, dict.fromkeys(rule.slots(), params), {})
    xp = _namespace(rule, (_Found(array, path) for path, array in arrays.items()))
    own = {path: rule_of(rule, tree.dotted(path), array) for path, array in arrays.items()}
    for path, array in arrays.items():
        stepping.check(own[path], xp, tree.dotted(path), array)
    warn_unmatched(rule, [(tree.dotted(path), array.shape) for path, array in arrays.items()])
    first = {path: stepping.init_slots(own[path], xp, array) for path, array in arrays.items()}

    def first_slot(name: str) -> Any:
        return tree.rebuild(params, lambda path, _: first[path].get(name))

    slots = {name: first_slot(name) for name in rule.slots()}
    return State(0, slots, stepping.init_shared(rule, xp, list(arrays.values())))


def update(rule: Rule, grads: Any, params: Any, state: State) -> tuple[Any, State]:
    """The step of ``Rule.update``."""
    if not isinstance(state, State):
        raise TypeError(
            f"{rule.name}.update: state is {type(state).__name__}; "
            "it must be what init() or update() returned"
        )
    refuse_count(rule, state.step)
    stepping.check_slots(rule, "the parameters", state.slots)
    arrays = dict(tree.leaves(params))
    common, missed = split(state.shared)
    if rule.has_arrays:
        rule = _at_home(rule, {library_of(array.__class__) for array in arrays.values()})
    if arrays and (state.slots or common):
        check_shared(rule, common)
    _refuse_unknown(rule, grads, arrays)
    given = {path: grad for path in arrays if (grad := tree.subtree(grads, path)) is not None}
    histories, place = _histories(rule, arrays, given, missed)
    xp = _namespace(rule, _arrays_of(rule, given, arrays, state)) if given else None
    steps = histories.steps(xp, state.step, missed) if histories and given else None
    entries = []
    for path, grad in given.items():
        name, param = tree.dotted(path), arrays[path]
        own = rule_of(rule, name, param)
        slots = _slots_of(own, state, path)
        step = steps(place[path]) if steps else state.step
        entries.append(stepping.entry(own, xp, name, step, grad, param, slots))
    precise = float32_products(xp) if given and multiplies(rule) else nullcontext()
    with without_autocast(xp, arrays.values()), precise:
        spread = spread_in(rule, xp, entries, common)
        results, shared = (
            stepping.run(xp, entries, common, spread=spread) if given else (iter(()), common)
        )
        new = dict(zip(given, results, strict=True))
    calls = advanced(state.step)
    if histories:
        counted = state.step, calls
        shared = shared | histories.later(xp, missed, counted, (common, shared))

    def new_slot(name: str) -> Any:
        old = state.slots[name]
        return tree.rebuild(
            params,
            lambda path, _: (
                map_parts(own_memory, new[path][1].get(name))
                if path in new
                else tree.subtree(old, path)
            ),
        )

    def own_memory(value: Any) -> Any:
        """A slot; a view may lie in an argument of the caller, who may write into it."""
        views = (getattr(value, name, None) for name in ("base", "_base"))  # of NumPy, of torch
        return value if all(view is None for view in views) else stepping.copied(xp, value)

    return (
        tree.rebuild(params, lambda path, old: new[path][0] if path in new else old),
        State(calls, {name: new_slot(name) for name in rule.slots()}, shared),
    )


def _at_home(rule: Rule, libraries: set[str]) -> Rule:
    """The rule with plain numbers for those that are arrays of other libraries than parameters.

    Raises:
        TypeError: the value of such a number is not known, and it is not being traced.
    """

    def foreign(value: Any) -> bool:
        return is_array(value) and library_of(value.__class__) not in libraries

    def plain(value: Any) -> Any:
        number = known(value) if foreign(value) else value
        if foreign(number) and not traced(number.__class__):
            raise TypeError(
                f"{rule.name}: {value!r} is a number of {library_of(value.__class__)}, and "
                f"parameters are of {listed(libraries)}; give a float, or a 0-d array of these"
            )
        return number

    return rule.map_numbers(plain) if any(map(foreign, rule.numbers())) else rule


def _histories(
    rule: Rule, arrays: Mapping[Any, Any], given: Mapping[Any, Any], missed: Mapping[str, Any]
) -> tuple[Histories | None, dict[Any, int]]:
    """The parameters by the calls that they miss, if any does, and the place of each."""
    if not missed and len(given) == len(arrays):
        return None, {}
    place = {path: at for at, path in enumerate(tree.ordered(arrays))}
    absent = [at for path, at in place.items() if path not in given]
    form = placed(rule, map(tree.dotted, place))
    return Histories(rule, range(len(place)), absent, missed, form), place


def _slots_of(rule: Rule, state: State, path: tuple[Any, ...]) -> dict[str, Any]:
    everywhere = {name: tree.subtree(slot, path) for name, slot in state.slots.items()}
    found = {name: value for name, value in everywhere.items() if value is not None}
    for name in rule.slots():
        if name not in found:
            raise ValueError(
                f"{rule.name}: the state has no slot {name} for parameter "
                f"{tree.dotted(path)!r}; was it made for other parameters?"
            )
    return found


def _arrays_of(
    rule: Rule, given: Mapping[tuple[Any, ...], Any], arrays: Mapping[Any, Any], state: State
) -> Iterator[_Found]:
    """Everything that a step reads."""
    for path, grad in given.items():
        yield _Found(arrays[path], path)
        yield _Found(grad, path, "the gradient of ")
        for name in rule.slots():
            value = tree.subtree(state.slots[name], path)
            parts = value if isinstance(value, tuple) else (value,)
            found = [part for part in parts if part is not None]
            yield from (_Found(part, path, f"slot {name} of ") for part in found)


def _refuse_unknown(rule: Rule, grads: Any, arrays: Mapping[tuple[Any, ...], Any]) -> None:
    for path, grad in tree.leaves(grads):
        below = [tree.dotted(known) for known in arrays if known[: len(path)] == path]
        if path not in arrays and below:
            where = f"for {tree.dotted(path)!r} " if path else ""
            raise ValueError(
                f"{rule.name}: the gradient {where}is {type(grad).__name__}, where the parameters "
                f"are a tree: {listed(below)}"
            )
        if path not in arrays:
            raise ValueError(
                f"{rule.name}: there is a gradient for {tree.dotted(path)!r} and no such parameter"
            )


class _Found(NamedTuple):
    """An array that a rule was given, and its name in messages."""

    array: Any
    path: tuple[Any, ...]
    of: str = ""

    def __str__(self) -> str:
        parameter = f"parameter {tree.dotted(self.path)!r}" if self.path else "the parameter"
        module, kind = type(self.array).__module__.partition(".")[0], type(self.array).__name__
        kind = kind if module == "builtins" else f"{module}'s {kind}"
        return f"{self.of}{parameter} is {kind}"


def _namespace(rule: Rule, arrays: Iterable[_Found]) -> Any:
    """The library of all arrays."""
    libraries: dict[type, tuple[Any, _Found]] = {}
    for found in arrays:
        if type(found.array) in libraries:
            continue
        if isinstance(found.array, (numpy.matrix, numpy.ma.MaskedArray)):  # with other arithmetic
            raise TypeError(f"{rule.name}: {found}; give numpy.asarray(...) of it")
        try:
            xp = array_api_compat.array_namespace(found.array)
        except TypeError:
            raise TypeError(
                f"{rule.name}: {found}; it must be an array of NumPy, torch, JAX, MLX or another "
                "library that follows the Array API"
            ) from None
        for other, first in libraries.values():
            if xp is not other:
                raise TypeError(f"{rule.name}: {first}, {found}; all must be arrays of one library")
        libraries[type(found.array)] = xp, found
    return next(iter(libraries.values()))[0]
