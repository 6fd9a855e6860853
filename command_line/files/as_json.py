"""What ``samestep inspect`` finds, as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from samestep.checkpoints import Checkpoint

from .descriptions import rule_words, rules_of
from .kinds import Kind
from .rows import ALL, VALUE, Row

__all__ = ["about", "contents", "nested", "write"]


def write(file: IO[str], found: Mapping[str, Any]) -> None:
    """Write it as JSON."""
    file.write(json.dumps(found, indent=2, allow_nan=False) + "\n")


def about(path: Path, kind: Kind) -> dict[str, Any]:
    """What a file is."""
    texts = {n: kind.texts[n] for n in ("format_version", "written_by") if n in kind.texts}
    files = [file.name for file in kind.files]
    return {
        "file": str(path),
        "kind": kind.name,
        "is": kind.words,
        **texts,
        "files": files,
        "bytes_of_files": kind.nbytes,
    }


def contents(saved: Checkpoint, rows: Sequence[Row]) -> dict[str, Any]:
    """A checkpoint, with the rows that are asked for."""
    rules = rules_of(saved)
    place = {path: at for at, (_, paths) in enumerate(rules) for path in paths}
    arrays = nested(rows)
    return {
        "layout": saved.layout,
        "step": saved.step,
        "bytes": saved.nbytes,
        "rules": [{**said, "repr": rule_words(said), "parameters": len(p)} for said, p in rules],
        "parameters": {
            path: {
                "shape": [*own.shape],
                "dtype": own.dtype,
                "step": None if own.slots is None else own.step,
                "rule": place[path],
                "slots": {s: a for s, a in arrays.get(path, {}).items() if s != VALUE},
                "value": arrays.get(path, {}).get(VALUE),
            }
            for path, own in saved.parameters.items()
            if path in arrays or own.slots is None
        },
        "shared": arrays.get(ALL, {}),
        "totals": _figures(rows) | {"bytes": sum(row.nbytes for row in rows)},
    }


def nested(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Arrays by parameter and slot."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        array = {"shape": [*row.shape], "dtype": row.dtype, "bytes": row.nbytes} | _figures([row])
        if row.slot:
            found.setdefault(row.path, {})[row.slot] = array
        else:
            found[row.path] = array
    return found


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    found = [row.measured for row in rows if row.measured is not None]
    if not found:
        return {}
    norm = math.hypot(*(one.norm for one in found))
    return {
        "norm": norm if math.isfinite(norm) else None,
        "nan": sum(one.nan for one in found),
        "infinite": sum(one.infinite for one in found),
    }
