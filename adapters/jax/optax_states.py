"""The states of optax's own transformations as a ``Checkpoint``, and back.

    saved = samestep.checkpoint(samestep.AdamW(lr=1e-3, like="optax"), params, optax_state)
    optax_state = samestep.jax.to_optax(saved, optax_state, params)

A transformation of optax is a closure that tells no numbers, so the rule is given. Its part of the
state is found by type, wherever it is: in chains, ``inject_hyperparams``, ``partition`` (alias
``multi_transform``), ``masked``, ``MultiSteps`` (``Accumulate``), ``lookahead`` (``Lookahead``) and
``apply_if_finite``. The state of a transformation of samestep's among optax's is found likewise.
Every parameter must be found once for each slot of its rule; a ``samestep.route``, or a rule per
label, serves ``partition``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy
import optax  # type: ignore[import-untyped]  # ships no types

import jax
import jax.numpy as xp

from .. import step as stepping
from ..arrays import is_array, known, listed
from ..checkpoint.checkpoint import Checkpoint, CheckpointError, ParameterState, Wanted, matched
from ..checkpoint.description import made, numbers
from ..checkpoint.tensor import Tensor, tensors
from ..checkpoint.trees import by_path, check_value
from ..rule import Rule, State
from ..wrapper import Wrapper
from .trees import dotted, flattened, strong
from .trees import matched as of_params

__all__ = [
    "KEPT",
    "SHARED",
    "Kept",
    "checkpoint",
    "field_of",
    "from_optax",
    "restore",
    "to_optax",
    "to_optax_params",
]


class Kept(NamedTuple):
    """Where optax keeps a slot of ours."""

    states: tuple[str, ...]
    """The classes of state that may have it."""
    field: str
    sign: int = 1
    """-1 where optax keeps what is added to a parameter, and we what is taken away."""


def _of(state: str, **fields: str) -> dict[str, Kept]:
    return {slot: Kept((state,), field) for slot, field in fields.items()}


_ADAM = _of("ScaleByAdamState", m="mu", v="nu")
_CENTERED = ("ScaleByRStdDevState", "ScaleByRStdDevWithCountState")
_MEAN_SQUARE = ("ScaleByRmsState", "ScaleByRmsWithCountState", *_CENTERED)

KEPT: dict[str, dict[str, Kept]] = {
    "SGD": _of("TraceState", m="trace"),
    "RMSprop": {
        "v": Kept(_MEAN_SQUARE, "nu"),
        "g": Kept(_CENTERED, "mu"),
        "m": Kept(("TraceState",), "trace", -1),
    },
    "Adagrad": _of("ScaleByRssState", v="sum_of_squares"),
    "AdaDelta": _of("ScaleByAdaDeltaState", v="e_g", u="e_x"),
    **dict.fromkeys(("Adam", "AdamW", "LAMB", "NAdam", "RAdam", "Yogi"), _ADAM),
    "AMSGrad": _of("ScaleByAmsgradState", m="mu", v="nu", v_max="nu_max"),
    "Adamax": _of("ScaleByAdamState", m="mu", u="nu"),
    "Lion": _of("ScaleByLionState", m="mu"),
    "SM3": _of("ScaleBySM3State", m="nu", mu="mu"),
    "LARS": {"m": Kept(("TraceState",), "trace", -1)},
    "AdaBelief": _of("ScaleByBeliefState", m="mu", v="nu"),
    "Adan": _of("ScaleByAdanState", m="m", v="v", n="n", prev="g"),
    "AdEMAMix": _of("ScaleByAdemamixState", m1="m1", m2="m2", v="nu"),
    "Rprop": _of("ScaleByRpropState", size="step_sizes", last="prev_updates"),
    "Signum": _of("EmaState", m="ema"),
    "SignSGD": {},
    "Adafactor": {**_of("FactoredState", v="v"), **_of("EmaState", m="ema")},
    "Prodigy": _of("ProdigyState", m="exp_avg", v="exp_avg_sq", s="grad_sum", p0="params0"),
    "Muon": _of("MuonState", m="mu"),
    "Accumulate": _of("MultiStepsState", accumulated="acc_grads"),
    "Lookahead": _of("LookaheadParams", slow="slow"),
    "ClipValue": {},
    "ClipNorm": {},
    "ClipGlobalNorm": {},
    "AdaptiveClip": {},
    "Centralize": {},
    "SkipNonFinite": {},
}
"""By rule and slot. ``FactoredState.v`` stands for ``v_row`` and ``v_col`` where it is factored."""

SHARED: dict[str, dict[str, Kept]] = {
    "Prodigy": _of("ProdigyState", d="estim_lr", d_max="estim_lr", numerator="numerator_weighted"),
    "SkipNonFinite": _of("ApplyIfFiniteState", skipped="total_notfinite"),
}
"""The same for what is kept once for all parameters."""

SIGNS = {"Rprop": {"prev": "last"}}
"""Slots of which a rule reads nothing but the sign, and the slot that has the same sign."""

FORM = {"lr_at", "momentum_form", "difference_weight", "keep_previous", "lag", "axes"}
"""Options that make a slot another quantity; they must be as in optax."""

COUNTS = ("count", "count_m2", "t")
UNREAD = {"ns_coeffs", "fast", "mini_step", "gradient_step", "skip_state", "steps_since_sync"}
INSIDE = {
    "InjectHyperparamsState": "inner_state",
    "InjectStatefulHyperparamsState": "inner_state",
    "PartitionState": "inner_states",
    "MaskedState": "inner_state",
    "MultiStepsState": "inner_opt_state",
    "ApplyIfFiniteState": "inner_state",
    "LookaheadState": "fast_state",
}
"""What is around other states, and where it has them."""
CONTAINERS = {"MultiStepsState": "Accumulate", "LookaheadState": "Lookahead"}
"""What is around other states and steps otherwise, and the wrapper of ours for it."""
BESIDE = {"EmptyState", "MaskedNode", "ScaleByScheduleState", "MonitorState", "SnapshotState"}
BESIDE |= {"ZeroNansState"}
"""States that say nothing of how a rule goes on."""

INJECTED = {
    "learning_rate": ("lr", None),
    "b1": ("betas", 0),
    "b2": ("betas", 1),
    "b3": ("betas", 2),
    "decay": ("alpha", None),
}
"""Our numbers by what ``inject_hyperparams`` calls them, where it is not their name here."""

Slots = dict[str, Any]


class _Node(NamedTuple):
    """A part of a state: its place, itself, and what it is in, from the outside in."""

    place: str
    value: Any
    above: tuple[_Node, ...]

    @property
    def kind(self) -> str:
        """The name of its class."""
        return "samestep.State" if isinstance(self.value, State) else type(self.value).__name__


def _nodes(value: Any, place: str = "state", above: tuple[_Node, ...] = ()) -> Iterator[_Node]:
    node = _Node(place, value, above)
    if hasattr(value, "_fields"):
        yield node
        above = (*above, node)
    elif not isinstance(value, (tuple, list, Mapping)) and value is not None:
        yield node
    for at, child in _children(value, place):
        yield from _nodes(child, at, above)


def _children(value: Any, place: str) -> list[tuple[str, Any]]:
    if hasattr(value, "_fields"):
        inside = INSIDE.get(type(value).__name__)
        return [(f"{place}.{inside}", getattr(value, inside))] if inside else []
    if isinstance(value, Mapping):
        return [(f"{place}[{name!r}]", child) for name, child in value.items()]
    if isinstance(value, (tuple, list)):
        return [(f"{place}[{at}]", child) for at, child in enumerate(value)]
    return []


def _rebuilt(value: Any, changes: Mapping[str, Mapping[str, Any]], place: str = "state") -> Any:
    """The state with some fields of some of its parts replaced."""
    new = [_rebuilt(child, changes, at) for at, child in _children(value, place)]
    if hasattr(value, "_fields"):
        inside = INSIDE.get(type(value).__name__)
        return value._replace(**({inside: new[0]} if inside else {}), **changes.get(place, {}))
    if isinstance(value, Mapping):
        return type(value)(zip(value, new, strict=True))  # type: ignore[call-arg]
    return type(value)(new) if isinstance(value, (tuple, list)) else value


def field_of(kept: Kept, state: Any, params: Any = None) -> Any:
    """What optax keeps of a slot, for all parameters and with our sign; ``None`` where it does not.

    ``params`` are asked as well, since ``lookahead`` keeps slow weights in them.
    """
    nodes = [*_nodes(state), *_nodes(params)]
    found = [node.value for node in nodes if node.kind in kept.states]
    tree = getattr(found[0], kept.field) if found else None
    return jax.tree.map(xp.negative, tree) if kept.sign < 0 else tree


class _Place(NamedTuple):
    """Where a slot of one parameter is: a part of the state, fields of it, and their entries."""

    node: _Node
    kept: Kept
    fields: tuple[str, ...]
    entries: tuple[Any, ...]


class _Own(NamedTuple):
    """A parameter, its rule, and where its slots are."""

    path: str
    param: Any
    rule: Rule
    base: Rule
    """The rule without the wrappers that are optax's here."""
    places: dict[str, _Place]

    @property
    def nodes(self) -> list[_Node]:
        """The parts of the state that it has something in, each once."""
        return [*{place.node.place: place.node for place in self.places.values()}.values()]


