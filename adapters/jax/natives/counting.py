"""How many steps have been taken, as the parts of a state of optax count them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from samestep.arrays import is_array, known
from samestep.checkpoints.state import CheckpointError

from .nodes import Node, States, like
from .places import Own
from .tables import COUNTS

__all__ = ["counts", "period", "recounted", "since_sync"]


def counts(states: States, owned: list[Own], given: int | None) -> list[int]:
    """How many steps each parameter has taken, in calls.

    Raises:
        CheckpointError: no part counts the steps and no count is given, or the counts differ.
    """
    counted = [dict(pair for node in own.nodes for pair in _counted(node)) for own in owned]
    everywhere = {place: count for mine in counted for place, count in mine.items()}
    schedules = dict(pair for node in states.nodes for pair in _scheduled(node))
    fallback = everywhere or schedules or _outer(states)
    return [
        _count(states, own, mine or fallback, schedules, given)
        for own, mine in zip(owned, counted, strict=True)
    ]


def _count(
    states: States,
    own: Own,
    inside: Mapping[str, int],
    schedules: Mapping[str, int],
    given: int | None,
) -> int:
    every = period([own])
    mini = _mini(states, every)
    if not inside and given is None:
        raise CheckpointError(
            f"no part of the state counts the steps of {own.rule!r}; give them: "
            "samestep.jax.from_optax(rule, params, state, step=...) makes the checkpoint"
        )
    skipped = _skipped(states)
    count = _total(inside, own, mini, skipped, given)
    if schedules and _inside(own, count, skipped) not in schedules.values():
        raise CheckpointError(
            f"a schedule has counted other steps than {own.rule!r}: "
            f"{_said(schedules)}, and {_said(inside)}"
        )
    _refuse_other_sync(states, own, count, skipped)
    return count


def _total(inside: Mapping[str, int], own: Own, mini: int, skipped: int, given: int | None) -> int:
    """The number of calls, from the count inside the wrappers."""
    values = {*inside.values()}
    if len(values) > 1:
        raise CheckpointError(f"steps are counted differently: {_said(inside)}")
    total = given
    if values:
        total = values.pop()
        for wrapper in reversed(own.wrappers):
            if wrapper.name == "Accumulate":
                total = total * int(wrapper.every) + mini
            total += skipped if wrapper.withheld else 0
    if total is None or given not in (None, total):
        raise CheckpointError(
            f"step={given!r} is given for {own.path!r}, and the state has counted {total}: "
            f"{_said(inside)}"
        )
    return total


def _said(places: Mapping[str, int]) -> str:
    return ", ".join(f"{place} is {count}" for place, count in places.items())


def _whole(value: Any, what: str) -> int:
    count = known(value)
    if is_array(count):
        raise TypeError(f"{what} is traced; a checkpoint is made outside of jit")
    return int(count)


def _names(node: Node) -> list[str]:
    """The fields of a part that count steps."""
    names = ("step",) if node.ours else (*COUNTS,)
    return [name for name in names if name in (node.fields or ())]


def _counted(node: Node) -> Iterator[tuple[str, int]]:
    """The steps that a part of a state has counted."""
    for name in _names(node):
        place = f"{node.place}.{name}"
        yield place, _whole(getattr(node.value, name), place) - COUNTS.get(name, 0)


def _scheduled(node: Node) -> Iterator[tuple[str, int]]:
    """The steps that schedules have counted."""
    if node.kind == "ScaleByScheduleState":
        yield from _counted(node)
    for name, own in getattr(node.value, "hyperparams_states", {}).items():
        if hasattr(own, "count"):
            place = f"{node.place}.hyperparams_states[{name!r}].count"
            yield place, _whole(own.count, place)


def _outer(states: States) -> dict[str, int]:
    """Counts outside of rules: of ``inject_hyperparams``, and of accumulated steps."""
    injected = states.of_kinds("InjectHyperparamsState", "InjectStatefulHyperparamsState")
    steps = states.of_kinds("MultiStepsState")
    inside = [node for node in injected if not steps or steps[0] in node.above]
    places = [(f"{node.place}.count", node.value.count) for node in inside]
    places += [(f"{node.place}.gradient_step", node.value.gradient_step) for node in steps]
    return {place: _whole(value, place) for place, value in places}


def period(owned: list[Own]) -> int:
    """Over how many calls optax accumulates gradients for these parameters.

    Raises:
        CheckpointError: over different numbers.
    """
    found = {
        int(wrapper.every)
        for own in owned
        for wrapper in own.wrappers
        if wrapper.name == "Accumulate"
    }
    if len(found) > 1:
        raise CheckpointError(f"Accumulate has every={', '.join(map(str, sorted(found)))}")
    return found.pop() if found else 1


def _mini(states: States, every: int) -> int:
    """The calls since accumulated gradients became a step."""
    for node in states.of_kinds("MultiStepsState"):
        mini = _whole(node.value.mini_step, f"{node.place}.mini_step")
        if mini >= every:
            raise CheckpointError(
                f"{node.place}.mini_step is {mini}; with Accumulate(every={every}) it must be less"
            )
        return mini
    return 0


def _skipped(states: States) -> int:
    """The calls that ``apply_if_finite`` has skipped."""
    found = states.of_kinds("ApplyIfFiniteState")
    return sum(_whole(node.value.total_notfinite, node.place) for node in found)


def _inside(own: Own, count: int, skipped: int, until: str | None = None) -> int:
    """The steps inside the wrappers, or of one of them, after a number of calls."""
    for wrapper in own.wrappers:
        if wrapper.name == until:
            break
        count = wrapper.steps_inside(count) - (skipped if wrapper.withheld else 0)
    return count


def since_sync(own: Own, count: int, skipped: int) -> int | None:
    """The steps since slow weights followed, if the rule has some."""
    for wrapper in own.wrappers:
        if wrapper.name == "Lookahead":
            return _inside(own, count, skipped, "Lookahead") % int(known(wrapper.sync_period))
    return None


def _refuse_other_sync(states: States, own: Own, count: int, skipped: int) -> None:
    wanted = since_sync(own, count, skipped)
    for node in states.of_kinds("LookaheadState"):
        there = _whole(node.value.steps_since_sync, node.place)
        if there != wanted:
            raise CheckpointError(
                f"{node.place}.steps_since_sync is {there}; after {count} steps of {own.rule!r} it "
                f"must be {wanted}"
            )


def recounted(node: Node, calls: int, every: int, skipped: int) -> dict[str, Any]:
    """The counts of a part after a number of calls, of which some were skipped."""
    step = calls
    for above in node.above:
        step = step // every if above.kind == "MultiStepsState" else step
        step -= skipped if above.kind == "ApplyIfFiniteState" else 0
    if node.kind == "MultiStepsState":
        new = {"mini_step": step % every, "gradient_step": step // every}
    else:
        new = {name: step + COUNTS.get(name, 0) for name in _names(node)}
    changed: dict[str, Any] = {n: like(count, getattr(node.value, n)) for n, count in new.items()}
    if scheduled := getattr(node.value, "hyperparams_states", None):
        changed["hyperparams_states"] = {
            name: own._replace(count=like(step, own.count)) if hasattr(own, "count") else own
            for name, own in scheduled.items()
        }
    return changed
