"""A comparison in words and numbers, for the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from samestep.arrays import listed
from samestep.command_line.as_json import called
from samestep.command_line.report import Curve, in_ulp
from samestep.parity import Comparison, Reason
from samestep.parity.environment import environment

__all__ = ["READABLE", "Account", "Number", "Side"]

UNCHOSEN = "cannot be chosen"
READABLE = 1e6
"""Larger differences are not told in ULP."""


class Number(NamedTuple):
    """A hyperparameter, by our name, and the value that each side was given."""

    name: str
    a: str
    b: str

    @property
    def apart(self) -> bool:
        """Whether they are not the same, though both sides let them be chosen."""
        return self.a != self.b and UNCHOSEN not in (self.a, self.b)


class Side(NamedTuple):
    """One difference, and what each side does."""

    option: str
    a: str
    b: str
    values: tuple[str, str] | None
    """The values of the option; ``None`` if the rule has no such option."""


@dataclass(frozen=True)
class Account:
    """A comparison, in the terms of its report."""

    found: Comparison
    command: list[str] = field(default_factory=list)
    """The words of the command that repeats it; empty if there is none."""

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two optimizers."""
        return self.found.a.name, self.found.b.name

    @property
    def agree(self) -> bool:
        """Whether they take the same steps."""
        return self.found.verdict == "agree"

    @property
    def headline(self) -> str:
        """The verdict in a sentence, without the names, which come before it."""
        if self.agree and self.narrow:
            return (
                f"take the same steps in {self.found.dtype}, and part in {self.narrow.found.dtype}"
            )
        if self.agree:
            return "take the same steps"
        if not (self.found.explained and self.found.reasons):
            return "do not take the same steps, and it is not known why"
        count = len(self.found.reasons)
        reasons = "one reason" if count == 1 else f"{count} reasons"
        return f"do not take the same steps, for {reasons}"

    @property
    def sides(self) -> list[Side]:
        """The two phrases of each difference, one for each side."""
        return [self._side(reason) for reason in self.found.reasons] if not self.agree else []

    def _side(self, reason: Reason) -> Side:
        rule = self.found.rule
        declared = rule is not None and reason.option in rule.fields()
        values = (called(reason.a), called(reason.b)) if declared else None
        (a, b), text = self.names, reason.sentence
        head, middle = f"{a} ", f"; {b} "
        if text.startswith(head) and middle in text:
            first, second = text[len(head) :].split(middle, 1)
            return Side(reason.option, first, second, values)
        return Side(reason.option, text, "", values)

    @property
    def unexplained(self) -> list[str]:
        """Sentences on differences that no variant reproduces."""
        if self.agree:
            return []
        said = {reason.sentence for reason in self.found.reasons}
        return [sentence for sentence in self.found.sentences if sentence not in said]

    @property
    def clues(self) -> list[str]:
        """Where to look if the reason of a difference is not known."""
        if not self.unexplained:
            return []
        same = [curve.name for curve in self.slots if curve.parts is None]
        apart = min(
            (curve for curve in self.slots if curve.parts is not None),
            key=lambda curve: curve.parts or 0,
            default=None,
        )
        clues = []
        if same:
            clues.append(f"Both keep the same {listed(same)}.")
        if apart is not None:
            clues.append(f"Of what both keep {apart.name} is the first to differ, at {apart.when}.")
        elif same:
            clues.append("So look at what is done with it, after it is updated.")
        return clues

    @property
    def reproduced(self) -> list[str]:
        """By which variant of the rule each side is reproduced, if by any."""
        if self.agree:
            return []
        return [str(finding) for finding in self.found.findings or () if finding.variant]

    @property
    def parting(self) -> str:
        """The step and the parameter at which the two sides part."""
        if self.found.first is None:
            return f"They never part in {self.found.dtype}."
        step, path = self.found.first
        return f"They part at step {step}, in the parameter {path!r}."

    @property
    def size(self) -> str:
        """How far they get apart."""
        found, how = self.found, f"After {self.found.steps} steps in {self.found.dtype}"
        if found.distance == 0:
            return f"{how}: equal to the last bit."
        ulp = max(found.ulps)
        units = f" ({in_ulp(ulp)} ULP)" if ulp < READABLE else ""
        return f"{how}: {found.distance:.2g} apart at most, relative to the parameter{units}."

    @cached_property
    def narrow(self) -> Account | None:
        """The comparison in float32, if the two part only there."""
        narrow = self.found.narrow
        return Account(narrow) if narrow is not None and narrow.first is not None else None

    @property
    def narrowly(self) -> str:
        """How far they are apart in float32, if that was looked at too."""
        narrow = self.found.narrow
        if narrow is None:
            return ""
        if narrow.distance == 0:
            return f"In {narrow.dtype} they are equal to the last bit."
        return (
            f"In {narrow.dtype} they are {in_ulp(max(narrow.ulps))} ULP apart at most, "
            f"{in_ulp(narrow.ulps[1])} after the first step."
        )

    @cached_property
    def parameters(self) -> list[Curve]:
        """How far they are apart in each parameter, the worst first."""
        curves = self.found.divergence.curves.items()
        return self._ordered({path: v for (slot, path), v in curves if slot == "param"})

    @cached_property
    def slots(self) -> list[Curve]:
        """A curve per slot that both sides keep: the largest difference over all parameters."""
        joined: dict[str, list[float]] = {}
        for (slot, _), values in self.found.divergence.curves.items():
            if slot != "param":
                before = joined.get(slot, values)
                joined[slot] = [max(pair) for pair in zip(before, values, strict=True)]
        return self._ordered(joined)

    def _ordered(self, curves: Mapping[str, list[float]]) -> list[Curve]:
        made = [Curve(name, values, self._parts(values)) for name, values in curves.items()]
        return sorted(made, key=lambda curve: -curve.largest)

    def _parts(self, values: list[float]) -> int | None:
        pairs = enumerate(zip(values, self.found.bounds, strict=True))
        return next((step for step, (value, bound) in pairs if value > bound), None)

    @property
    def numbers(self) -> list[Number]:
        """The hyperparameters of both."""
        shared = [
            Number(name, called(v), called(v)) for name, v in sorted(self.found.shared.items())
        ]
        return shared + [
            Number(name, *(UNCHOSEN if v is None else called(v) for v in values))
            for name, values in sorted(self.found.own.items())
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Versions, and the machine."""
        packages = ["samestep", self.found.a.package, self.found.b.package, "numpy"]
        beside = {"optax": ["jax"], "keras": ["jax"]}
        more = [name for package in packages for name in beside.get(package, [])]
        return environment(dict.fromkeys([*packages, *more]))

    @property
    def line(self) -> str:
        """The command that repeats it."""
        return shlex.join(self.command)
