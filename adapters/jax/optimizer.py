"""A rule as an ``optax.GradientTransformationExtraArgs``."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from functools import partial
from typing import Any

import optax  # type: ignore[import-untyped]  # ships no types

import jax
from samestep import packing
from samestep import step as stepping
from samestep.arrays import known
from samestep.checkpoints.state import Checkpoint
from samestep.counts import MOST, advanced, refuse_count, split
from samestep.execution import Execution, checked, say
from samestep.kept import rule_of
from samestep.matching import warn_unmatched
from samestep.placement import Placement
from samestep.products import float32_products, multiplies
from samestep.rule import Rule, State
from samestep.spread import spread_in

from . import checkpoint as checkpoints
from .kernels import hoisted, kernels
from .matrices import finished
from .missing import warn_in_loop
from .namespace import xp
from .plan import Plan, planned
from .shards import Shards, exchange, mapped, typed
from .trees import as_complex, by_place, dotted, flattened, in_variables, real_pair, strong

__all__ = ["RuleTransformation", "bind"]


class RuleTransformation(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """A rule as an optax transformation, the pair ``(init, update)``; see ``bind``."""

    @property
    def rule(self) -> Rule:
        """The rule that ``update`` carries out."""
        rule: Rule = self.update.rule
        return rule

    def specs(self, params: Any) -> State:
        """The ``jax.P`` of every part of the state, for ``in_specs`` and ``out_specs``.

        Args:
            params: the parameters, whole, or their shapes (``jax.eval_shape``).

        Raises:
            ValueError: ``axis_name`` is not the ``in_specs`` of the parameters.
        """
        found: State = self.update.specs(params)
        return found

    def __repr__(self) -> str:
        return f"samestep.jax.bind({self.rule.full_repr})"

    def table(self, params: Any) -> str:
        """The table of ``Rule.table`` for any tree of JAX, such as a module of Equinox."""
        return self.rule.table(
            [
                (dotted(path), leaf if hasattr(leaf, "shape") else strong(self.rule, path, leaf))
                for path, leaf in flattened(params)[0]
            ]
        )

    def checkpoint(self, params: Any = None, state: State | None = None) -> Checkpoint:
        """Parameters and state as a checkpoint, without copies.

        ``samestep.checkpoint`` makes a checkpoint that later steps do not change.

        Raises:
            TypeError: parameters or state are missing; a transformation holds neither.
        """
        if state is None:
            raise TypeError(
                f"{self.rule.name}: give the parameters and the state; a transformation of optax "
                "holds neither"
            )
        return checkpoints.taken(self.rule, params, state)

    def restore(self, checkpoint: Checkpoint, params: Any = None) -> tuple[Any, State]:
        """Parameters and state from a checkpoint; see ``samestep.restore``.

        Raises:
            TypeError: the parameters are missing; they have the structure of the state.
        """
        if params is None:
            raise TypeError(
                f"{self.rule.name}: give the parameters, for the structure of the state"
            )
        return checkpoints.restored(self.rule, checkpoint, params)

    _processes = staticmethod(checkpoints.processes)


def bind(rule: Rule, *, execution: Execution = "auto", axis_name: Any = None) -> RuleTransformation:
    """Any rule object, also a user's or a wrapped rule, as an optax transformation.

    Args:
        rule: the rule.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            parameters, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under
            ``jax.jit``, ``"auto"`` is ``"reference"``, because XLA compiles the whole step.
            Elsewhere it is ``"packed"``, unless a parameter is spread over devices. The choice is
            logged once.
        axis_name: how parameters are sharded inside ``jax.shard_map``, where a rule is given the
            piece of one device: their ``in_specs`` (a ``jax.P``, or a tree of these), or the names
            of the axes of the mesh, which is enough for rules that only sum over whole parameters.
            Outside of ``shard_map`` it says nothing.

    Raises:
        TypeError, ValueError: ``rule`` is not a rule; the execution is unknown.
    """
    checked(rule, execution)
    traced = rule.has_arrays and any(isinstance(n, jax.core.Tracer) for n in rule.numbers())
    shards = Shards(axis_name)
    step = _in_jit if execution == "compiled" and not traced else _update
    step = partial(_precisely, step) if multiplies(rule) else step
    update = partial(step, rule, execution, shards, _Memory())
    update.rule = rule  # type: ignore[attr-defined]
    update.specs = partial(shards.of_state, rule)  # type: ignore[attr-defined]
    return RuleTransformation(partial(_init, rule, shards), update)


def _init(rule: Rule, shards: Shards, params: Any) -> State:
    paths, structure = flattened(params)
    arrays: list[Any] = [
        leaf if isinstance(leaf, jax.ShapeDtypeStruct) else strong(rule, path, leaf)
        for path, leaf in paths
    ]
    specs = shards.specs(params)
    wholes = [*map(shards.whole, arrays, specs)]
    own = [
        rule_of(rule, dotted(path), array) for (path, _), array in zip(paths, wholes, strict=True)
    ]
    shapes = [array.shape for array in wholes]
    for place, (chosen, (path, _)) in enumerate(zip(own, paths, strict=True)):
        arrays[place], _ = real_pair(chosen, dotted(path), arrays[place])
        stepping.check(chosen, xp, dotted(path), arrays[place])
    warn_unmatched(rule, zip([dotted(path) for path, _ in paths], shapes, strict=True))
    first = [
        _first(chosen, path, array, shards.placement(chosen, dotted(path), array, spec))
        for chosen, (path, _), array, spec in zip(own, paths, arrays, specs, strict=True)
    ]
    form = by_place if in_variables(params) else lambda value: value
    slots = {n: structure.unflatten([form(s.get(n)) for s in first]) for n in rule.slots()}
    if mapped() or not arrays:  # shared state is the same on every device of a shard_map
        arrays = [xp.zeros((), array.dtype) for array in arrays] or [xp.zeros((), xp.float32)]
    common = stepping.init_shared(rule, xp, arrays)
    return State(xp.zeros((), xp.int32), slots, common)


def _first(rule: Rule, path: Any, param: Any, placement: Placement | None) -> dict[str, Any]:
    """The first slots of a parameter; its values may be unknown, as a ShapeDtypeStruct's are."""
    try:
        slots = stepping.init_slots(rule, xp, param, placement, exchange)
    except TypeError:
        if not isinstance(param, jax.ShapeDtypeStruct):
            raise
        raise TypeError(
            f"{rule.name}: parameter {dotted(path)!r} is ShapeDtypeStruct, and the state starts "
            "from its values; use jax.eval_shape(optimizer.init, params)"
        ) from None
    if placement is not None:
        return {name: typed(slots[name], placement.slot(rule, name)) for name in slots}
    return slots


