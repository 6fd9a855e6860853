"""How a parameter is kept, and how its rule sees it: without batch axes, the outputs first.

    layout      the end of a shape at which the output axis is: "oi" (first) or "io" (last)
    batch_axes  the axes along which whole parameters are stacked: layers, experts, heads

Both are options of every rule for which they matter, and groups set them for some parameters. What
nobody says is known from the library, or from the name of the leaf; else it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from .convolutions import is_kernel
from .declaration import Option
from .names import Place

if TYPE_CHECKING:
    from .rule import Rule

__all__ = [
    "AS_SEEN",
    "KEPT",
    "LAYOUTS",
    "ORIENTED",
    "PLAIN",
    "Keeping",
    "Kept",
    "alike",
    "kept_by",
    "options",
    "orients",
    "roles",
    "rule_of",
    "said",
    "saying",
]

AS_SEEN: Mapping[str, Any] = {"layout": "oi", "batch_axes": ()}
"""The options of a parameter that is kept as its rule sees it."""
KEPT = (*AS_SEEN,)
"""The names of the options."""
LAYOUTS = ("oi", "io")
"""``oi``: output axis first (weights of torch, MLX, Equinox; kernels OIHW and OHWI).
``io``: output axis last (kernels of Flax, HWIO)."""

OUTPUTS_FIRST = ("torch", "mlx")
"""The libraries whose layers all keep their outputs first."""
BY_NAME = {"kernel": "io", "weight": "oi", "embedding": "oi"}
"""The layout of a leaf elsewhere: a kernel of Flax, a weight of Equinox, or an embedding of Flax,
whose rows are the vectors of words."""

ORIENTED = ("axes", "matrix")
"""The needs for which it matters which axis has the outputs."""

Shape = tuple[int, ...]


class Kept(NamedTuple):
    """The order of a parameter's axes.

    Args:
        batch: the axes along which parameters are stacked.
        last: whether the outputs are the last of the other axes, not the first.
    """

    batch: Shape = ()
    last: bool = False

    def order(self, ndim: int) -> Shape:
        """The kept axes in the order in which they are seen: batch, outputs, everything else."""
        own = [axis for axis in range(ndim) if axis not in self.batch]
        return (*self.batch, *own[-1:], *own[:-1]) if self.last else (*self.batch, *own)

    def seen(self, shape: Shape) -> Shape:
        """The shape of one of the parameters, as the rule sees it."""
        return tuple(shape[axis] for axis in self.order(len(shape))[len(self.batch) :])

    def slot(self, shape: Shape, one: Any) -> Any:
        """The shape of a kept slot of a parameter, from its shape for one of the parameters.

        The batch axes of an array with the dimensions of the parameter are where they are in the
        parameter; of another array they come first.
        """
        if one and isinstance(one[0], tuple):
            return tuple(self.slot(shape, part) for part in one)
        whole = (*(shape[axis] for axis in self.batch), *one)
        if len(whole) != len(shape):
            return whole
        sizes = dict(zip(self.order(len(shape)), whole, strict=True))
        return tuple(sizes[axis] for axis in range(len(shape)))


PLAIN = Kept()
"""A parameter that is kept as the rule sees it."""


@dataclass(frozen=True, eq=False)
class Keeping(Option):
    """An option that says how parameters are kept; the arithmetic of a rule never reads it."""


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
        raise ValueError(
            f"{rule}({self.name}={value!r}): {self.name} must be {self.range} ({self.meaning})"
        )


def options(need: str) -> dict[str, Option]:
    """The options of a rule that reads this much more than an element."""
    found: dict[str, Option] = {}
    if need in ORIENTED:
        found["layout"] = Keeping(
            None,
            "whether the output axis comes first (oi) or last (io); None takes it from the "
            "library, or from the name of the leaf",
            (*LAYOUTS, None),
        )
    if need != "element":
        found["batch_axes"] = _BatchAxes(
            None, "axes along which parameters are stacked, such as layers"
        )
    for name, option in found.items():
        option.__set_name__(Option, name)
    return found


def alike(name: str, one: Any, other: Any) -> bool:
    """Whether two values of an option mean the same where the library keeps outputs first."""
    usual = AS_SEEN[name]
    return bool((one or usual) == (other or usual))


def orients(rule: Rule) -> bool:
    """Whether it matters to a rule, or to a rule inside, which axis has the outputs."""
    return rule._own_need in ORIENTED or any(map(orients, rule._through))


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
    shape = tuple(array.shape)
    own = rule.of(path, shape)
    if own.needs == "element":
        return own
    batch = said(own, "batch_axes")
    if batch and batch[-1] >= len(shape):
        raise ValueError(
            f"{own.name}: {_parameter(path)} has shape {shape}; batch_axes={batch} must be axes of "
            "it, counted from 0"
        )
    if not orients(own) or len(shape) - len(batch or ()) < len("oi"):
        return own
    kind: Any = type(array)
    library = library or _library(kind)
    first = library in OUTPUTS_FIRST
    layout = said(own, "layout") or ("oi" if first else BY_NAME.get(path.rpartition(".")[2]))
    if batch is None and len(shape) > len("oi"):
        places = "x" * (len(shape) - len("oi"))
        letters = {"oi": f"oi{places}", "io": f"{places}io"}.get(layout or "", "")
        letters = f"o{places}i" if library == "mlx" else letters
        batch = _no_stack(own, path, shape, letters, first)
    if layout is None:
        raise _unknown_layout(own, path, shape)
    key = layout, batch
    if key not in own._variants:
        own._variants[key] = saying(own, {"layout": layout, "batch_axes": batch})
        vars(own._variants[key])["_whole"] = own.whole
    return own._variants[key]


def saying(rule: Rule, values: dict[str, Any]) -> Rule:
    """A copy in which each rule that has these options has these values."""
    own = {name: value for name, value in values.items() if name in rule.fields()}
    inside = tuple(saying(one, values) for one in rule.inside)
    return rule._copy({**rule._values, **own}, inside)


@cache
def _library(kind: type) -> str:
    """The library of an array, by the modules of its classes."""
    roots = [base.__module__.partition(".")[0] for base in kind.__mro__]
    return next((root for root in roots if root in OUTPUTS_FIRST), roots[0])


def _no_stack(rule: Rule, path: str, shape: Shape, letters: str, first: bool) -> Shape:
    """No batch axes for the kernel of a convolution."""
    if is_kernel(path, shape, letters, usual=first):
        return ()
    who = _oriented(rule).name
    said = _group(path, shape, "batch_axes", "0")
    raise ValueError(
        f"{who}: {_parameter(path)} has shape {shape}; {who} must know whether that is a stack of "
        f"matrices. Say {said} if layers or experts are stacked along axis 0, and batch_axes () if "
        "it is one parameter, such as a convolution kernel; or give "
        f"{who}(batch_axes=...) for all parameters"
    )


def _unknown_layout(rule: Rule, path: str, shape: Shape) -> ValueError:
    who = _oriented(rule).name
    said = _group(path, shape, "layout", repr("oi"))
    return ValueError(
        f"{who}: {_parameter(path)} has shape {shape}; {who} must know which axis has its outputs, "
        f"and the name does not say it. Say {said} if they come first (torch, MLX, Equinox), and "
        f"layout 'io' if they come last (Flax); or give {who}(layout=...) for all parameters"
    )


def _oriented(rule: Rule) -> Rule:
    """The outermost rule to which it matters which axis has the outputs."""
    while rule._own_need not in ORIENTED:
        rule = next(filter(orients, rule._through))
    return rule


def _parameter(path: str) -> str:
    return f"parameter {path!r}" if path else "the parameter"


def _group(path: str, shape: Shape, option: str, value: str) -> str:
    named = path and not isinstance(path, Place)
    where = f"path={path!r}" if named else f"ndim={len(shape)}"
    return f"groups=[(Where({where}), {{{option!r}: {value}}})]"


def kept_by(rule: Rule, ndim: int) -> Kept:
    """How a parameter of ``ndim`` dimensions is kept, from its rule, a result of ``rule_of``.

    Raises:
        ValueError: the rule does not say it.
    """
    if rule.needs == "element":
        return PLAIN
    batch = said(rule, "batch_axes") or ()
    if ndim - len(batch) < len("oi") or not orients(rule):
        return Kept(batch) if batch else PLAIN
    layout = said(rule, "layout")
    if layout is None:
        raise _unknown_layout(rule, "", (ndim,))
    return Kept(batch, layout == "io") if batch or layout == "io" else PLAIN


def roles(rule: Rule, ndim: int) -> str:
    """A letter per axis, of batch, outputs, inputs, or a dot; empty if it makes no difference."""
    kept = kept_by(rule, ndim)
    oriented = orients(rule) and ndim - len(kept.batch) > 1
    if not (oriented or kept.batch):
        return ""
    inputs = ndim - len(kept.batch) - 1
    seen = "b" * len(kept.batch) + ("o" + "i" * inputs if oriented else "." * (inputs + 1))
    letters = dict(zip(kept.order(ndim), seen, strict=True))
    return "".join(letters[axis] for axis in range(ndim))
