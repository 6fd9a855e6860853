"""The arguments and the ``with`` block that the recorders of all frameworks share."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar

from samestep.rule import Rule

from .chosen import Group, Steps
from .recorder import Recorder

__all__ = ["Choice", "LoopRecorder", "grouped", "with_choice"]


class Choice(TypedDict, total=False):
    """What of a run is recorded; arguments of every recorder, explained by ``Recorder``."""

    steps: Steps
    parameters: str | Iterable[str]
    state: bool
    append: bool
    first_step: int | None


Function = TypeVar("Function", bound=Callable[..., Any])


def with_choice(function: Function) -> Function:
    """A function that takes a path and a ``Choice``, with these in its signature and docstring.

    What its docstring says itself of an argument stays.
    """
    own = inspect.signature(function)
    defaults = inspect.signature(Recorder.__init__).parameters
    choice = [defaults[name] for name in Choice.__annotations__]
    parameters = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    vars(function)["__signature__"] = own.replace(parameters=[*parameters, *choice])
    explained = _arguments(Recorder.__doc__ or "")
    text = inspect.cleandoc(function.__doc__ or "")
    own_words = _arguments(text)
    words = {**dict.fromkeys(("path", *own_words), ""), **dict.fromkeys(Choice.__annotations__, "")}
    entries = "".join(f"    {own_words.get(name) or explained[name]}\n" for name in words)
    head, rest = text.split("\n\nArgs:\n")
    function.__doc__ = f"{head}\n\nArgs:\n{entries}\n{rest.partition(chr(10) * 2)[2]}"
    return function


def _arguments(text: str) -> dict[str, str]:
    """The entries of the section ``Args`` of a docstring, by name."""
    section = inspect.cleandoc(text).partition("\n\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(?=\S)", section, flags=re.M)[1:]
    return {entry.partition(":")[0]: entry.rstrip() for entry in entries}


class LoopRecorder:
    """Records a training loop while it is entered."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def __enter__(self) -> Self:
        self.recorder.open()
        self._attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._detach()
        self.recorder.__exit__(kind, error, at)

    def _attach(self) -> None:
        """Begin to see the steps."""

    def _detach(self) -> None:
        """See no further step."""


def grouped(found: Mapping[str, tuple[Mapping[str, Any], Rule | None]]) -> dict[str, Group]:
    """Groups by parameter, from numbers and rule of each; equal groups are one object."""
    made: dict[Any, Group] = {}
    return {
        name: made.setdefault((id(numbers), repr(rule)), Group(numbers, rule))
        for name, (numbers, rule) in found.items()
    }