UNKNOWN: tuple[Any, int] = (object, 0)
"""In place of a count that is not noted."""


class _Memory:
    """The plan of a transformation's last step; no result depends on it, and a copy has none."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.said: set[str] = set()
        self.counts: dict[int, tuple[Any, int]] = {}
        """The counts in the last state, by id, and their values: none is read from a device."""

    def noted(self, count: Any) -> Any:
        """The value of a count if it is one of the last state's; else the count."""
        array, number = self.counts.get(id(count), UNKNOWN)
        return number if array() is count else count

    def note(self, counts: dict[str, jax.Array], numbers: dict[str, int]) -> None:
        """Note the counts of missed calls in a new state."""
        for name, array in counts.items():
            self.counts[id(array)] = weakref.ref(array), numbers[name]

    def __reduce__(self) -> Any:
        return _Memory, ()


def _update(
    rule: Rule,
    execution: str,
    shards: Shards,
    memory: _Memory | None,
    grads: Any,
    state: State,
    params: Any = None,
    **extra: Any,
) -> tuple[Any, State]:
    """One step: the updates, and the new state."""
    if params is None or not isinstance(state, State):
        _refuse(rule, state, params)
    memory = memory or _Memory()
    count, number = memory.counts.get(id(state.step), UNKNOWN)
    noted: Any = number if count() is state.step else state.step
    flat, structure = jax.tree.flatten((params, grads, state.slots, state.shared, state.step))
    plan, before = memory.plan, state.shared
    before = (
        before
        if len(memory.counts) < 2
        else dict(zip(before, map(memory.noted, before.values()), strict=True))
    )
    if plan is not None and plan.holds(flat, structure):
        step = noted if type(noted) is int else known(noted)
        entries, slots = plan.read(step, before, flat)
    else:
        refuse_count(rule, noted)  # which may be None
        rule, step = rule.map_numbers(known), known(noted)
        trees = params, grads, state._replace(shared=before)
        plan, lasts, entries, slots = planned(rule, shards, step, trees, flat, structure)
        plan.kernel = kernels(plan, plan.spreads and execution != "reference")
        memory.plan = plan if lasts and not rule.has_arrays else None
    spreads = plan.spreads and execution != "reference"
    if execution == "auto":
        execution = "packed" if plan.together and not plan.traced else "reference"
        if execution not in memory.said:
            memory.said.add(execution)
            say(rule.name, execution, _why(plan, spreads))
    whole = plan.histories is None
    common, missed = (before, {}) if whole else split(before)
    enter = None if isinstance(step, int) and not plan.traced else hoisted
    results: Iterable[Any]
    if execution == "packed" and plan.together:
        if plan.packs is None or not whole:  # counts of missed calls differ from state to state
            plan.packs = packing.packs(entries)
        results, shared = packing.run(
            xp, entries, common, plan.kernel, enter, places=plan.packs, step=stepping.change
        )
    else:
        spread = None if plan.together or plan.traced else spread_in(rule, xp, entries, common)
        vmap = jax.vmap if plan.traced or spreads else None
        results, shared = stepping.run(
            xp,
            entries,
            common,
            plan.kernel,
            enter,
            vmap=vmap,
            step=stepping.change,
            spread=spread,
            exchange=plan.exchange,
        )
        results = finished(results) if spreads else results
    updates: list[Any] = [None] * plan.own.num_leaves
    for (place, *_), (change, new) in zip(plan.chosen, results, strict=True):
        updates[place] = change
        for name, value in new.items():
            slots[name][place] = value
    for place in plan.complex:
        updates[place] = as_complex(updates[place])
    formed = map(plan.own.unflatten, (plan.formed(slots) if plan.forms else slots).values())
    host = isinstance(step, int) and step < MOST
    calls = state.step + 1 if host else advanced(state.step)
    reads = plan.traced or not host or not hasattr(calls, "aval")  # which an int has not
    memory.counts = {} if reads else {id(calls): (weakref.ref(calls), step + 1)}
    if not whole:
        counted = step, step + 1 if host else calls
        shared = shared | _missed(rule, plan, memory, missed, counted, (common, shared))
    return plan.own.unflatten(updates), State(calls, dict(zip(slots, formed, strict=True)), shared)