class _States:
    """A state of optax beside the parameters it is for."""

    def __init__(self, params: Any, state: Any) -> None:
        self.params, self.state = params, state
        self.nodes = [*_nodes(state)]
        if isinstance(params, optax.LookaheadParams):
            self.nodes.append(_Node("params", params, ()))
            params = params.fast
        self.paths, self.structure = flattened(params)
        self._entries: dict[tuple[str, str], list[Any]] = {}

    def listed(self) -> str:
        """What there is, for messages."""
        kinds = [f"{node.place}: {node.kind}" for node in self.nodes if node.kind != "EmptyState"]
        return "; ".join(kinds) or "nothing"

    def of_kinds(self, kinds: Iterable[str]) -> list[_Node]:
        """Its parts of these classes."""
        return [node for node in self.nodes if node.kind in kinds]

    def entries(self, node: _Node, field: str) -> list[Any]:
        """What a field has for each parameter; ``None`` where nothing."""
        key = node.place, field
        if key not in self._entries:
            tree = _field(node, field)
            found = [None] * len(self.paths) if tree is None else self._spread(key, tree)
            self._entries[key] = [
                None if isinstance(entry, optax.MaskedNode) else entry for entry in found
            ]
        return self._entries[key]

    def _spread(self, key: tuple[str, str], tree: Any) -> list[Any]:
        masked = (isinstance(leaf, optax.MaskedNode) for leaf in _masked_leaves(tree))
        if any(masked):
            return _spread(self.structure, tree)
        try:
            return of_params(_OPTAX, f"{key[1]} of {key[0]}", tree, self.paths, self.structure)
        except ValueError as error:
            raise CheckpointError(str(error)) from None


