"""A rule on the piece of a parameter: what it asks other processes for, and with what they answer.

An exchange has a level: it depends on the results of exchanges of lower levels only. For each level
the rule's own arithmetic is executed on the piece, up to what that level sends; the rest is
computed again later, and not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .arrays import known, map_parts
from .coefficients import Record
from .kept import Kept
from .once import once
from .placed import (
    Axes,
    NotLocalError,
    Placed,
    as_placed,
    axis_of,
    fitted,
    is_cut,
    over_of,
)
from .placed_namespace import IDENTITY, Namespace
from .placement import Mesh, Part, Placement
from .shaping import EXCHANGED, seen, started

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["Noting", "Plan", "Request", "begun", "called", "placed"]

Array = Any
Slots = dict[str, Any]


class Request(NamedTuple):
    """An exchange: what a step asks for at some place.

    Args:
        level: the number of exchanges, one after another, that end with it.
        kind: the reduction, ``"sum"``, ``"max"``, ``"min"`` or ``"prod"``; or ``"whole"``.
        over: the dimensions of the mesh.
        axes: the axes of the result.
        call: a function of a whole array, and its other arguments.
    """

    level: int
    kind: str
    over: tuple[int, ...]
    axes: Axes
    call: Any = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The result with an axis for each part."""
        return tuple(part for axis in self.axes for part in axis)


Plan = tuple[Request, ...]


class _Enough(Exception):  # noqa: N818 # it ends an evaluation, and is no error
    """A level has all that it sends."""


class Noting:
    """In place of an exchange: notes the requests; a partial result stands for each answer."""

    def __init__(self) -> None:
        self.requests: list[Request] = []


class Tape:
    """The exchanges of one evaluation of a rule on a piece.

    Args:
        xp: the array namespace.
        placement: of the parameter.
        plan: the exchanges, or ``None`` where they are to be found.
        level: the level whose partial results are asked for; 0 for none.
        known: the results of the exchanges of lower levels, or of all, level by level.
        immediate: makes an exchange while the rule is executed, where a framework traces that.
    """

    def __init__(
        self,
        xp: Any,
        placement: Placement,
        plan: Plan | None,
        level: int = 0,
        known: Sequence[Array] = (),
        immediate: Any = None,
    ) -> None:
        self.xp, self.mesh, self.apart = xp, placement.mesh, placement.apart
        self.shares = placement.shares
        self.plan, self.level, self.known, self.immediate = plan, level, known, immediate
        self.noted: list[Request] = []
        self.sent: dict[str, Array] = {}
        self.wanted = 0
        if plan is not None:
            order = sorted(range(len(plan)), key=lambda at: (plan[at].level, at))
            self.places = {at: place for place, at in enumerate(order)}
            self.wanted = sum(request.level == level for request in plan)

    def reduced(
        self,
        kind: str,
        piece: Callable[[], Array],
        axes: Axes,
        over: tuple[int, ...],
        level: int,
    ) -> Placed:
        """The result of a reduction over axes that are cut."""
        if self.immediate is not None:
            total = self.immediate.total(self.mesh, kind, over, piece())
            return self._found(total, axes, level + 1)
        return self._met(Request(level + 1, kind, over, axes), piece)

    def whole(
        self, function: Callable[..., Any], xp: Any, matrix: Placed, *args: Any, **kwargs: Any
    ) -> Placed:
        """The result of a function of one whole array, of the shape of that.

        Raises:
            NotLocalError: another argument is an array.
        """
        if any(isinstance(value, Placed) for value in (*args, *kwargs.values())):
            raise NotLocalError(f"{function.__name__} of {matrix!r} is given another array")
        call = function, args, tuple(sorted(kwargs.items()))
        if not (self.shares or any(map(is_cut, matrix.axes))):
            return matrix.like(called(self.xp, call, matrix.local))
        request = Request(matrix.level + 1, "whole", over_of(matrix.axes), matrix.axes, call)
        if self.immediate is None:
            return self._met(request, lambda: matrix.local)
        parts = request.parts
        sizes = tuple(part.length(self.mesh) for part in parts)

        def of_parts(array: Array) -> Array:
            shaped = self.xp.reshape(array, matrix.shape)
            return self.xp.reshape(called(self.xp, call, shaped), array.shape)

        local = self.xp.reshape(matrix.local, sizes)
        cuts = tuple(part.cut for part in parts)
        local = self.immediate.whole(self.mesh, cuts, of_parts, local)
        return self._found(local, matrix.axes, matrix.level + 1)

    def _met(self, request: Request, piece: Callable[[], Array]) -> Placed:
        """What has been answered to a request, or the part of it that is here."""
        place = len(self.noted)
        self.noted.append(request)
        if self.plan is None:
            total = piece()
        elif self.level and request.level >= self.level:
            total = piece()
            if request.level == self.level:
                self.sent[str(place)] = total
                if len(self.sent) == self.wanted:
                    raise _Enough
        else:
            total = self.known[self.places[place]]
        return self._found(total, request.axes, request.level)

    def _found(self, total: Array, axes: Axes, level: int) -> Placed:
        found = Placed(total, axes, self, level)
        sizes = found.sizes()
        if tuple(total.shape) != sizes:  # a rule that sees no axes may be given vectors
            found.local = self.xp.reshape(total, sizes)
        return found


def called(xp: Any, call: Any, array: Array) -> Array:
    """The result of the function of a request."""
    function, args, kwargs = call
    return function(xp, array, *args, **dict(kwargs))


