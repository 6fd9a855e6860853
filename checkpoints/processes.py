"""Processes that save or load one checkpoint together: all succeed, or all fail with the reason.

Before each exchange all processes say what they are about to do. If one of them says something
else, because it has failed or has other parameters, no exchange begins, and all learn the reason.
"""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy

from .state import CheckpointError

__all__ = ["WRITER", "Processes", "together"]

WRITER = 0
"""The process that writes files."""
SHOWN = 200
"""Most characters of a value in a message."""

Facts = Mapping[str, str]
"""What a process does, or has, by names in words."""


class _Apart(Exception):  # noqa: N818  (the error that users see is made of it)
    """The processes do not say the same."""


class Processes(ABC):
    """The processes that have pieces of an optimizer's arrays.

    Args:
        rank: the number of this process among them.
        size: how many there are.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    @abstractmethod
    def is_common(self, number: int) -> bool:
        """Whether all processes have given the same number, of at most 32 bits."""

    @abstractmethod
    def texts(self, text: str) -> list[str]:
        """The texts that the processes have given, by rank."""

    @abstractmethod
    def gathered(self, own: numpy.ndarray, sizes: Sequence[int]) -> list[numpy.ndarray]:
        """Bytes of every process, for the one that writes; others get what they like.

        Args:
            own: the bytes of this process, in uint8.
            sizes: how many bytes each process gives. The process that writes gives none.
        """

    def agree(self, facts: Facts) -> None:
        """Go on if all processes have the same facts; else all leave ``together`` with an error."""
        if not self.is_common(_number(facts)):
            raise _Apart(json.dumps(facts))

    @contextmanager
    def together(self) -> Iterator[None]:
        """All processes leave with an error, or all without.

        Raises:
            CheckpointError: another process has failed, or has other facts.
        """
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:  # of an interrupt the others must know too
            if getattr(caught, "told", False):
                raise
            error = caught
        if not isinstance(error, _Apart):
            try:
                common = self.is_common(0 if error else 1)
            except Exception:  # a process is gone
                if error is None:
                    raise
                raise error from None
            if common and error is None:
                return
        said = self.texts(_said(error))
        if error is None or isinstance(error, _Apart):
            error = CheckpointError(_reason([json.loads(text) for text in said]))
            error.__suppress_context__ = True
        error.told = True  # type: ignore[attr-defined]
        raise error


def together(processes: Processes | None) -> AbstractContextManager[None]:
    """``Processes.together``; a process by itself has nobody to tell."""
    return nullcontext() if processes is None else processes.together()


def _number(facts: Facts) -> int:
    """A number that stands for facts; 0 and 1 are for those who have failed or finished."""
    return max(zlib.crc32(json.dumps(facts, sort_keys=True).encode()), 2)


def _said(error: BaseException | None) -> str:
    """What a process tells the others."""
    if error is None:
        return json.dumps({"what it does": "it has finished"})
    if isinstance(error, _Apart):
        return str(error)
    name = "" if isinstance(error, CheckpointError) else f"{type(error).__name__}: "
    return json.dumps(f"{name}{error}")


def _reason(said: Sequence[str | Facts]) -> str:
    """Why not all processes go on."""
    for rank, text in enumerate(said):
        if isinstance(text, str):
            return f"process {rank} of {len(said)} has failed, so nothing has been changed: {text}"
    first, *others = (text for text in said if not isinstance(text, str))
    for rank, facts in enumerate(others, 1):
        for name in dict.fromkeys([*first, *facts]):
            here, there = first.get(name, "nothing"), facts.get(name, "nothing")
            if here != there:
                return (
                    f"{name} must be the same in all processes; it is {_short(here)} in process 0 "
                    f"and {_short(there)} in process {rank}"
                )
    return "the processes do not do the same"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
