"""One optimizer step on flat lists of arrays, which every framework's adapter executes.

    scalars     once per step and compute dtype: on the host in float64, or traced
    local       per parameter, for rules that sum over all parameters
    combine     once, on 0-d arrays
    advance     per parameter: cast to the compute dtype, run the rule, cast back

``advance`` and ``local`` are pure functions of arrays and scalars. An executor may compile them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial, reduce
from operator import add, attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from .arrays import cast, cast_like, compute_dtype, listed, widest
from .beginnings import WIDTHS, init_shared, init_slots
from .checks import FLOATING, check, check_slots
from .coefficients import Record, scalars
from .collectives import Exchange, Exchanging
from .counts import counts_of, furthest, key_of
from .kept import PLAIN, Kept, kept_by
from .moves import Moving, asked
from .placement import Mesh, Placement
from .segments import SEGMENTS, segmented
from .shaping import as_vectors, seen, stacked
from .spread import Spread

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "FLOATING",
    "WIDTHS",
    "Entry",
    "Record",
    "advance",
    "as_vectors",
    "change",
    "check",
    "check_slots",
    "compute_dtype",
    "copied",
    "entry",
    "init_shared",
    "init_slots",
    "local",
    "run",
    "scalars",
    "stacked",
    "widest",
]

Array = Any
Slots = dict[str, Any]


def advance(
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
    step: Callable[..., tuple[Array, Slots]] | None = None,
) -> tuple[Array, Slots]:
    """One parameter's step. Pure; ``common`` has the shared state and the results of ``combine``.

    ``step`` is the rule's by default. Shapes: ``grad`` and ``param`` are equal; every slot keeps
    its shape and dtype.
    """
    dtype = compute_dtype(xp, param.dtype)
    state = {**slots, **common}
    for name, value in state.items():
        state[name] = cast(xp, value, dtype)
    s = s if isinstance(s, Record) else Record(s)
    new_param, new_slots = (step or rule.step)(
        xp, cast(xp, grad, dtype), cast(xp, param, dtype), Record(state), s
    )
    if new_slots.keys() != slots.keys():
        _refuse_slots(rule, new_slots, slots)
    new_param = _kept(xp, new_param, param, (grad, param))
    taken, kept = (grad, param, new_param), {}
    for name, old in slots.items():
        kept[name] = _kept(xp, new_slots.get(name, old), old, taken)
    return new_param, kept


def change(
    xp: Any, rule: Rule, grad: Array, param: Array, slots: Slots, common: Slots, s: dict[str, Any]
) -> tuple[Array, Slots]:
    """``advance`` with the change of the parameter in place of the new parameter.

    The change is rounded to the parameter's dtype by itself.
    """
    found, new = advance(xp, rule, grad, param, slots, common, s, rule.changed)
    new.pop("moved", None)
    return found, new


def local(
    phase: int,
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> tuple[Slots, Slots]:
    """One parameter's slots after a phase, and its terms of the sums over all parameters."""
    dtype = compute_dtype(xp, param.dtype)
    state = Record({k: cast(xp, v, dtype) for k, v in {**slots, **common}.items()})
    s = s if isinstance(s, Record) else Record(s)
    new_slots, sums = rule.gather(
        xp, cast(xp, grad, dtype), cast(xp, param, dtype), state, s, phase
    )
    _refuse_slots(rule, new_slots, slots, phase)
    return {
        name: _kept(xp, new_slots.get(name, old), old, (grad, param)) for name, old in slots.items()
    }, sums


def _refuse_slots(rule: Rule, returned: Slots, kept: Slots, phase: int | None = None) -> None:
    """Raise if a step, or ``local`` in a phase, returned an unknown slot, or left one out.

    A rule that sums over parameters may return some slots in ``local``, others in ``direction``;
    none returns a slot that is fixed.
    """
    left_out = kept.keys() - returned.keys() - rule.fixed_slots
    if returned.keys() - kept.keys() or (left_out and not rule.reduces):
        raise ValueError(
            f"{_method(rule, phase)} returned slots {listed(returned)}; {rule.name} keeps "
            f"{listed(kept)}"
        )


def _method(rule: Rule, phase: int | None) -> str:
    """The author's method that returns the slots of a step, or of a phase."""
    while rule.inside:
        sums = int(rule._own_need == "tree")
        if type(rule).step is not Moving.step if phase is None else phase < sums:
            break
        phase, rule = phase and phase - sums, rule.inside[0]
    if phase is not None:
        return f"{rule.name}.local"
    return f"{rule.name}.{'direction' if type(rule).step is Moving.step else 'step'}"


