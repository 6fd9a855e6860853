"""How frameworks' own layers name their parameters and order their axes, as rules of a map.

A letter is an axis: output, input, depth, height, width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from samestep.spelling import did_you_mean

__all__ = ["FRAMEWORKS", "between"]


@dataclass(frozen=True)
class _Layout:
    framework: str
    """Its name in ``Checkpoint.layout``."""
    kernels: tuple[str, ...]
    """Axes of a weight with two, three, four and five dimensions."""
    kernel: str = "weight"
    scale: str = "weight"
    embedding: str = "weight"
    prefix: str = ""

    @property
    def tells_apart(self) -> bool:
        """Whether the name of a weight tells its kind."""
        return self.kernel != self.embedding


OUTPUT_FIRST = ("OI", "OIW", "OIHW", "OIDHW")
OUTPUT_LAST = ("IO", "WIO", "HWIO", "DHWIO")

FRAMEWORKS = {
    "torch": _Layout("torch", OUTPUT_FIRST),
    "equinox": _Layout("jax", OUTPUT_FIRST),
    "mlx": _Layout("mlx", ("OI", "OWI", "OHWI", "ODHWI")),
    "flax": _Layout("jax", OUTPUT_LAST, "kernel", "scale", "embedding", "params."),
    "nnx": _Layout("jax", OUTPUT_LAST, "kernel", "scale", "embedding"),
}


def between(
    source: str, target: str, embeddings: Sequence[str]
) -> tuple[list[dict[str, Any]], tuple[str, str]]:
    """Rules from one framework's layers to another's, and the layouts of their checkpoints."""
    for name in (source, target):
        if not isinstance(name, str) or name not in FRAMEWORKS:
            raise ValueError(
                f"there are no layers of {name!r}; there are {', '.join(FRAMEWORKS)}"
                + did_you_mean(name, FRAMEWORKS, quoted=True)
            )
    old, new = FRAMEWORKS[source], FRAMEWORKS[target]
    found = _rules(old, new, embeddings)
    rules = [rule for rule in found if "transpose" in rule or rule["from"] != rule["to"]]
    return rules, (old.framework, new.framework)


def _rules(old: _Layout, new: _Layout, embeddings: Sequence[str]) -> Iterator[dict[str, Any]]:
    def rule(leaf: str, ndim: int, module: str = "{module...}") -> dict[str, Any]:
        names = (f"{one.prefix}{module}.{getattr(one, leaf)}" for one in (old, new))
        return {"from": next(names), "to": next(names), "ndim": ndim}

    if old.tells_apart != new.tells_apart:
        yield from (rule("embedding", 2, module) for module in embeddings)
    for axes, wanted in zip(old.kernels, new.kernels, strict=True):
        order = [axes.index(axis) for axis in wanted]
        turned = {"transpose": order} if order != sorted(order) else {}
        yield rule("kernel", len(axes)) | turned
    yield rule("scale", 1)
    if old.tells_apart:  # behind kernels, so that the way back takes a weight for a kernel
        yield rule("embedding", 2)
    yield {"from": f"{old.prefix}{{rest...}}", "to": f"{new.prefix}{{rest...}}"}
