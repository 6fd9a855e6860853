"""The files of a recorder, from before the first step to the end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samestep.checkpoints.replacing import replaceable
from samestep.checkpoints.tensor import Tensor

from .spool import Image, Part, RecordingError, assemble, images, part_of

__all__ = ["Sink"]


class Sink:
    """The growing part of a recording, and the file that it becomes.

    Raises:
        RecordingError: the folder does not exist, or the path is a folder.
    """

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise RecordingError(f"{path}: there is no folder {path.parent}")
        try:
            replaceable(path)
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror}") from None
        self.path = path
        self.steps = 0
        """How many steps are written."""
        self._part: Part | None = None
        self._old: list[Image] = []
        self._used = self._failed = False

    @property
    def is_open(self) -> bool:
        """Whether the part can be written to."""
        return self._part is not None and not self._failed

    def open(self, append: bool) -> int:
        """Make the part before training begins; returns the number of the next step.

        With ``append``, the part of a killed process is assembled first.
        """
        if self._used:
            raise RecordingError(f"{self.path}: this recorder has been used; make another one")
        self._used, part = True, part_of(self.path)
        if append:
            existing = [path for path in (self.path, part) if path.exists()]
            self._old = [image for path in existing for image in images(path)]
            if part.exists():
                assemble(self.path, self._old)
                part.unlink()
                self._old = [*images(self.path)]
        self._part = Part(part)
        ends = [r["step"] for image in self._old for r in image.records if "ended" in r]
        return ends[-1] + 1 if ends else 0

    def write(self, record: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Write a record and its arrays. An error of the disk ends the recording."""
        if self._part is None or self._failed:
            return
        try:
            self._part.append(record, tensors)
        except OSError as error:
            self.end(record.get("step"), error.strerror)
        else:
            self.steps += "ended" in record

    def end(self, step: Any, why: Any) -> None:
        """Record no further step, and say why; training goes on."""
        self._failed = True
        self._warn(f"recording has ended at step {step}, and training goes on: {why}")

    def close(self, ended: BaseException | None) -> None:
        """Assemble the written steps in the final file.

        An error, such as a full disk, is a warning: the part stays, and has the recording.

        Args:
            ended: the exception that has ended training.
        """
        if self._part is None:
            return
        part, self._part = self._part, None
        try:
            part.close()
            if self.steps:
                assemble(self.path, [*self._old, *images(part.path)])
            part.path.unlink()
        except (OSError, ValueError) as error:
            kept = (
                "has the recording, can be read like the file, and is put in its place by "
                "append=True"
                if part.path.exists()
                else "is not there any more, and what was recorded is lost"
            )
            self._warn(f"the file cannot be written: {error}; {part.path.name} {kept}")
        else:
            self._old = []
            if not self.steps and ended is None:
                self._warn("no step has been recorded")

    def _warn(self, words: str) -> None:
        warnings.warn(f"{self.path}: {words}", UserWarning, stacklevel=5)