@once
def placed(
    function: Callable[..., Any],
    kept: Kept,
    vmap: Callable[..., Any] | None,
    placement: Placement,
    of_slots: Any,
    plan: Plan | None,
    level: int = 0,
    immediate: Any = None,
) -> Callable[..., Any]:
    """``advance`` or ``local`` on the piece of a parameter that is kept in some way.

    With a ``level`` its partial results are returned as ``local`` returns terms. The results of the
    exchanges are beside the slots, as ``EXCHANGED``. ``of_slots`` has the axes of every slot. The
    result is cached, so that kernels can be cached by it.
    """
    own, one = kept._replace(batch=()), placement.one(kept)
    alone = seen(function, own)
    found: Any = partial(_on_piece, alone, one, of_slots, plan, level, immediate)
    found.stacks, found.sends, found.placed = False, bool(level), True
    return seen(cast("Callable[..., Any]", found), Kept(kept.batch), vmap)


def _on_piece(
    function: Callable[..., Any],
    placement: Placement,
    of_slots: Any,
    plan: Plan | None,
    level: int,
    immediate: Any,
    xp: Any,
    rule: Rule,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> Any:
    """The function of placed arrays, and its results as pieces that are cut as the arguments."""
    notes = immediate if isinstance(immediate, Noting) else None
    immediate = None if notes else immediate
    tape = Tape(xp, placement, plan, level, slots.get(EXCHANGED, ()), immediate)
    axes, own = _axes(placement, dict(of_slots), param)

    def shown(array: Array, axes: Axes) -> Placed:
        return Placed(array, axes, tape)

    arrays = {name: value for name, value in slots.items() if name != EXCHANGED}
    try:
        first, second = function(
            Namespace(tape),
            rule,
            shown(grad, axes),
            shown(param, axes),
            {name: map_parts(shown, value, own(name, value)) for name, value in arrays.items()},
            _shown(tape, common),
            _shown(tape, s),
        )
    except _Enough:
        return slots, tape.sent
    if notes:
        notes.requests = tape.noted
    if level:
        return slots, tape.sent
    new = first if isinstance(first, dict) else second
    pieces = {
        name: map_parts(partial(_piece, xp), value, own(name, slots[name]), slots[name])
        for name, value in new.items()
    }
    pieces |= {name: slots[name] for name in (EXCHANGED,) if name in slots}
    if isinstance(first, dict):  # local: slots and sums
        return pieces, {name: value.local for name, value in second.items()}
    return _piece(xp, first, axes, param), pieces


def _piece(xp: Any, value: Placed, axes: Axes, old: Array) -> Array:
    """The piece of a result that takes the place of an array."""
    local = fitted(value, axes).local
    return local if tuple(local.shape) == tuple(old.shape) else xp.reshape(local, old.shape)


def _shown(tape: Tape, value: Any) -> Any:
    """Numbers of a step, in dicts and tuples too, with arrays as placed ones."""
    if isinstance(value, Record):
        found = Record({})
        vars(found).update({name: _shown(tape, each) for name, each in vars(value).items()})
        return found
    if isinstance(value, dict):
        return {name: _shown(tape, each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_shown(tape, each) for each in value)
    return as_placed(value, tape) if hasattr(value, "dtype") else value


def _axes(placement: Placement, known: Slots, param: Array) -> tuple[Axes, Callable[..., Any]]:
    """The axes of the parameter, and a function that gives those of a slot of some name and value.

    A rule that sees no axes may be given a parameter as a vector.
    """
    axes = placement.axes
    if param.ndim != len(axes):
        axes = (axis_of([part for axis in axes for part in axis]),)
        known = {}

    def own(name: str, value: Any) -> Any:
        found = known.get(name)
        return map_parts(lambda one: axes if one.ndim else (), value) if found is None else found

    return axes, own


def begun(
    rule: Rule,
    name: str,
    make: Callable[..., Any],
    kept: Kept,
    placement: Placement,
    immediate: Any,
    numberwise: bool,
    xp: Any,
    param: Array,
) -> Any:
    """The first value of a slot, from the piece of a parameter without batch axes.

    Raises:
        ValueError: it depends on the values of other pieces.
    """
    own, one = kept._replace(batch=()), placement.one(kept)
    tape = Tape(xp, one, None, immediate=immediate or _Zeros(xp, rule, name))
    axes, of_slot = _axes(one, one.slots(rule, own), param)

    def first(seen: Placed) -> Any:
        return make(Namespace(tape), seen, rule.owner(name))

    try:
        value = started(Namespace(tape), first, Placed(param, axes, tape), own, numberwise)
    except NotLocalError as error:
        raise _unknown(rule, name) from error
    return map_parts(lambda part, axes: fitted(part, axes).local, value, of_slot(name, value))


class _Zeros:
    """In place of exchanges: sums of zeros, which are known."""

    def __init__(self, xp: Any, rule: Rule, name: str) -> None:
        self.xp, self.rule, self.name = xp, rule, name

    def total(self, mesh: Mesh, kind: str, over: tuple[int, ...], partial: Array) -> Array:
        """The sum of zeros."""
        nothing = (partial == 0) | (partial == IDENTITY.get(kind, 0))
        if not known(self.xp.all(nothing)):
            raise _unknown(self.rule, self.name)
        return self.xp.zeros_like(partial)


def _unknown(rule: Rule, slot: str) -> ValueError:
    return ValueError(
        f"{rule.name}: the first value of slot {slot} is computed from all of a parameter, of "
        "which this process has a piece; make it with xp.zeros(shape, dtype=param.dtype)"
    )