class _Named(NamedTuple):
    """Who speaks in messages."""

    name: str


_OPTAX: Any = _Named("optax")


def _masked_leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, optax.MaskedNode))


def _spread(structure: Any, tree: Any) -> list[Any]:
    """What a tree has at each leaf of a structure; it may be masked above them."""
    if isinstance(tree, optax.MaskedNode):
        return [tree] * structure.num_leaves
    if jax.tree_util.treedef_is_leaf(structure):
        return [tree]
    below = jax.tree.leaves(tree, is_leaf=lambda node: node is not tree)
    pairs = zip(structure.children(), below, strict=True)
    return [entry for part, child in pairs for entry in _spread(part, child)]


def _field(node: _Node, field: str) -> Any:
    slots = isinstance(node.value, State)
    return node.value.slots.get(field) if slots else getattr(node.value, field)


def checkpoint(rule: Any, params: Any = None, state: Any = None) -> Checkpoint:
    """As ``from_optax``, which takes a step count as well."""
    return from_optax(rule, params, state)


def restore(optimizer: Any, saved: Checkpoint, params: Any = None) -> Any:
    """Refused, since a transformation of optax holds no state."""
    raise TypeError(
        "a transformation of optax holds no state; samestep.jax.to_optax(checkpoint, state, "
        "params) gives a state like the one given"
    )


def from_optax(rule: Any, params: Any, state: Any, *, step: int | None = None) -> Checkpoint:
    """Parameters and a state of optax as a checkpoint of a rule.

    Args:
        rule: what the transformation computes, such as ``samestep.AdamW(lr=1e-3, like="optax")``;
            for ``optax.partition`` a ``samestep.route``, or a dict of rules by label.
        params: the parameters; with ``optax.lookahead`` its ``LookaheadParams``.
        state: what ``init`` or ``update`` returned.
        step: how many steps have been taken, where no part of the state counts them.

    Raises:
        CheckpointError: a part of the state is not there, or there twice; no rule of ours keeps it;
            steps are counted nowhere, or differently in two places.
    """
    states = _States(params, state)
    rules = _rules(rule, states)
    owned = [_owned(states, at, rules[at]) for at in range(len(states.paths))]
    _refuse_containers(states, owned)
    _refuse_left(states, owned, foreign=True)
    counts = _counts(states, owned, step)
    found = {}
    for own, count in zip(owned, counts, strict=True):
        numbered = own.rule.replace(**_injected(states, own))
        value = Tensor.of(own.param)
        slots = tensors(_slots(own))
        found[own.path] = ParameterState.of(numbered, own.param, count, slots, value)
    by_path((own.path, own.param) for own in owned)
    return Checkpoint(found, _shared(states, owned), "jax")


def to_optax(saved: Checkpoint, state: Any, params: Any) -> Any:
    """A state of optax like the one given, with what a checkpoint has in it.

    ``to_optax_params`` gives the parameters of the checkpoint. Numbers that are injected become
    those of the checkpoint; scheduled ones until the next step asks the schedule.

    Args:
        saved: the checkpoint.
        state: a state of the transformation that is to go on, such as ``init`` returns.
        params: the parameters; with ``optax.lookahead`` its ``LookaheadParams``.

    Raises:
        CheckpointError: it does not fit; nothing has been changed.
    """
    states, owned = _aimed(saved, state, params)
    return _rebuilt(state, _changes(states, owned, saved))


def to_optax_params(saved: Checkpoint, params: Any) -> Any:
    """The parameters in a checkpoint, in a tree like the one given.

    That may be ``optax.LookaheadParams``, whose slow weights are then the checkpoint's too.
    """
    lookahead = isinstance(params, optax.LookaheadParams)
    paths, structure = flattened(params.fast if lookahead else params)
    arrays = by_path((dotted(path), strong(_OPTAX, path, leaf)) for path, leaf in paths)
    found = _found(saved, arrays)
    for path, own in found.items():
        check_value(path, own, arrays[path])
        if own.value is None:
            raise CheckpointError(f"the checkpoint has no value of parameter {path!r}")
    new = [own.value.like(arrays[path]) for path, own in found.items() if own.value is not None]
    if not lookahead:
        return structure.unflatten(new)
    slow: dict[str, Any] = {
        path: (own.slots or {}).get("slow", own.value) for path, own in found.items()
    }
    return optax.LookaheadParams(
        fast=structure.unflatten(new),
        slow=structure.unflatten([slow[path].like(array) for path, array in arrays.items()]),
    )


def _rules(given: Any, states: _States) -> list[Rule]:
    """The rule of every parameter."""
    if isinstance(given, Mapping):
        return _by_label(given, states)
    rule = given if isinstance(given, Rule) else getattr(given, "rule", None)
    if not isinstance(rule, Rule):
        raise TypeError(
            f"{type(given).__name__} tells nothing of its numbers, being a closure; give the rule "
            'that it carries out, such as samestep.AdamW(lr=1e-3, like="optax")'
        )
    return [rule.of(dotted(path), tuple(numpy.shape(leaf))) for path, leaf in states.paths]


