"""Reading a recording: sessions of steps, whose arrays are read when they are used.

Kinds of arrays: ``grad``, a gradient; ``param``, a parameter before a step; ``after``, a parameter
after a step; ``state``, an array of the optimizer's state before a step, in the form of a
checkpoint. A parameter is stored only if it has changed since it was last stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from samestep.checkpoints.contents import parsed
from samestep.checkpoints.state import Checkpoint, CheckpointError
from samestep.checkpoints.tensor import Tensor

from .spool import Image, RecordingError, images, part_of

__all__ = ["Recording", "Session", "Step", "read", "stretch_of"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One recorded step."""

    number: int
    """Counted from 0."""
    groups: list[dict[str, Any]]
    """The optimizer's groups: ``numbers`` by its own names, and ``rule`` if it is known."""
    group_of: Mapping[str, int]
    """The index of each parameter's group."""
    grads: Tensors
    """The gradients, by parameter."""
    before: Tensors
    after: Tensors
    begins: bool = False
    """Whether the step before is missing in the recording."""
    fresh: bool = False
    """Whether the optimizer had no state yet."""
    state: Checkpoint | None = None
    """The optimizer's state before the first step of a stretch, if it is known."""
    why: str = ""
    """The reason why the state is missing."""
    discarded: int = 0
    """How many updates had been computed in its place, and were not taken."""
    adds: bool = False
    """Whether the program itself adds updates to the parameters, as in JAX."""


@dataclass(frozen=True)
class Session:
    """The record of one ``with`` block."""

    run: Mapping[str, Any]
    """``optimizer``, ``framework``, ``counts``, ``parameters`` and ``versions``."""
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True)
class Recording:
    """A recorded run."""

    path: str
    sessions: list[Session]

    @property
    def steps(self) -> list[Step]:
        """All its steps."""
        return [step for session in self.sessions for step in session.steps]

    @property
    def optimizer(self) -> str:
        """The name of the optimizer's class; empty if it is unknown."""
        return str(self.sessions[0].run.get("optimizer", "")) if self.sessions else ""


def read(path: str | os.PathLike[str]) -> Recording:
    """A recording, whose arrays are read and compared with their checksums when they are used.

    Raises:
        FileNotFoundError: the file does not exist.
        RecordingError: the file is not a recording, or is damaged.
    """
    target = Path(path)
    try:
        found = [*images(target)]
    except FileNotFoundError:
        if not part_of(target).exists() or target.exists():  # which it has become meanwhile
            found = [*images(target)]
        else:
            raise RecordingError(
                f"{target}: it is not there; {part_of(target).name} is, which a recording that "
                "goes on, or was killed, has left, and which can be read"
            ) from None
    try:
        return Recording(os.fspath(path), [*_sessions(found)])
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RecordingError(f"{target}: the header's records are damaged: {error!r}") from None
    except CheckpointError as error:
        raise RecordingError(f"{target}: {error}") from None


def _sessions(found: list[Image]) -> Iterator[Session]:
    records = [record for image in found for record in image.records]
    tensors: dict[str, Tensor] = {}
    for image in found:
        tensors |= image.tensors
    by_place: dict[tuple[str, str], dict[str, dict[str, Tensor]]] = {}
    for key, tensor in tensors.items():
        kind, session, number, name = key.split("/", 3)
        by_place.setdefault((session, number), {}).setdefault(kind, {})[name] = tensor
    for opened in records:
        if "run" in opened:
            own = [r for r in records if r["session"] == opened["session"] and "step" in r]
            steps = _steps(own, str(opened["session"]), by_place)
            adds = opened["run"].get("framework") == "jax"
            yield Session(opened["run"], [replace(step, adds=adds) for step in steps])


def _steps(records: list[dict[str, Any]], session: str, by_place: Any) -> list[Step]:
    """Steps with their arrays; an array that was not stored again is unchanged."""
    groups: list[dict[str, Any]] = []
    group_of: dict[str, int] = {}
    last: dict[str, Tensor] = {}
    begun: dict[str, Any] = {}
    found: list[Step] = []
    for record in records:  # two per step: one before it, and one after it, which has the numbers
        number = record["step"]
        arrays = by_place.get((session, str(number)), {})
        grads = arrays.get("grad", {})
        if "ended" not in record:
            again = begun.get("discarded", 0) + 1 if "again" in record else 0
            begun = {**(begun if again else {}), **record, "discarded": again}
            last = {**last, **arrays.get("param", {})}
            if again and found and found[-1].number == number:
                found.pop()
            continue
        groups = record.get("groups", groups)
        group_of = record.get("group_of", group_of)
        names = [*group_of]
        before = {name: last[name] for name in names}
        last = {**last, **arrays.get("after", {})}
        state = None
        if begun.get("state") is not None:
            state = parsed(begun["state"], arrays.get("state", {}))
        found.append(
            Step(
                number,
                groups,
                group_of,
                {name: grads[name] for name in begun.get("grads", grads)},
                before,
                {name: last[name] for name in names},
                bool(begun.get("begins")),
                bool(begun.get("fresh")),
                state,
                str(begun.get("why", "")),
                begun["discarded"],
            )
        )
    return found


def stretch_of(steps: Sequence[Step], place: int) -> Sequence[Step]:
    """The steps from a place to the end of its stretch."""
    end = place + 1
    while end < len(steps) and not steps[end].begins:
        end += 1
    return steps[place:end]
