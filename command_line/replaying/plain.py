"""What was found, as JSON has it: null where a number is not finite."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from samestep.replay import Against, Replay

__all__ = ["against_plain", "replay_plain"]


def replay_plain(found: Replay) -> dict[str, Any]:
    """A recomputation."""
    made: dict[str, Any] = _plain(
        {
            "files": found.files,
            "verdict": found.verdict,
            "sentences": found.sentences,
            "optimizer": found.optimizer,
            "rule": found.rule,
            "ulp": found.bound.ulp,
            "steps": found.steps,
            "first": None if found.first is None else asdict(found.first),
            "instead": found.instead,
            "departures": [asdict(departure) for departure in found.departures],
            "resumes": [asdict(resume) for resume in found.resumes],
            "changes": [{"before": step, "parameters": names} for step, names in found.changes],
            "unchecked": [
                {"first": first, "last": last, "why": why} for first, last, why in found.unchecked
            ],
            "parameters": [asdict(row) for row in found.rows.values()],
            "growth": [
                dict(zip(("step", "one_step", "float64", "float32"), row, strict=True))
                for row in found.growth
            ],
        }
    )
    return made


def against_plain(found: Against) -> dict[str, Any]:
    """A comparison of two recordings."""
    made: dict[str, Any] = _plain(
        {
            "files": found.files,
            "verdict": found.verdict,
            "sentence": found.sentence,
            "optimizers": found.optimizers,
            "first": None if found.first is None else asdict(found.first),
            "hyperparameters": [asdict(apart) for apart in found.hyperparameters],
            "only": found.only,
            "steps_only": found.alone,
            "steps": [row._asdict() for row in found.rows],
        }
    )
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(_plain, value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