def _by_label(given: Mapping[Any, Rule], states: _States) -> list[Rule]:
    """The rules of parameters that ``optax.partition`` has told apart."""
    parts = states.of_kinds(["PartitionState"])
    if len(parts) != 1:
        raise CheckpointError(
            f"rules by label are for one PartitionState; the state has {states.listed()}"
        )
    labels = parts[0].value.inner_states
    unlike = {*map(str, labels)} ^ {*map(str, given)}
    if unlike:
        raise CheckpointError(
            f"rules are given for the labels {listed(map(str, given))}; the PartitionState has "
            f"{listed(map(str, labels))}"
        )
    chosen: list[Rule | None] = [None] * len(states.paths)
    bare = []
    for label in labels:
        start = f"{parts[0].place}.inner_states[{label!r}]"
        held = [
            states.entries(node, field)
            for node in states.nodes
            if node.place.startswith(start) and node.kind not in INSIDE
            for field in _tree_fields(states, node)
        ]
        for entries in held:
            for at, entry in enumerate(entries):
                chosen[at] = given[label] if entry is not None else chosen[at]
        bare += [] if held else [label]
    rest = [dotted(path) for (path, _), rule in zip(states.paths, chosen, strict=True) if not rule]
    if rest and len(bare) != 1:
        raise CheckpointError(
            f"the state does not tell the labels of {listed(rest[:5])}, since "
            f"{listed(map(str, bare)) or 'no label'} keeps no arrays; give a samestep.route"
        )
    return [
        (rule or given[bare[0]]).of(dotted(path), tuple(numpy.shape(leaf)))
        for (path, leaf), rule in zip(states.paths, chosen, strict=True)
    ]


def _tree_fields(states: _States, node: _Node) -> list[str]:
    """The fields of a part that hold something for each parameter."""
    if isinstance(node.value, State):
        return [*node.value.slots]
    if not hasattr(node.value, "_fields") or node.kind in BESIDE:
        return []
    named = {kept.field for table in KEPT.values() for kept in table.values()}
    return [f for f in node.value._fields if f in named and node.kind != "LookaheadParams"]


def _owned(states: _States, at: int, rule: Rule) -> _Own:
    """A parameter with the places of all its slots."""
    path, leaf = states.paths[at]
    name = dotted(path)
    param = strong(rule, path, leaf)
    ours = [
        node
        for node in states.of_kinds(["samestep.State"])
        if not node.value.slots
        or any(states.entries(node, slot)[at] is not None for slot in node.value.slots)
    ]
    table: dict[str, Kept] = {}
    base = rule
    while isinstance(base, Wrapper) and not _has(ours, base):
        table |= _table(base, [*base._slots])
        base = base.rule
    if ours:
        table |= {slot: Kept(("samestep.State",), slot) for slot in base.slots()}
    else:
        table |= _table(base, [*base.slots()])
        _refuse_other_form(base)
    places = {slot: _found_once(states, at, name, base, slot, kept) for slot, kept in table.items()}
    return _Own(name, param, rule, base, places)


def _has(ours: list[_Node], rule: Rule) -> bool:
    return any({*rule.slots()} <= {*node.value.slots} for node in ours)


def _table(rule: Rule, slots: list[str]) -> dict[str, Kept]:
    """Where optax keeps these slots of a rule."""
    if rule.name not in KEPT:
        raise CheckpointError(
            f"{rule.name} has no equal in optax; those that have are {', '.join(sorted(KEPT))}"
        )
    signs = SIGNS.get(rule.name, {})
    known_as = {**KEPT[rule.name], **{s: KEPT[rule.name][of] for s, of in signs.items()}}
    missing = [slot for slot in slots if slot not in known_as]
    if missing:
        raise CheckpointError(f"optax keeps no {listed(missing)} for {rule!r}")
    return {slot: known_as[slot] for slot in slots}


def _refuse_other_form(rule: Rule) -> None:
    """Refuse a rule whose slots are other quantities than optax's."""
    like = type(rule).dialects.get("optax")
    for name in sorted(FORM & rule.fields().keys()):
        if like is None:
            break
        theirs = like.values.get(name, rule.fields()[name].default)
        if rule._values[name] != theirs:
            raise CheckpointError(
                f"{rule!r}: {name} is {rule._values[name]!r} here and {theirs!r} in optax; give "
                f'{rule.name}(..., like="optax")'
            )
    if getattr(rule, "growth_rate", math.inf) != math.inf:
        raise CheckpointError(f"{rule!r}: optax has no growth_rate, and keeps no d_max for it")


def _found_once(states: _States, at: int, path: str, rule: Rule, slot: str, kept: Kept) -> _Place:
    """The one place where a slot of a parameter is."""
    fields = ("v_row", "v_col", "v") if kept.states == ("FactoredState",) else (kept.field,)
    found = [
        _Place(node, kept, fields, entries)
        for node in states.of_kinds(kept.states)
        if (entries := tuple(states.entries(node, f)[at] for f in fields))[0] is not None
    ]
    if len(found) == 1:
        return _factored(rule, states.paths[at][1], found[0]) if len(fields) > 1 else found[0]
    where = f" ({', '.join(place.node.place for place in found)})" if found else ""
    raise CheckpointError(
        f"slot {slot} of parameter {path!r} of {rule!r} is {len(found)} times in the state{where}; "
        f"it must be once, as {kept.field} of {' or '.join(kept.states)}; there is: "
        f"{states.listed()}"
    )


