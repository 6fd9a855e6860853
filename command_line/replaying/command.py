"""``samestep replay FILE``: whether a recorded run does what its rule says."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from samestep.checkpoints.state import CheckpointError
from samestep.command_line.files.conversion import map_of
from samestep.recording import RecordingError, read
from samestep.replay import Asked, against, replay
from samestep.replay.judging import Bound

from .plain import against_plain, replay_plain
from .terminal import print_against, print_replay

__all__ = ["AGREE", "DEPARTS", "FAILED", "run"]

AGREE, DEPARTS, FAILED = 0, 1, 2
"""Exit codes."""


def run(
    files: Sequence[Path],
    rule: str | None,
    like: str | None,
    settings: Sequence[str],
    ulp: float | None,
    other: Path | None,
    mapping: str | None,
    tolerance: float | None,
    as_json: bool,
) -> int:
    """Recompute recordings, or compare one with another, and print what was found.

    Returns:
        The exit code.
    """
    words = ["samestep", "replay", *map(str, files)]
    try:
        if other is not None:
            _refuse_for_against(rule=rule, like=like, ulp=ulp, set=settings or None)
            return _against(files, other, mapping, tolerance, as_json)
        for name, given in (("--map", mapping), ("--tolerance", tolerance)):
            if given is not None:
                raise RecordingError(f"{name} is for --against")
        asked = Asked(rule, like, _settings(settings))
        found = replay([read(file) for file in files], asked, Bound(ulp))
    except FileNotFoundError as error:
        print(f"samestep replay: {error.filename}: there is no such file", file=sys.stderr)
        return FAILED
    except (CheckpointError, OSError, TypeError, ValueError) as error:
        print(f"samestep replay: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    if as_json:
        print(json.dumps(replay_plain(found), indent=2))
    else:
        for name, value in (("--rule", rule), ("--like", like), ("--ulp", ulp)):
            words += [name, str(value)] if value is not None else []
        words += [word for setting in settings for word in ("--set", setting)]
        print_replay(Console(), found, words)
    return AGREE if found.verdict == "agree" else DEPARTS


def _against(
    files: Sequence[Path],
    other: Path,
    mapping: str | None,
    tolerance: float | None,
    as_json: bool,
) -> int:
    if len(files) != 1:
        raise RecordingError("--against compares two recordings: give one FILE before it")
    names = None if mapping is None else map_of(mapping)
    found = against(read(files[0]), read(other), names=names, tolerance=tolerance)
    if as_json:
        print(json.dumps(against_plain(found), indent=2))
    else:
        words = ["samestep", "replay", str(files[0]), "--against", str(other)]
        words += [] if mapping is None else ["--map", mapping]
        words += [] if tolerance is None else ["--tolerance", str(tolerance)]
        print_against(Console(), found, words)
    return AGREE if found.verdict == "agree" else DEPARTS


def _refuse_for_against(**given: Any) -> None:
    """Refuse what says how to recompute, where nothing is recomputed."""
    for name, value in given.items():
        if value is not None:
            raise RecordingError(f"--{name} is not for --against, which recomputes nothing")


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    """Numbers and options from ``NAME=VALUE``."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip().isidentifier():
            raise RecordingError(f"--set {setting}: it must be NAME=VALUE, as lr=1e-3")
        try:
            found[name.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            found[name.strip()] = text.strip()
    return found