def _refuse(rule: Rule, state: Any, params: Any) -> None:
    """Raise for arguments of ``update`` that are missing."""
    if params is None:
        raise ValueError(f"{rule.name}: update(grads, state, params) needs params")
    raise TypeError(
        f"{rule.name}: state is {type(state).__name__}; it must be what init() or update() returned"
    )


def _missed(
    rule: Rule, plan: Plan, memory: _Memory, missed: dict[str, Any], calls: Any, shared: Any
) -> dict[str, jax.Array]:
    """The counts of missed calls after the step, which are noted if that of all calls is."""
    histories: Any = plan.histories
    if histories.grows and plan.traced:
        warn_in_loop(rule)
    numbers = histories.later(xp, missed, calls, shared)
    counts = {name: xp.asarray(count, xp.int32) for name, count in numbers.items()}
    if memory.counts:
        memory.note(counts, numbers)
    return counts


_compiled = jax.jit(_update, static_argnums=(0, 1, 2, 3))


def _in_jit(
    rule: Rule,
    execution: str,
    shards: Shards,
    memory: _Memory | None,
    grads: Any,
    state: State,
    params: Any = None,
    **extra: Any,
) -> tuple[Any, State]:
    """One step under a ``jax.jit`` of its own."""
    made: tuple[Any, State] = _compiled(rule, "compiled", shards, None, grads, state, params)
    return made


def _precisely(step: Any, *args: Any, **kwargs: Any) -> tuple[Any, State]:
    """A step whose products of matrices are in float32, whatever JAX is told for the model."""
    with float32_products(jax):
        made: tuple[Any, State] = step(*args, **kwargs)
        return made


def _why(plan: Plan, spreads: bool) -> str:
    """The reason for the choice of ``auto``, for the log."""
    divided = "; whole matrices are divided among the devices" if spreads else ""
    if plan.traced:
        return f"under jax.jit XLA compiles the whole step{divided}"
    if plan.together:
        return "outside jax.jit small parameters are gathered"
    return f"the parameters are spread over devices{divided}"