def _factored(rule: Rule, param: Any, place: _Place) -> _Place:
    """Rows and columns of what is factored, and the full average of what is not."""
    shape = tuple(numpy.shape(param))
    shapes = rule.slots()["v"].init.shapes
    factored = shapes is not None and len(shapes(shape, rule)) > 1
    part = slice(0, 2) if factored else slice(2, 3)
    return place._replace(fields=place.fields[part], entries=place.entries[part])


def _slots(own: _Own) -> Slots:
    """The slots of a parameter, in our shapes and with our signs."""
    found: Slots = {}
    signs = SIGNS.get(own.base.name, {})
    for slot, place in own.places.items():
        entries = _parts(place)
        several = _several(own, slot)
        wanted = _shapes(own, slot, several, len(entries))
        parts = [
            _fitted(own, slot, -entry if place.kept.sign < 0 else entry, shape)
            for entry, shape in zip(entries, wanted, strict=True)
        ]
        if slot in signs and place.node.kind != "samestep.State":
            parts = [xp.sign(part) for part in parts]
        found[slot] = tuple(parts) if several else parts[0]
    return found


def _several(own: _Own, slot: str) -> bool:
    """Whether a slot of ours has several parts, be it one."""
    shapes = own.rule.slots()[slot].init.shapes
    wanted: Any = shapes(tuple(own.param.shape), own.rule) if shapes else ()
    return bool(wanted) and all(isinstance(part, tuple) for part in wanted)


def _parts(place: _Place) -> list[Any]:
    """The arrays of a slot as optax has them."""
    return [leaf for entry in place.entries for leaf in jax.tree.leaves(entry)]


def _shapes(own: _Own, slot: str, several: bool, count: int) -> list[Any]:
    """The shapes that the parts of a slot must have."""
    shapes = own.rule.slots()[slot].init.shapes
    shape = tuple(own.param.shape)
    wanted: Any = shape if shapes is None else shapes(shape, own.rule)
    found = [*wanted] if several else [wanted]
    if len(found) != count:
        raise CheckpointError(
            f"slot {slot} of parameter {own.path!r} has {count} parts; it must have {len(found)}"
        )
    return found


def _fitted(own: _Own, slot: str, array: Any, shape: tuple[int, ...]) -> Any:
    """An array in another shape that differs in axes of size 1."""
    if [n for n in array.shape if n != 1] != [n for n in shape if n != 1]:
        raise CheckpointError(
            f"slot {slot} of parameter {own.path!r} has shape {tuple(array.shape)}; it must be "
            f"{shape}"
        )
    return array.reshape(shape)


def _refuse_containers(states: _States, owned: list[_Own]) -> None:
    """Refuse what steps otherwise than the rules given."""
    for kind, wrapper in CONTAINERS.items():
        there = states.of_kinds([kind])
        wanted = any(rule.name == wrapper for own in owned for rule in _around(own))
        if len(there) > 1 or (there and not wanted):
            raise CheckpointError(
                f"the state has {kind} {len(there)} times, and the rule is "
                f"{listed({repr(own.rule): 0 for own in owned})}; it belongs to one "
                f"{wrapper}(...) around the rule"
            )
        if wanted and not there:
            raise CheckpointError(f"{wrapper} needs {kind}; the state has {states.listed()}")


def _around(own: _Own) -> Iterator[Any]:
    """The wrappers of a rule that are optax's here, from the outside in."""
    rule: Any = own.rule
    while rule is not own.base and isinstance(rule, Wrapper):
        yield rule
        rule = rule.rule


def _refuse_left(states: _States, owned: list[_Own], *, foreign: bool) -> None:
    """Refuse what would get lost, or what the rule would not have written."""
    used = _used(states, owned)
    ours = {kind for table in KEPT.values() for kept in table.values() for kind in kept.states}
    for node in states.nodes:
        if node.kind in BESIDE or not (foreign or node.kind in ours):
            continue
        left = _unused(node, used.get(node.place, set()))
        if left:
            raise CheckpointError(
                f"{node.place} is {node.kind}, and {listed(left)} of it is no slot of "
                f"{listed({repr(own.rule): 0 for own in owned})}; there is: {states.listed()}"
            )


def _used(states: _States, owned: list[_Own]) -> dict[str, set[str]]:
    used: dict[str, set[str]] = {}
    for own in owned:
        for place in own.places.values():
            fields = {"v_row", "v_col", "v"} if place.node.kind == "FactoredState" else place.fields
            used.setdefault(place.node.place, set()).update(fields)
    for _, place in _shared_places(states, owned):
        used.setdefault(place.node.place, set()).update(place.fields)
    return used


def _unused(node: _Node, used: set[str]) -> list[str]:
    """Fields with arrays in them that are no slots."""
    if isinstance(node.value, State):
        return [slot for slot, tree in node.value.slots.items() if slot not in used and _any(tree)]
    if node.kind in INSIDE and node.kind not in CONTAINERS:
        return []
    if not hasattr(node.value, "_fields"):
        return [node.kind]
    apart = {*used, *COUNTS, *UNREAD, INSIDE.get(node.kind, "")}
    return [f for f in node.value._fields if f not in apart and _any(getattr(node.value, f))]


