"""Plans of steps on trees of one structure: their checks, and the places of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, is_, methodcaller
from typing import Any

import jax
import jax.numpy as xp
from jax.tree_util import treedef_is_leaf
from samestep import step as stepping
from samestep.checks import check_shared
from samestep.counts import Histories, placed, refuse_count, split
from samestep.kept import Kept, rule_of
from samestep.placement import Placement
from samestep.rule import Rule, State
from samestep.step import Entry

from .matrices import is_spread
from .shards import Shards, exchange
from .trees import dotted, flattened, is_complex, is_staged, matched, parts, real_pair, strong

__all__ = ["Plan", "planned"]

_devices = methodcaller("devices")


def _is_placed(number: Any) -> bool:
    """Whether a number is an array that JAX moves to no other device by itself."""
    known = isinstance(number, jax.Array) and not isinstance(number, jax.core.Tracer)
    return known and bool(getattr(number, "committed", True))


Slots = dict[str, list[Any]]


class Plan:
    """The rules of parameters and the places of arrays in the trees of a step.

    It serves later steps on trees of the same structure whose leaves have the same types.

    Args:
        rule: the rule of all parameters.
        flat: the leaves of parameters, gradients, slots, shared state and count, in this order.
        structure: the structure of these five trees together.
        own: the structure of the parameters.
        chosen: place and rule of every parameter that has a gradient, how it is kept, and which
            piece of it is here.
        traced: whether a leaf is, or an array that was made from one.
        devices: of every parameter and gradient, where that is known.
        histories: the parameters by the calls that they miss, if any does.
    """

    def __init__(
        self,
        rule: Rule,
        flat: Sequence[Any],
        structure: Any,
        own: Any,
        chosen: list[tuple[int, Rule, Kept, Placement | None]],
        traced: bool,
        devices: list[set[Any]],
        histories: Histories | None,
    ) -> None:
        self.rule = rule
        self.histories = histories
        self.structure = structure
        self.own = own
        self.chosen = chosen
        self.types = [*map(type, flat)]
        self.kinds = [getattr(leaf, "aval", None) for leaf in flat]
        self.wide = jax.config.jax_enable_x64  # type: ignore[attr-defined]
        self.traced = traced
        self.devices = devices
        numbers = [number for number in rule.numbers() if _is_placed(number)]
        self.together = len(set().union(*devices, *map(_devices, numbers))) <= 1
        """Whether arrays are on one device, so that they may be gathered."""
        self.sees_axes = any(rule.sees_axes for _, rule, *_ in chosen)
        self.spreads = False
        """Whether there are whole matrices to divide among devices."""
        self.exchange: Any = exchange if any(piece for *_, piece in chosen) else None
        """What the devices of ``shard_map`` send each other with."""
        self.kernel: Any = None
        """What makes the kernels of a step."""
        self.complex: list[int] = []
        """Places of complex parameters, which are stepped as pairs of real numbers."""
        self.repeated: set[Any] = set()
        """Shapes and dtypes of several parameters, for which a compiler is to trace a rule once."""
        self.packs: list[list[int]] | None = None
        """Places of the entries that are taken together, once that has been found out."""
        self.grads: list[Any] = []
        self.slots: Slots = {}
        self.forms: dict[tuple[str, int], Any] = {}
        """The structure of every slot that is no tuple of its parts, by its name and place."""

    def holds(self, flat: Sequence[Any], structure: Any) -> bool:
        """Whether leaves and structure are of the kinds that the plan was made for."""
        return (
            structure == self.structure
            and [*map(type, flat)] == self.types
            and [*map(attrgetter("aval"), flat)] == self.kinds
            and (self.traced or [*map(_devices, flat[: len(self.devices)])] == self.devices)
            and jax.config.jax_enable_x64 == self.wide  # type: ignore[attr-defined]
        )

    def locate(
        self, flat: Sequence[Any], arrays: list[Any], grads: list[Any], slots: Slots
    ) -> bool:
        """Note where gradients and slots are among the leaves; whether a later step may read there.

        It may not where an array is none of the leaves, but was made from one.
        """
        values = [*arrays, *grads, *(value for n in sorted(slots) for value in slots[n])]
        leaves = [leaf for value in values if value is not None for leaf in _leaves(value)]
        alike = len(leaves) <= len(flat) and all(map(is_, leaves, flat))
        if not alike or None in self.kinds:
            return False
        places = iter(range(len(arrays), len(flat)))
        self.grads = [_places(grad, places) for grad in grads]
        self.slots = {n: [_places(value, places) for value in slots[n]] for n in sorted(slots)}
        return True

    def read(
        self, step: Any, shared: Mapping[str, Any], flat: Sequence[Any]
    ) -> tuple[list[Entry], Slots]:
        """The result of ``planned`` for the leaves of another step, and its shared state."""
        if not self.traced and step < 0:
            refuse_count(self.rule, step)
        steps = None if self.histories is None else self.histories.steps(xp, step, shared)
        slots: Slots = {}
        for name, places in self.slots.items():
            slots[name] = values = []
            for at in places:
                several = tuple(map(flat.__getitem__, at)) if isinstance(at, tuple) else None
                values.append(several if several or at is None else flat[at])
        entries = []
        for place, rule, kept, placement in self.chosen:
            own = {}
            for name, values in slots.items():
                if values[place] is not None:
                    own[name] = values[place]
            count = step if steps is None else steps(place)
            grad, param = flat[self.grads[place]], flat[place]
            entries.append(Entry(rule, count, grad, param, own, kept, placement=placement))
        return entries, slots

    def formed(self, slots: Slots) -> Slots:
        """Slots after a step, in the forms in which they were given."""
        for (name, place), form in self.forms.items():
            slots[name][place] = form.unflatten(slots[name][place])
        return slots


def planned(
    rule: Rule,
    shards: Shards,
    step: Any,
    trees: tuple[Any, Any, State],
    flat: Sequence[Any],
    structure: Any,
) -> tuple[Plan, bool, list[Entry], Slots]:
    """Check everything that a step reads, and plan it.

    Args:
        rule: the rule, its numbers as they are at this step.
        shards: how parameters are sharded.
        step: how many steps have been taken.
        trees: parameters, gradients and state.
        flat: the leaves of these, the step last.
        structure: their structure.

    Returns:
        The plan; whether it serves later steps too; an entry for every parameter that has a
        gradient; and the slots of all parameters, in the order of the parameters.

    Raises:
        TypeError, ValueError: trees or arrays that the rule cannot take, named by their path.
    """
    params, grad_tree, state = trees
    stepping.check_slots(rule, "the parameters", state.slots)
    common, missed = split(state.shared)
    check_shared(rule, common)
    paths, own = flattened(params)
    arrays = [strong(rule, path, leaf) for path, leaf in paths]
    grads = matched(rule, "the gradients", grad_tree, paths, own)
    given = {
        name: matched(rule, f"slot {name} of the state", tree, paths, own)
        for name, tree in state.slots.items()
    }
    slots: Slots = {name: [*map(parts, values)] for name, values in given.items()}
    absent = [place for place, grad in enumerate(grads) if grad is None]
    histories = None
    if absent or missed:
        form = placed(rule, (dotted(path) for path, _ in paths))
        histories = Histories(rule, range(len(grads)), absent, missed, form)
    steps = None if histories is None else histories.steps(xp, step, missed)
    entries, chosen, specs = [], [], shards.specs(params)
    for place, ((path, _), array) in enumerate(zip(paths, arrays, strict=True)):
        if grads[place] is None:
            continue
        grads[place] = grad = strong(rule, path, grads[place], "the gradient of ")
        name = dotted(path)
        branch = rule_of(rule, name, shards.whole(array, specs[place]))
        own_slots = {slot: v[place] for slot, v in slots.items() if v[place] is not None}
        pair, grad = real_pair(branch, name, array, grad)
        count = step if steps is None else steps(place)
        piece = shards.placement(branch, name, pair, specs[place])
        entries.append(stepping.entry(branch, xp, name, count, grad, pair, own_slots, piece))
        chosen.append((place, branch, entries[-1].kept, piece))
    used = [*arrays, *(grad for grad in grads if grad is not None)]
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in (*flat, *used))
    devices = [] if traced else [*map(_devices, used)]
    plan = Plan(rule, flat, structure, own, chosen, traced, devices, histories)
    mappings = {
        (name, place): jax.tree.structure(value)
        for name, values in given.items()
        for place, value in enumerate(values)
        if isinstance(value, Mapping)
    }
    plan.forms = {at: form for at, form in mappings.items() if not treedef_is_leaf(form)}
    plan.complex = [place for place, *_ in chosen if is_complex(arrays[place])]
    plan.spreads = any(is_spread(entry.rule, entry.param) for entry in entries)
    if any(map(is_staged, (*flat, *used))):
        kinds = Counter((entry.param.shape, entry.param.dtype) for entry in entries)
        plan.repeated = {kind for kind, times in kinds.items() if times > 1}
    lasts = plan.locate(flat, arrays, grads, slots) and not plan.complex
    return plan, lasts, entries, slots


def _places(value: Any, places: Iterator[int]) -> Any:
    """The next places, one for every array in a value."""
    if value is None:
        return None
    return tuple(next(places) for _ in value) if isinstance(value, tuple) else next(places)


def _leaves(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
