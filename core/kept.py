"""How a parameter is kept, and how its rule sees it: without batch axes, the outputs first.

    layout      which axes are outputs, inputs, and the places of a convolution's kernel
    batch_axes  the axes along which whole parameters are stacked: layers, experts, heads

Both are options of every rule for which they matter, and groups set them for some parameters. What
nobody says is known from the library, or from the name of the leaf; else it is asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from . import questions
from .arrays import library_of
from .convolutions import is_kernel
from .declaration import Option
from .questions import parameter

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "KEPT",
    "LAYOUTS",
    "ORIENTED",
    "PLAIN",
    "Keeping",
    "Kept",
    "alike",
    "as_seen",
    "kept_by",
    "letters_of",
    "options",
    "orients",
    "roles",
    "rule_of",
    "said",
    "saying",
    "shortened",
    "split",
]

KEPT = ("layout", "batch_axes")
LAYOUTS = ("oi", "io", "oxi")
"""The layouts of libraries: a letter for an output, an input, and the places of a kernel (x).
``oi`` is OI and OIHW (torch, Equinox), ``io`` is IO and HWIO (Flax), ``oxi`` is OHWI (MLX)."""
LONG = {"oi": "oix", "io": "xio"}
BY_LIBRARY = {"torch": "oi", "mlx": "oxi"}
"""The layout of the libraries whose layers all have one."""
BY_NAME = {"kernel": "io", "weight": "oi", "embedding": "oi"}
"""The layout of a leaf elsewhere: of Flax or Equinox. Rows of an embedding are vectors of words."""
TRANSPOSED = re.compile("transpos|deconv", re.IGNORECASE)
"""The name of a layer that may keep its inputs before its outputs."""

ORIENTED = ("axes", "matrix")
"""The needs for which the outputs are the first axis."""
LEAST = {"axes": 2, "matrix": 2, "factored": 3}
"""The least number of axes, by need, from which it matters which axis is which."""

Shape = tuple[int, ...]


class Kept(NamedTuple):
    """The order of a parameter's axes.

    Args:
        batch: the axes along which parameters are stacked.
        turned: the order in which the other axes are seen; empty if they are kept in that order.
        outputs: how many axes of outputs there are, which are seen as one.
    """

    batch: Shape = ()
    turned: Shape = ()
    outputs: int = 1

    def order(self, ndim: int) -> Shape:
        """The kept axes in the order in which they are seen: batch, outputs, everything else."""
        own = [axis for axis in range(ndim) if axis not in self.batch]
        return (*self.batch, *([own[axis] for axis in self.turned] if self.turned else own))

    def seen(self, shape: Shape) -> Shape:
        """The shape of one of the parameters, as the rule sees it."""
        own = tuple(shape[axis] for axis in self.order(len(shape))[len(self.batch) :])
        several = self.outputs
        return own if several == 1 else (math.prod(own[:several]), *own[several:])

    def slot(self, shape: Shape, one: Any) -> Any:
        """The shape of a kept slot of a parameter, from its shape for one of the parameters.

        The batch axes of an array with the dimensions of the parameter are where they are in the
        parameter; of another array they come first.
        """
        if one and isinstance(one[0], tuple):
            return tuple(self.slot(shape, part) for part in one)
        order, stacks = self.order(len(shape)), len(self.batch)
        if self.outputs > 1 and len(one) == len(order) - stacks - self.outputs + 1:
            sizes = tuple(shape[axis] for axis in order[stacks:][: self.outputs])
            one = (*split(one[0], sizes), *one[1:])
        whole = (*(shape[axis] for axis in self.batch), *one)
        if len(whole) != len(shape):
            return whole
        placed = dict(zip(order, whole, strict=True))
        return tuple(placed[axis] for axis in range(len(shape)))


def split(size: int, sizes: Shape) -> Shape:
    """The sizes of several axes that are seen as one: those of the parameter, or 1 in its place.

    Raises:
        ValueError: a slot has another size there.
    """
    if size not in (1, math.prod(sizes)):
        raise ValueError(
            f"an array has size {size} where several axes of outputs, of sizes {sizes}, are seen "
            f"as one; it must be {math.prod(sizes)} or 1"
        )
    return sizes if size == math.prod(sizes) else (1,) * len(sizes)


PLAIN = Kept()
"""A parameter that is kept as the rule sees it."""


class Way(NamedTuple):
    """The options with which a parameter is kept, and its axes without those of a batch."""

    layout: str
    batch_axes: Shape | None
    ndim: int


@dataclass(frozen=True, eq=False)
class Keeping(Option):
    """An option that says how parameters are kept; of rules, only a factored one reads it."""


@dataclass(frozen=True, eq=False)
class _BatchAxes(Keeping):
    @property
    def range(self) -> str:
        """The allowed values in words."""
        return "an axis, a tuple of axes (whole numbers >= 0), or None"

    def validated(self, rule: str, value: Any) -> Any:
        """The value to store: the axes in ascending order."""
        axes = (value,) if isinstance(value, int) else value
        fits = isinstance(axes, (tuple, list))
        if fits and all(type(axis) is int and axis >= 0 for axis in axes):
            return tuple(sorted({*axes}))
        if value is None:
            return None
        raise self._refusal(rule, value)


@dataclass(frozen=True, eq=False)
class _Layout(Keeping):
    @property
    def range(self) -> str:
        """The allowed values in words."""
        return "one of 'oi', 'io', None, or a letter (o, i or x) for each axis, such as 'ioo'"

    def validated(self, rule: str, value: Any) -> Any:
        """The value to store."""
        if value is None:
            return None
        if isinstance(value, str) and {*"oi"} <= {*value} <= {*"oix"}:
            return next((short for short, long in LONG.items() if long == value), value)
        raise self._refusal(rule, value)


def options(need: str) -> dict[str, Option]:
    """The options of a rule that reads this much more than an element."""
    found: dict[str, Option] = {}
    if need in LEAST:
        found["layout"] = _Layout(
            None,
            "which axes are outputs (o), inputs (i) and the places of a kernel (x): outputs first "
            "(oi) or last (io); None takes it from the library, or from the name of the leaf",
            ("oi", "io", None) if need in ORIENTED else None,
        )
    if need != "element":
        found["batch_axes"] = _BatchAxes(
            None, "axes along which parameters are stacked, such as layers"
        )
    for name, option in found.items():
        option.__set_name__(Option, name)
    return found


def as_seen(rule: Any) -> dict[str, Any]:
    """The options of a rule, or of a class, with which a parameter is kept as the rule sees it."""
    kind: Any = rule if isinstance(rule, type) else type(rule)
    told = kind.tells_places if isinstance(kind.tells_places, str) else "oi"
    values = {"layout": "io" if kind.needs == "factored" else told, "batch_axes": ()}
    return {name: value for name, value in values.items() if name in rule.fields()}


def alike(name: str, saved: Mapping[str, Any], value: Any) -> bool:
    """Whether saved options mean the same as a value where the library keeps outputs first."""
    if name == "layout" and name not in saved:  # which an earlier version did not ask for
        return True
    usual: Any = "oi" if name == "layout" else ()
    return bool((saved.get(name) or usual) == (value or usual))


def orients(rule: Rule) -> bool:
    """Whether a rule, or a rule inside, sees the outputs as the first axis."""
    return rule._own_need in ORIENTED or any(map(orients, rule._through))


def _least(rule: Rule) -> float:
    """The least number of axes from which it matters which axis is which."""
    own = LEAST[rule._own_need] if "layout" in rule.fields() else math.inf
    return min(own, *map(_least, rule._through), math.inf)


def _factors(rule: Rule) -> bool:
    """Whether a rule, or a rule inside, tells inputs from the places of a kernel."""
    own = (rule._own_need == "factored" or rule.tells_places) and "layout" in rule.fields()
    return own or any(map(_factors, rule._through))


def said(rule: Rule, name: str) -> Any:
    """The value of an option in the outermost rule that has one."""
    own = rule._values.get(name)
    below = (said(inside, name) for inside in rule._through) if own is None else iter((own,))
    return next((value for value in below if value is not None), None)


def rule_of(rule: Rule, path: str, array: Any, library: str = "") -> Rule:
    """The rule of one parameter, which says how the parameter is kept.

    Args:
        rule: the rule of all parameters.
        path: the names of the parameter joined by dots.
        array: the parameter, an array of any library.
        library: the library by whose conventions it is kept, if that is not its own.

    Raises:
        ValueError: how it is kept makes a difference, and is neither said nor known.
    """
    shape: Shape = tuple(array.shape)
    own = rule.of(path, shape)
    if own.needs == "element":
        return own
    by, known = BY_LIBRARY.get(library or library_of(array.__class__)), own._variants
    key = by, path, shape
    if key not in rule._ways:
        rule._ways[key] = _way(own, path, shape, by)
    way = rule._ways[key]
    if way is None:
        return own
    if way not in known:
        layout, batch, ndim = way
        known[way] = saying(own, {"layout": layout, "batch_axes": batch}, ndim)
        vars(known[way])["_whole"] = own.whole
    variant: Rule = known[way]
    return variant


def _way(own: Rule, path: str, shape: Shape, by: str | None) -> Way | None:
    """How a parameter is kept, where its rule does not say all that makes a difference.

    ``by`` is the layout of a library, if that has one for all leaves.
    """
    from .proof import reads_order  # noqa: PLC0415 # which imports this module

    batch = said(own, "batch_axes")
    if batch and batch[-1] >= len(shape):
        raise ValueError(
            f"{own.name}: {parameter(path)} has shape {shape}; batch_axes={batch} must be axes of "
            "it, counted from 0"
        )
    ndim = len(shape) - len(batch or ())
    if ndim < _least(own):
        return None
    turns, layout = orients(own), said(own, "layout")
    exact = layout is not None and layout not in LONG and "x" not in layout
    if layout is None and turns and ndim > 2 and by != "oxi" and TRANSPOSED.search(path):
        raise questions.is_transposed(_asking(own), path, shape)
    known = layout or by or BY_NAME.get(path.rpartition(".")[2])
    if batch is None and ndim > len("oi") and not exact:
        last = known is not None and {*_letters(known, ndim)[-2:]} == {*"oi"}
        if turns or not (layout or last):  # the last two axes are factored, in a stack too
            if not is_kernel(path, shape, _letters(known or "", ndim), usual=by is not None):
                raise questions.is_stack(_asking(own), path, shape)
            batch = ()
    if known is None:
        raise questions.has_outputs(_asking(own), path, shape)
    found = ndim > len("oi") and not exact and reads_order(own, ndim)
    if isinstance(found, Exception):
        raise questions.takes_no_kernel(own.name, path, shape, found)
    if found:
        raise questions.reads_order(own.name, path, shape, turns)
    letters = _letters(known, ndim)
    if not letters:
        raise ValueError(
            f"{own.name}: {parameter(path)} has shape {shape}; layout={known!r} must have {ndim} "
            "letters, one for each axis that is no batch axis; one x stands for any number"
        )
    return Way(shortened(own, letters), batch, ndim)


def _letters(layout: str, ndim: int) -> str:
    """A letter for each axis, or nothing if a layout has another number of axes."""
    layout = LONG.get(layout, layout)
    if layout.count("x") == 1:
        layout = layout.replace("x", "x" * (ndim - len(layout) + 1))
    return layout if len(layout) == ndim else ""


def _turned(letters: str) -> Kept:
    """How the outputs come first."""
    order = sorted(range(len(letters)), key=lambda axis: letters[axis] != "o")
    return Kept((), () if order == sorted(order) else tuple(order), letters.count("o"))


def shortened(rule: Rule, letters: str) -> str:
    """The layout of a library that is the same for a rule as these letters, or the letters."""
    same: Any = str if _factors(rule) else _turned
    alike = (name for name in LAYOUTS if same(_letters(name, len(letters))) == same(letters))
    return next(alike, letters)


def saying(rule: Rule, values: dict[str, Any], ndim: int = 0) -> Rule:
    """A copy without groups, in which each rule that has these options has these values.

    A factored rule inside of one that sees the outputs first has the layout that it sees.
    """
    own = {name: value for name, value in values.items() if name in rule.fields()}
    if ndim and rule._own_need in ORIENTED and any(map(_factors, rule._through)):
        letters = _letters(values["layout"], ndim)
        turned = "".join(letters[a] for a in _turned(letters).order(ndim))
        values = values | {"layout": "o" + turned.lstrip("o")}  # several of outputs are one
    inside = tuple(saying(one, values, ndim) for one in rule.inside)
    return rule._copy({**rule._values, **own}, inside, rule.bare.groups)


def _asking(rule: Rule) -> str:
    """The name of the outermost rule to which it matters which axis is which."""
    while "layout" not in rule.fields():
        rule = next(inside for inside in rule._through if _least(inside) < math.inf)
    return rule.name


def kept_by(rule: Rule, ndim: int) -> Kept:
    """How a parameter of ``ndim`` dimensions is kept, from its rule, a result of ``rule_of``.

    Raises:
        ValueError: the rule does not say it.
    """
    if rule.needs == "element":
        return PLAIN
    if ndim not in rule._known:
        rule._known[ndim] = _kept(rule, ndim)
    found: Kept = rule._known[ndim]
    return found


def _kept(rule: Rule, ndim: int) -> Kept:
    batch = said(rule, "batch_axes") or ()
    if ndim - len(batch) < len("oi") or not orients(rule):
        return Kept(batch) if batch else PLAIN
    letters = letters_of(rule, ndim - len(batch))
    if not letters:
        raise questions.has_outputs(_asking(rule), "", (ndim,))
    return _turned(letters)._replace(batch=batch)


def letters_of(rule: Rule, ndim: int) -> str:
    """A letter for each axis but batch axes; empty if nobody says it or it makes no difference.

    Every axis that is no output counts as an input where the rule does not tell them apart.
    """
    layout = said(rule, "layout") if ndim >= _least(rule) else None
    letters = "" if layout is None else _letters(layout, ndim)
    return letters if _factors(rule) else letters.replace("x", "i")


def roles(rule: Rule, ndim: int) -> str:
    """A letter per axis: of batch, of the layout, or a dot; empty if it makes no difference."""
    batch = kept_by(rule, ndim).batch
    own = iter(letters_of(rule, ndim - len(batch)) or "." * ndim)
    found = "".join("b" if axis in batch else next(own) for axis in range(ndim))
    return found if found.strip(".") else ""