def _any(tree: Any) -> bool:
    return bool(jax.tree.leaves(tree))


def _shared_places(states: _States, owned: list[_Own]) -> Iterator[tuple[str, _Place]]:
    """Where the state shared by all parameters is."""
    seen: set[str] = set()
    for own in owned:
        tables: dict[str, Kept] = {}
        for rule in (*_around(own), own.base):
            mine = [*rule._shared] if rule is not own.base else [*rule.shared()]
            whole = any(node.kind == "samestep.State" for node in own.nodes)
            if whole and rule is own.base:
                tables |= {name: Kept(("samestep.State",), name) for name in mine}
                continue
            table = SHARED.get(rule.name, {})
            missing = [name for name in mine if name not in table]
            if missing:
                raise CheckpointError(f"optax keeps no {listed(missing)} for {rule!r}")
            tables |= {name: table[name] for name in mine}
        for name, kept in tables.items():
            if name in seen:
                continue
            seen.add(name)
            nodes = [node for node in own.nodes if node.kind in kept.states]
            nodes = nodes or states.of_kinds(kept.states)
            if len(nodes) != 1:
                raise CheckpointError(
                    f"{name} of {own.rule!r} is {len(nodes)} times in the state; it must be once, "
                    f"as {kept.field} of {' or '.join(kept.states)}; there is: {states.listed()}"
                )
            value = nodes[0].value
            held = value.shared[name] if isinstance(value, State) else getattr(value, kept.field)
            yield name, _Place(nodes[0], kept, (kept.field,), (held,))


def _shared(states: _States, owned: list[_Own]) -> dict[str, Tensor]:
    wide = stepping.widest(xp, [own.param for own in owned]) if owned else xp.float32
    return {
        name: Tensor.of(xp.asarray(place.entries[0], wide))
        for name, place in _shared_places(states, owned)
    }


def _whole(value: Any, what: str) -> int:
    count = known(value)
    if is_array(count):
        raise TypeError(f"{what} is traced; a checkpoint is made outside of jit")
    return int(count)


def _own_counts(node: _Node) -> Iterator[tuple[str, int]]:
    """The steps that a part of a state has counted."""
    names = ("step",) if isinstance(node.value, State) else COUNTS
    for name in names if hasattr(node.value, "_fields") else ():
        if name in node.value._fields:
            place = f"{node.place}.{name}"
            yield place, _whole(getattr(node.value, name), place)


def _scheduled(node: _Node) -> Iterator[tuple[str, int]]:
    """The steps that schedules have counted."""
    if node.kind == "ScaleByScheduleState":
        yield from _own_counts(node)
    for name, own in getattr(node.value, "hyperparams_states", {}).items():
        if hasattr(own, "count"):
            place = f"{node.place}.hyperparams_states[{name!r}].count"
            yield place, _whole(own.count, place)


def _counts(states: _States, owned: list[_Own], given: int | None) -> list[int]:
    """How many steps each parameter has taken, in calls."""
    kinds = [node for own in owned for node in own.nodes]
    counted = [dict(pair for node in own.nodes for pair in _own_counts(node)) for own in owned]
    everywhere = dict(pair for node in kinds for pair in _own_counts(node))
    schedules = dict(pair for node in states.nodes for pair in _scheduled(node))
    fallback = everywhere or schedules or _outer(states)
    found = []
    for own, mine in zip(owned, counted, strict=True):
        inside = mine or fallback
        every = next((int(r.every) for r in _around(own) if r.name == "Accumulate"), 1)
        mini = _mini(states, every)
        if not inside and given is None:
            raise CheckpointError(
                f"no part of the state counts the steps of {own.rule!r}; give them: "
                "samestep.jax.from_optax(rule, params, state, step=...) makes the checkpoint"
            )
        count = _one(inside, own, every, mini, given)
        if schedules and count // every not in schedules.values():
            raise CheckpointError(
                f"a schedule has counted other steps than {own.rule!r}: "
                f"{_said(schedules)}, and {_said(inside)}"
            )
        _refuse_other_sync(states, own, count)
        found.append(count)
    return found


def _one(counts: dict[str, int], own: _Own, every: int, mini: int, given: int | None) -> int:
    values = {*counts.values()}
    if len(values) > 1:
        raise CheckpointError(f"steps are counted differently: {_said(counts)}")
    total = next(iter(values)) * every + mini if values else given
    if total is None or given not in (None, total):
        raise CheckpointError(
            f"step={given!r} is given for {own.path!r}, and the state has counted {total}: "
            f"{_said(counts)}"
        )
    return total


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{place} is {count}" for place, count in counts.items())


def _outer(states: _States) -> dict[str, int]:
    """Counts that are no rule's: of ``inject_hyperparams``, and of accumulated steps."""
    injected = states.of_kinds(["InjectHyperparamsState", "InjectStatefulHyperparamsState"])
    steps = states.of_kinds(["MultiStepsState"])
    inside = [node for node in injected if not steps or steps[0] in node.above]
    places = [(f"{node.place}.count", node.value.count) for node in inside]
    places += [(f"{node.place}.gradient_step", node.value.gradient_step) for node in steps]
    return {place: _whole(value, place) for place, value in places}


