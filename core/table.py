"""The table of a model's parameters: the rule of each, the reason, and the bytes of its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy

from . import step as stepping
from . import tree
from .arrays import dtype_name, parts
from .kept import roles, rule_of
from .matching import unmatched
from .names import Place, unwrapped

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["named", "written"]

TITLES = ("parameter", "shape", "layout", "rule", "because of", "bytes of state")


def written(rule: Rule, params: Any) -> str:
    """The table of ``Rule.table``."""
    rows: list[tuple[str, ...]] = [TITLES]
    total, found = 0, list(named(f"{rule.name}.table", params))
    for path, array in found:
        own = rule_of(rule, path, array)
        stepping.check(own, numpy, path, array)
        size = _state_bytes(own, array.shape, dtype_name(array.dtype))
        total += size
        shape = " x ".join(map(str, array.shape)) or "0-d"
        why = ", ".join(rule.reasons(path, array.shape)) or "every parameter"
        rows.append((path, shape, roles(own, array.ndim), _nested(own), why, f"{size:,}"))
    rows.append(("", "", "", "", "total", f"{total:,}"))
    if not any(row[2] for row in rows[1:]):
        rows = [(*row[:2], *row[3:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < len(row) - 1 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([*lines, *unmatched(rule, [(path, array.shape) for path, array in found])])


def _nested(rule: Rule) -> str:
    """Name of a rule, with the names of the rules inside."""
    inside = ", ".join(map(_nested, rule.inside))
    return f"{rule.name}({inside})" if inside else rule.name


def _state_bytes(rule: Rule, shape: Any, dtype: str) -> int:
    """Bytes of state of one parameter, without making it."""
    param = numpy.broadcast_to(numpy.zeros((), getattr(_Sized(), dtype)), tuple(shape))
    slots = stepping.init_slots(rule, _Sized(), param)
    return sum(int(part.nbytes) for value in slots.values() for part in parts(value))


class _Sized:
    """NumPy, with float16 for the bfloat16 that it lacks; both have two bytes."""

    bfloat16 = numpy.float16

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


def named(who: str, params: Any) -> Iterable[tuple[str, Any]]:
    """Names and arrays, from a tree or from pairs; ``who`` begins the message of an error."""
    given = not isinstance(params, (dict, list, tuple)) and hasattr(params, "__next__")
    params = list(params) if given else params
    found: list[tuple[str, Any]]
    if isinstance(params, list) and all(map(_is_pair, params)):
        names = unwrapped([name for name, _ in params])
        found = [(name, leaf) for name, (_, leaf) in zip(names, params, strict=True)]
    elif given:  # model.parameters(), of which an optimizer knows no names
        found = [(Place(place), leaf) for place, leaf in enumerate(params)]
    else:
        found = [(tree.dotted(path), leaf) for path, leaf in tree.leaves(params)]
    for path, leaf in found:
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            what = f"parameter {path!r}" if path else "params"
            raise TypeError(
                f"{who}: {what} is {type(leaf).__name__}; give a tree (dicts, lists, "
                "tuples) of arrays, or pairs of a name and an array such as "
                "model.named_parameters(); of another tree of JAX, "
                "samestep.jax.bind(rule).table(params)"
            )
    return found


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