def entry(
    rule: Rule,
    xp: Any,
    path: str,
    step: Any,
    grad: Array,
    param: Array,
    slots: Slots,
    placement: Placement | None = None,
) -> Entry:
    """One parameter's entry, checked; ``path`` is its name in messages.

    ``rule`` says how the parameter is kept, as a result of ``kept.rule_of`` does.

    Raises:
        TypeError, ValueError: a dtype, a shape or a state that the rule cannot take.
    """
    check(rule, xp, path, param, grad)
    check_slots(rule, path, slots, placement or param.shape)
    kept = kept_by(rule, param.ndim)
    return Entry(rule, step, grad, param, slots, kept, placement=placement)


def _combined(
    phase: int,
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> tuple[Slots, Slots]:
    """What all parameters share after a phase; ``slots`` has the terms of each sum."""
    totals = {name: reduce(add, terms) for name, terms in slots.items()}
    s = s if isinstance(s, Record) else Record(s)
    return slots, rule.summed(xp, Record(totals), Record(common), s, phase)


@cache
def _of(phase: int, function: Callable[..., Any] = local) -> Callable[..., Any]:
    return partial(function, phase)


def _kept(xp: Any, value: Any, like: Any, taken: tuple[Array, ...]) -> Any:
    """An array, or a tuple of arrays, in the dtype of ``like``.

    An array in ``taken`` is copied, since the caller holds it and may write into it.
    """
    if isinstance(like, (tuple, list)):
        return tuple([_kept(xp, *pair, taken) for pair in zip(value, like, strict=True)])
    value = cast(xp, value, like.dtype)
    for array in taken:
        if value is array:
            return copied(xp, value)
    return value


def copied(xp: Any, value: Array) -> Array:
    """The same values in memory of their own."""
    graph = getattr(value, "requires_grad", False)  # from which torch.asarray cuts a copy
    return 1 * value if graph else xp.asarray(value, copy=True)


class Entry(NamedTuple):
    """One parameter in a step.

    ``step``: its ``Counts``, or a number where it has taken a step in every call. ``kept``: how it
    is kept. ``stacked``: the arrays hold several parameters of one shape, along a new first axis.
    ``placement``: which piece of it the arrays are. ``copies``: who else has the whole.
    """

    rule: Rule
    step: Any
    grad: Array
    param: Array
    slots: Slots
    kept: Kept = PLAIN
    stacked: bool = False
    placement: Placement | None = None
    copies: Mesh | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the parameter has no elements."""
        return 0 in (self.param if self.placement is None else self.placement).shape


def run(
    xp: Any,
    entries: Sequence[Entry],
    common: Slots,
    kernel: Callable[[Callable[..., Any], Any, Rule], Callable[..., Any]] = partial,
    enter: Callable[[dict[str, Any], Array], Any] | None = Record,
    *,
    vmap: Callable[..., Any] | None = None,
    step: Callable[..., tuple[Array, Slots]] | None = None,
    spread: Spread | None = None,
    exchange: Exchange | None = None,
    totals: Any = None,
    scalars: Callable[..., dict[str, Any]] = scalars,
) -> tuple[Iterator[tuple[Array, Slots]], Slots]:
    """One step over a list of parameters. Nothing passed in is changed.

    Args:
        xp: array namespace.
        entries: one entry per parameter.
        common: shared state.
        kernel: makes an executable, such as a compiled one, of ``advance`` or ``local``, the
            namespace and the rule. By default the function itself is executed.
        enter: converts a step's scalars for the kernel of a parameter, to 0-d arrays for example;
            it is called for all parameters before a kernel is. ``Record`` makes one of them for
            all parameters; ``None`` leaves them a dict.
        vmap: the framework's function, for stacked entries and batch axes.
        step: ``change``; by default ``advance``.
        spread: the devices of the parameters, where there are several.
        exchange: the other processes, where parameters have a placement.
        totals: the framework's function of sums of segments, for entries with ``SEGMENTS``.
        scalars: computes the coefficients of a rule, as the function of this name does.

    Returns:
        An iterator over new parameters, or their changes, and slots, each computed when it is
        reached, and the new shared state.
    """
    step = advance if step is None else step
    known: dict[Any, dict[str, Any]] = {}
    entered: dict[int, Any] = {}
    kernels: dict[Any, Callable[..., Any]] = {}
    before, visible = common, dict(common)

    def coefficients(entry: Entry, place: Any = None) -> dict[str, Any]:
        dtype = compute_dtype(xp, entry.param.dtype)
        count = entry.step if isinstance(entry.step, int) else key_of(entry.step)
        if spread is not None and place is None:
            place = spread.where(entry.param)
        key = id(entry.rule), count, dtype, place
        if key not in known:
            given = entry.rule, entry.step, before
            now, counts, shared = given if spread is None else spread.given(place, *given)
            known[key] = scalars(now, xp, counts, dtype, shared)
        return known[key]

    def execute(function: Callable[..., Any], entry: Entry, made: Any = None) -> Any:
        rule, _, grad, param, slots, kept, stack, placement, _ = entry
        if function is step and 0 in param.shape and (placement is None or entry.is_empty):
            return param, slots
        if placement is not None and exchange is None and rule.needs != "element":
            raise ValueError(
                f"{rule.name}: a process has a piece of a parameter of shape {placement.shape}, "
                f"and {rule.name} needs more than an element; give step.run an exchange"
            )
        several = SEGMENTS in slots
        key = made or function, id(rule), kept, stack, several
        if key not in kernels:
            whole = made or (function if kept == PLAIN else seen(function, kept, vmap))
            whole = segmented(whole, totals) if several else whole
            kernels[key] = kernel(stacked(whole, vmap) if stack else whole, xp, rule.bare)
        s: Any = coefficients(entry)
        if enter is not None:
            s = entered[id(s)]
        common = visible if rule.phases else {}
        if spread is not None:
            common = spread.shared(spread.where(param), common)
        return kernels[key](grad, param, slots, common, s)

    if step is change and any(map(attrgetter("rule.steps_early"), entries)):
        entries = [asked(xp, e, compute_dtype(xp, e.param.dtype)) for e in entries]
    for entry in entries:  # a schedule that fails does so before anything is computed
        s = coefficients(entry)
        if enter is not None and id(s) not in entered:
            entered[id(s)] = enter(s, entry.param)
    exchanging = None
    if exchange is not None:
        exchanging = Exchanging(xp, exchange, execute, coefficients, visible, vmap)
    if any(map(attrgetter("rule.phases"), entries)):
        compiles = getattr(kernel, "combines", lambda array: False)
        given = execute, coefficients, entered, compiles, spread, exchanging
        entries, common = _summed(xp, entries, common, visible, *given)
    if exchanging is not None:
        return exchanging.results(step, entries), common
    return map(partial(execute, step), entries), common


def _summed(
    xp: Any,
    entries: Sequence[Entry],
    common: Slots,
    visible: Slots,
    execute: Callable[..., Any],
    coefficients: Callable[..., dict[str, Any]],
    entered: Mapping[int, Any],
    compiles: Callable[[Array], bool],
    spread: Spread | None,
    exchanging: Exchanging | None,
) -> tuple[list[Entry], Slots]:
    """The entries with their slots after the sums over all parameters, and the new shared state.

    ``compiles``: whether the sums are combined by a kernel too, if coefficients have entered it.
    ``visible``, which ``execute`` shows to the rules, is updated in place after each phase. Of
    several devices the sums meet on one, where they are added in the order of the entries.
    """
    entries = list(entries)
    home = None if spread is None else spread.home
    if spread is not None:
        visible |= spread.shared(home, visible)
    for phase in range(max(entry.rule.phases for entry in entries)):
        places = [
            place
            for place, entry in enumerate(entries)
            if entry.rule.phases > phase and not entry.is_empty
        ]
        if not places:
            continue
        summed = [entries[place] for place in places]
        wide = widest(xp, [entry.param for entry in summed])
        if exchanging is None:
            parts = [execute(_of(phase), entry) for entry in summed]
        else:
            parts = [*exchanging.results(_of(phase), summed)]
        for place, (slots, _) in zip(places, parts, strict=True):
            entries[place] = entries[place]._replace(slots=slots)
        sums = [{name: cast(xp, value, wide) for name, value in part.items()} for _, part in parts]
        if exchanging is not None:
            sums = exchanging.terms(_of(phase), summed, sums)
        if spread is not None:
            sums = spread.together(home, sums)
            steps = spread.counts(home, [entry.step for entry in summed])
            pairs = zip(summed, steps, strict=True)
            summed = [entry._replace(step=there) for entry, there in pairs]
        terms = {name: tuple(own[name] for own in sums) for name in sums[0]}
        first = _furthest(xp, summed, wide)
        some = next((own[0] for own in terms.values()), first.param)
        first = Entry(first.rule.whole, first.step, some, some, terms)
        if compiles(some) and id(coefficients(first, home)) in entered:
            _, new = execute(_of(phase, _combined), first)
        else:
            s = coefficients(first, home)
            _, new = _combined(phase, xp, first.rule.bare, some, some, terms, visible, s)
        visible |= new if exchanging is None else exchanging.agreed(first, new)
        common = {name: cast_like(xp, visible[name], old) for name, old in common.items()}
    return entries, common


def _furthest(xp: Any, entries: Sequence[Entry], wide: Any) -> Entry:
    """An entry of the widest dtype, with the counts of the one that has taken the most steps."""
    candidates = [e for e in entries if compute_dtype(xp, e.param.dtype) == wide]
    counts = {key_of(e.step): counts_of(e.step) for e in candidates}.values()
    return candidates[0]._replace(step=furthest(xp, counts)) if len(counts) > 1 else candidates[0]