def _mini(states: _States, every: int) -> int:
    for node in states.of_kinds(["MultiStepsState"]):
        mini = _whole(node.value.mini_step, f"{node.place}.mini_step")
        if mini >= every:
            raise CheckpointError(
                f"{node.place}.mini_step is {mini}; with Accumulate(every={every}) it must be less"
            )
        return mini
    return 0


def _since_sync(own: _Own, count: int) -> int | None:
    """The steps since slow weights followed, if the rule has some."""
    for rule in _around(own):
        if rule.name == "Lookahead":
            return count % int(known(rule.sync_period))
        count = rule.steps_inside(count)
    return None


def _refuse_other_sync(states: _States, own: _Own, count: int) -> None:
    wanted = _since_sync(own, count)
    for node in states.of_kinds(["LookaheadState"]):
        there = _whole(node.value.steps_since_sync, node.place)
        if there != wanted:
            raise CheckpointError(
                f"{node.place}.steps_since_sync is {there}; after {count} steps of {own.rule!r} it "
                f"must be {wanted}"
            )


def _injections(states: _States, own: _Own) -> list[_Node]:
    """The parts that inject numbers into a parameter's rule."""
    everywhere = [node for node in states.nodes if hasattr(node.value, "hyperparams")]
    if not own.nodes:
        return everywhere if len(everywhere) == 1 else []
    above = {node.place for mine in own.nodes for node in mine.above}
    return [node for node in everywhere if node.place in above]


def _named(rule: Rule, name: str) -> tuple[str, int | None] | None:
    """A number of a rule by what ``inject_hyperparams`` calls it."""
    ours, at = INJECTED.get(name, (name, None))
    if name == "decay" and "alpha" not in rule.hypers:
        return None
    value = rule.hypers.get(ours)
    value = value[at] if isinstance(value, tuple) and at is not None else value
    return (ours, at) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _injected(states: _States, own: _Own) -> dict[str, Any]:
    """The numbers of a rule that are injected; one that is but rounded stays as it is."""
    found: dict[str, Any] = {}
    for node in _injections(states, own):
        for name, array in node.value.hyperparams.items():
            target = _named(own.rule, name)
            if target is None:
                continue
            ours, at = target
            now = found.get(ours, own.rule.hypers[ours])
            old = now if at is None else now[at]
            new = old if numpy.asarray(array) == numpy.asarray(old, array.dtype) else float(array)
            found[ours] = new if at is None else (*now[:at], new, *now[at + 1 :])
    return found


def _found(saved: Checkpoint, arrays: Mapping[str, Any]) -> dict[str, ParameterState]:
    """What a checkpoint has for these parameters, under the rules that it names."""
    try:
        rules = {path: made(own.rule) for path, own in saved.parameters.items()}
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    wanted: dict[str, Any] = {path: Wanted(rules.get(path), a) for path, a in arrays.items()}  # type: ignore[arg-type]
    return matched(saved, wanted, saved.shared)


def _aimed(saved: Checkpoint, state: Any, params: Any) -> tuple[_States, list[_Own]]:
    """Where the slots of a checkpoint go in a state."""
    states = _States(params, state)
    arrays = by_path((dotted(path), strong(_OPTAX, path, leaf)) for path, leaf in states.paths)
    found = _found(saved, arrays)
    owned = [_owned(states, at, made(own.rule)) for at, own in enumerate(found.values())]
    _refuse_containers(states, owned)
    _refuse_left(states, owned, foreign=False)
    return states, owned


def _changes(states: _States, owned: list[_Own], saved: Checkpoint) -> dict[str, dict[str, Any]]:
    """The fields of each part of a state that become others."""
    steps = {own.step for own in saved.parameters.values() if own.slots is not None} or {0}
    if len(steps) > 1:
        raise CheckpointError(
            f"parameters have taken different numbers of steps ({listed(map(str, sorted(steps)))}),"
            " and optax counts for all of them together"
        )
    step = steps.pop()
    changes: dict[str, dict[str, Any]] = {}
    for node, field, tree in _trees(states, owned, saved):
        _change(changes, node, field, tree)
    for name, place in _shared_places(states, owned):
        if name not in saved.shared:
            continue
        new = _cast(saved.shared[name].like(xp.zeros(())), place.entries[0], name)
        held = changes.get(place.node.place, {})
        if not isinstance(place.node.value, State):
            _refuse_two(held, place.fields[0], name, new)
        _change(changes, place.node, place.fields[0], new, shared=True)
    every = {int(r.every) for own in owned for r in _around(own) if r.name == "Accumulate"} or {1}
    if len(every) > 1:
        raise CheckpointError(f"Accumulate has every={listed(map(str, sorted(every)))}")
    for node in states.nodes:
        if node.place != "params":
            changes.setdefault(node.place, {}).update(_counted(node, step, every.copy().pop()))
        if hasattr(node.value, "hyperparams"):
            changes[node.place]["hyperparams"] = _numbers(states, node, owned, saved)
        if node.kind == "LookaheadState":
            since = next(iter(_since_sync(own, step) for own in owned), 0)
            changes[node.place]["steps_since_sync"] = _like(since, node.value.steps_since_sync)
    return changes


def _refuse_two(held: Mapping[str, Any], field: str, name: str, new: Any) -> None:
    if field in held and not bool(xp.all(held[field] == new)):
        raise CheckpointError(
            f"{name} is {float(new)!r} in the checkpoint; optax has one number, {field}, for it "
            f"and for another that is {float(held[field])!r}"
        )


