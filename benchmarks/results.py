"""The rows of a measurement, and the file that keeps them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from samestep.checkpoints.replacing import replace_text
from samestep.parity.environment import processor, system, versions

from .models import IMPORT, MODELS
from .targets import TARGETS, Target
from .timing import Spread

__all__ = ["Results", "Row", "Verdict", "commit", "concerns", "judged", "machine"]

PACKAGES = (
    *("samestep", "numpy", "torch", "jax", "jaxlib", "optax", "mlx"),
    *("pytorch-optimizer", "timm", "torch-optimi"),
)


@dataclass(frozen=True)
class Verdict:
    """A figure of a row, and its limit."""

    figure: str
    at_most: float
    value: float

    @property
    def reached(self) -> bool:
        """Whether the figure is within its limit."""
        return self.value <= self.at_most


@dataclass(frozen=True)
class Row:
    """One optimizer step of ours, compared with a step of another library and a plain copy."""

    framework: str
    rule: str
    model: str
    dtype: str
    execution: str
    library: str
    """The library of the opponent; for a rule that no library has, the copy."""
    variant: str = ""
    """The library's own way of executing."""
    device: str = "cpu"
    tensors: int = 0
    elements: int = 0
    bytes_per_parameter: float | None = None
    rounds: int = 0
    ours_ms: float | None = None
    theirs_ms: float | None = None
    ratio: Spread | None = None
    copy_ms: float | None = None
    copy_ratio: Spread | None = None
    first_seconds: float | None = None
    """Seconds of the first step, in which a compiler works."""
    theirs_first_seconds: float | None = None
    ours_peak: int | None = None
    """Bytes of an accelerator that a step takes at most: parameters, gradients, state and what is
    computed on the way. ``None`` where nobody counts."""
    theirs_peak: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    error: str = ""
    """The reason if there is no figure."""

    @property
    def against(self) -> str:
        """The library with its variant."""
        return f"{self.library} {self.variant}".strip()

    @property
    def title(self) -> str:
        """The name of the model in tables."""
        return MODELS[self.model].title

    @property
    def size(self) -> int:
        """The number of tensors or elements, for a model of several sizes."""
        return self.tensors if self.model == "tensors" else self.elements

    @property
    def timed(self) -> str:
        """The rule, and the size if the model has several."""
        if self.model == IMPORT:
            return f"import samestep.{self.framework}"
        grows = len(MODELS[self.model].sizes) > 1
        return f"{self.rule}, n = {self.size:,}" if grows else self.rule

    def __str__(self) -> str:
        parts = (self.framework, self.timed, self.title, self.dtype, self.execution, "against")
        return " ".join(filter(None, (*parts, self.against)))

    def figure(self, name: str) -> float | None:
        """One of the figures that targets are about."""
        if name == "first_ratio":
            both = self.first_seconds and self.theirs_first_seconds
            return self.first_seconds / self.theirs_first_seconds if both else None  # type: ignore[operator]
        found = getattr(self, name)
        return found.median if isinstance(found, Spread) else found


def concerns(target: Target, row: Row) -> bool:
    """Whether a target is about a row."""
    return bool(
        target.framework == row.framework
        and target.device == row.device
        and target.execution in ("", row.execution)
        and (not target.against or {row.library, row.against} & {*target.against})
        and (not target.rules or row.rule in target.rules)
        and (not target.models or row.model in target.models)
        and row.rule not in target.but
    )


def judged(row: Row, targets: Iterable[Target] = TARGETS) -> Row:
    """The row with every target that is about it."""
    values = [(target, row.figure(target.figure)) for target in targets if concerns(target, row)]
    found = [Verdict(t.figure, t.at_most, value) for t, value in values if value is not None]
    return replace(row, verdicts=tuple(found))


def machine(threads: int) -> dict[str, Any]:
    """The machine and the versions of a measurement."""
    return {
        "system": system(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the checkout; ``None`` for an installed package, or one that git is not at."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


@dataclass
class Results:
    """A run: the machine, the libraries, and the rows so far."""

    machine: dict[str, Any]
    libraries: dict[str, list[str]] = field(default_factory=dict)
    """The requested rules that each library has."""
    missing: list[str] = field(default_factory=list)
    """Libraries that are not installed."""
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Replace the file: JSON lines, the first about the run, then one for each row."""
        head = asdict(self)
        rows = head.pop("rows")
        text = "".join(json.dumps(line) + "\n" for line in (head, *rows))
        replace_text(path, text)

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file of ``write``."""
        head, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return cls(**head, rows=[_row(**values) for values in rows])


def _row(**values: Any) -> Row:
    for name in ("ratio", "copy_ratio"):
        if values[name] is not None:
            values[name] = Spread(**values[name])
    values["verdicts"] = tuple(Verdict(**verdict) for verdict in values["verdicts"])
    return Row(**values)
