"""The findings of a recomputation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from .judging import Bound
from .resuming import Resume, names_shown

__all__ = ["Departure", "Replay", "Row", "Verdict"]

Verdict = Literal["agree", "departs", "not finite", "other numbers", "nothing moved"]


@dataclass(frozen=True)
class Departure:
    """The first step of a parameter that departs from the rule."""

    step: int
    path: str
    ulp: float
    relative: float
    """Relative to the largest change in this step."""
    place: tuple[int, ...]
    recorded: float
    computed: float
    why: str = ""
    """The explanation, if one was found."""
    until: int | None = None
    """The last step that departs."""


@dataclass
class Row:
    """The result for one parameter."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    steps: int = 0
    """How many steps were judged."""
    departing: int = 0
    ulp: float = 0.0
    """The largest difference of one step."""
    float64: float = 0.0
    """The distance, in ULP, from a whole run in float64 with the same start."""
    float32: float = 0.0


@dataclass
class Replay:
    """The findings of a recomputation."""

    files: list[str]
    optimizer: str
    rule: str
    bound: Bound
    rows: dict[str, Row] = field(default_factory=dict)
    departures: list[Departure] = field(default_factory=list)
    """The first departure of each parameter, in the order of steps."""
    resumes: list[Resume] = field(default_factory=list)
    changes: list[tuple[int, list[str]]] = field(default_factory=list)
    """Steps before which something else has changed parameters, with these parameters."""
    lost: list[tuple[int, int, str]] = field(default_factory=list)
    """Recorded steps between which the state was lost, the last before and the first after; how."""
    between: int = 0
    """How many steps between recorded ones of a session are not recorded."""
    uncounted: list[tuple[int, int, int]] = field(default_factory=list)
    """Recorded steps, and how many of the steps between them no parameter has counted."""
    unchecked: list[tuple[int, int, str]] = field(default_factory=list)
    """Steps, from the first to the last, that could not be judged, and the reason."""
    instead: list[str] = field(default_factory=list)
    """Single changes of the rule that explain the run; several if this run does not tell them
    apart."""
    not_finite: tuple[int, str, str] | None = None
    """The first array that has NaN or infinity: its step, what it is, and the parameter's path."""
    ends_finite: bool = True
    """Whether every parameter after the last step is finite."""
    skipped: bool = False
    """Whether its step was skipped, as the rule says."""
    moved: bool = False
    """Whether a parameter moved, in a step that was judged, by more than it may be off."""
    discarded: int = 0
    """How many updates were computed and not taken."""
    growth: list[tuple[int, float, float, float]] = field(default_factory=list)
    """After each step: its number, and the largest difference of one step, from the run in float64
    and from the run in float32."""

    @property
    def steps(self) -> int:
        """How many steps were judged."""
        return len(self.growth)

    @property
    def verdict(self) -> Verdict:
        """``"agree"`` if every step that was judged is the rule's and no resume lost anything.

        ``"other numbers"``, if only numbers have not been carried over a resume; ``"not finite"``,
        if the steps are the rule's and end in NaN or infinity; ``"nothing moved"``, if no parameter
        did by more than it may be off, so that nothing tells the rule from another.
        """
        carried = not self.lost and all(one.carried for one in self.resumes)
        if self.departures or self.changes or not carried:
            return "departs"
        if not self.ends_finite:
            return "not finite"
        if not self.moved:
            return "nothing moved"
        return "other numbers" if any(one.numbers for one in self.resumes) else "agree"

    @property
    def first(self) -> Departure | None:
        """The first departure of all."""
        return self.departures[0] if self.departures else None

    @property
    def sentences(self) -> list[str]:
        """The findings in words; empty if everything agrees and nothing was resumed."""
        said = []
        if (first := self.first) is not None:
            why = f": {first.why}" if first.why else ""
            said.append(f"departs at step {first.step} in {first.path}{why}")
        if self.not_finite is not None:
            step, what, path = self.not_finite
            after = "; the step was skipped" if self.skipped else ""
            said.append(
                f"{what} {path} at step {step} is the first that has NaN or infinity{after}"
            )
        if self.instead:
            said.append(f"agrees with a rule that {' or that '.join(self.instead)}")
        for step, names in self.changes[:3]:
            what = names_shown(names, len(self.rows))
            said.append(f"something else than the optimizer changed {what} before step {step}")
        for last, step, words in self.lost[:3]:
            said.append(f"the state was not carried from step {last} to step {step}: {words}")
        for last, step, count in self.uncounted[:3]:
            said.append(
                f"no parameter counted {count} of the steps between {last} and {step}: either they "
                "had no gradients, or the state was lost there"
            )
        for one in self.resumes:
            said += [f"resumed at step {one.step}: {sentence}" for sentence in one.sentences]
        if self.discarded:
            said.append(
                f"{self.discarded} updates were computed and not taken, as in the accumulation of "
                "gradients; they were not judged"
            )
        said += _unchecked(self.unchecked)
        if self.between:
            said.append(
                f"{self.between:,} steps between the recorded ones are not recorded; of these only "
                "the counts are judged"
            )
        return said


def _unchecked(stretches: list[tuple[int, int, str]]) -> Iterator[str]:
    """The steps that could not be judged, by reason."""
    for why in dict.fromkeys(why for _, _, why in stretches):
        own = [(begin, end) for begin, end, reason in stretches if reason == why]
        count = sum(end - begin + 1 for begin, end in own)
        first, last = own[0][0], own[-1][1]
        which = f"step {first}" if count == 1 else f"{count} steps from {first} to {last}"
        yield f"{which} could not be judged: {why}"