def _change(
    changes: dict[str, dict[str, Any]], node: _Node, field: str, new: Any, shared: bool = False
) -> None:
    mine = changes.setdefault(node.place, {})
    if not isinstance(node.value, State):
        mine[field] = new
    elif shared:
        mine["shared"] = {**mine.get("shared", node.value.shared), field: new}
    else:
        mine["slots"] = {**mine.get("slots", node.value.slots), field: new}


def _trees(
    states: _States, owned: list[_Own], saved: Checkpoint
) -> Iterator[tuple[_Node, str, Any]]:
    """Every field that holds slots, with those of the checkpoint in it."""
    new: dict[tuple[str, str], dict[int, list[Any]]] = {}
    nodes = {}
    for at, own in enumerate(owned):
        kept = saved.parameters[own.path].slots
        slots = tensors(stepping.init_slots(own.rule, xp, own.param)) if kept is None else kept
        for slot, place in own.places.items():
            values = _native(own, slot, slots[slot], place)
            if slot in SIGNS.get(own.base.name, {}) and place.node.kind != "samestep.State":
                _refuse_other_sign(own, slot, slots)
                continue
            several = len(place.fields) > 1
            for i, field in enumerate(place.fields):
                nodes[place.node.place, field] = place.node
                mine = [values[i]] if several else values
                new.setdefault((place.node.place, field), {})[at] = mine
    for (at_place, field), arrays in new.items():
        node = nodes[at_place, field]
        leaves = [
            leaf
            for at, entry in enumerate(states.entries(node, field))
            for leaf in arrays.get(at, jax.tree.leaves(entry))
        ]
        yield node, field, jax.tree.unflatten(jax.tree.structure(_field(node, field)), leaves)


def _native(own: _Own, slot: str, value: Any, place: _Place) -> list[Any]:
    """A slot as optax keeps it: its arrays in the shapes and dtypes of those that are there."""
    parts = value if isinstance(value, tuple) else (value,)
    old = _parts(place)
    if len(old) != len(parts):
        raise CheckpointError(
            f"slot {slot} of parameter {own.path!r} has {len(parts)} parts, and {len(old)} in "
            f"{place.node.place}"
        )
    found = []
    for tensor, leaf in zip(parts, old, strict=True):
        array = _fitted(own, slot, tensor.like(leaf), tuple(leaf.shape))
        what = f"slot {slot} of parameter {own.path!r}"
        found.append(_cast(-array if place.kept.sign < 0 else array, leaf, what))
    return found


def _refuse_other_sign(own: _Own, slot: str, slots: Slots) -> None:
    """Refuse a slot that cannot be told from the sign of another."""
    other = SIGNS[own.base.name][slot]
    if numpy.any(numpy.sign(slots[slot].values()) != numpy.sign(slots[other].values())):
        raise CheckpointError(
            f"slot {slot} of parameter {own.path!r} has other signs than {other}, which is all "
            "that optax keeps of it"
        )


def _cast(array: Any, like: Any, what: str) -> Any:
    """An array in the dtype of another, if it has it exactly."""
    if not hasattr(like, "dtype") or array.dtype == like.dtype:
        return array
    made = array.astype(like.dtype)
    if bool(xp.any(made.astype(array.dtype) != array)):
        raise CheckpointError(
            f"{what} is {array.dtype} in the checkpoint and {like.dtype} in the state, which "
            "cannot hold its values"
        )
    return made


def _like(value: Any, old: Any) -> Any:
    return xp.asarray(value, xp.asarray(old).dtype)


def _counted(node: _Node, calls: int, every: int) -> dict[str, Any]:
    """The counts of a part after so many calls."""
    inside = any(above.kind == "MultiStepsState" for above in node.above)
    step = calls // every if inside else calls
    if node.kind == "MultiStepsState":
        counts = {"mini_step": calls % every, "gradient_step": calls // every}
    else:
        names = ("step",) if isinstance(node.value, State) else COUNTS
        counts = {n: step for n in names if n in getattr(node.value, "_fields", ())}
    changed: dict[str, Any] = {n: _like(c, getattr(node.value, n)) for n, c in counts.items()}
    scheduled = getattr(node.value, "hyperparams_states", None)
    if scheduled:
        changed["hyperparams_states"] = {
            name: own._replace(count=_like(step, own.count)) if hasattr(own, "count") else own
            for name, own in scheduled.items()
        }
    return changed


def _numbers(states: _States, node: _Node, owned: list[_Own], saved: Checkpoint) -> dict[str, Any]:
    """The injected numbers that a checkpoint gives."""
    mine = [own for own in owned if node in _injections(states, own)]
    there = [numbers(own.rule, saved.parameters[own.path].rule) for own in mine]
    found = dict(node.value.hyperparams)
    for name, array in node.value.hyperparams.items():
        values = set()
        for own, of in zip(mine, there, strict=True):
            target = _named(own.rule, name)
            if target is not None:
                value = of[target[0]]
                values.add(value if target[1] is None else value[target[1]])
        if len(values) == 1:
            found[name] = _like(values.pop(), array)
        elif values:
            warnings.warn(
                f"{node.place}.hyperparams keeps its own {name}; in the checkpoint its parameters "
                f"have {listed(map(repr, sorted(values)))}",
                UserWarning,
                stacklevel=4,
            )
    return found
