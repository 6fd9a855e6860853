"""The rule by which a recorded optimizer is judged, with its numbers at each step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from samestep.arrays import listed
from samestep.checkpoints.description import made, numbers
from samestep.kept import rule_of
from samestep.nonfinite import decoded
from samestep.parity.subjects.arguments import numbers_of, options_of
from samestep.parity.subjects.importing import imported
from samestep.parity.subjects.subject import Subject
from samestep.recording.reading import Recording, Step
from samestep.recording.spool import RecordingError
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

__all__ = ["Asked", "Rules", "title"]


LIBRARY = {"jax": "optax"}
"""Dialects of frameworks that have another name."""


@dataclass(frozen=True)
class Asked:
    """The rule with which a run is recomputed.

    Args:
        rule: the name of the rule, or ``file.py:Name`` or ``module:Name`` of a rule of the user's;
            by default the rule in the recording.
        like: the dialect.
        settings: numbers and options that replace those in the recording.
    """

    rule: str | None = None
    like: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "like" in self.settings:
            raise RecordingError(
                f"--set like={self.settings['like']}: the dialect is given by --like"
            )
        if self.rule is not None and {*":."} & {*self.rule}:
            object.__setattr__(self, "rule", _imported(self.rule))
        if self.rule is not None and self.rule not in registry:
            raise RecordingError(
                f"there is no rule {self.rule}; there are {', '.join(sorted(registry))}"
            )
        if self.rule is not None and issubclass(registry[self.rule], Wrapper):
            raise RecordingError(
                f"{self.rule} is a wrapper of a rule; a run of it is recomputed with the rule "
                "in the recording"
            )
        if self.like is not None and self.rule is not None:
            _refuse_dialect(registry[self.rule], self.like)


class Rules:
    """The rule of every parameter at every step of a recording."""

    def __init__(self, asked: Asked, recordings: Sequence[Recording]) -> None:
        self.asked = asked
        self._made: dict[str, Rule] = {}
        self.framework = str(recordings[0].sessions[0].run.get("framework", ""))
        self.noted = all(
            "rule" in group for one in recordings for step in one.steps for group in step.groups
        )
        if not self.noted and asked.rule is None:
            name = recordings[0].optimizer or "the optimizer"
            rules = sorted(n for n, cls in registry.items() if not issubclass(cls, Wrapper))
            raise RecordingError(
                f"{recordings[0].path} does not say which rule {name} follows; name one with "
                f"--rule: {', '.join(rules)}, or file.py:Name of your own"
            )

    def of(self, step: Step) -> dict[str, Rule]:
        """The rules of the parameters at a step; parameters of one group have the same object."""
        groups = [self._of(group) for group in step.groups]
        return {
            name: rule_of(groups[place], name, step.before[name], self.framework)
            for name, place in step.group_of.items()
        }

    def shown(self, step: Step, framework: str) -> str:
        """The names of the rules at a step, and the dialect."""
        rules = {*self.of(step).values()}
        names = ", ".join(sorted({title(rule) for rule in rules}))
        library = self.asked.like or LIBRARY.get(framework, framework)
        has_it = all(library in rule.dialects for rule in rules)
        asked = self.asked.like is not None
        alike = has_it and (asked or all(rule.speaks(library) for rule in rules))
        return f"{names} like {library}" if alike else names

    def _of(self, group: Mapping[str, Any]) -> Rule:
        key = json.dumps(group, sort_keys=True)
        if key not in self._made:
            self._made[key] = self._new(group)
        return self._made[key]

    def _new(self, group: Mapping[str, Any]) -> Rule:
        asked, described = self.asked, group.get("rule")
        if asked.like is not None and described is not None and asked.rule is None:
            _refuse_dialect(registry.get(described["name"]), asked.like, described["name"])
        try:
            if described is not None and self._is_asked(described):
                rule = made(described)
                if not isinstance(rule, Wrapper) and "state_dtype" in rule.hypers:
                    rule = rule.replace(**asked.settings)
                return rule
            cls = registry[asked.rule or described["name"]]  # type: ignore[index]
            return self._mapped(cls, group)
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            own = {_innermost(described)} - registry.keys() if described is not None else set()
            hint = f"; --rule file.py:{min(own)} says where a rule of yours is" if own else ""
            raise RecordingError(
                f"the recorded hyperparameters make no rule: {error}{hint}"
            ) from None

    def _is_asked(self, described: Mapping[str, Any]) -> bool:
        """Whether the rule in the recording is the one that is asked for."""
        named = self.asked.rule in (None, described["name"])
        return named and self.asked.like in (None, described.get("like"))

    def _mapped(self, cls: type[Rule], group: Mapping[str, Any]) -> Rule:
        """A rule with the recorded numbers, under our names."""
        given = {name: decoded(value) for name, value in group.get("numbers", {}).items()}
        described = group.get("rule")
        if described is not None and described["name"] in registry and "rule" not in described:
            known = numbers(made(described), described)
            given = {**given, **{n: v for n, v in known.items() if n in cls.fields()}}
        given = {name: value for name, value in given.items() if value is not None}
        subject = Subject("the recording", None, "", given, cls)
        found = {**options_of(subject, cls), **numbers_of(subject, cls)}
        if self.asked.like is not None:  # the dialect has its own values of options
            own = cls.dialects[self.asked.like].values
            found = {n: v for n, v in found.items() if n in given or n not in own}
        return cls(like=self.asked.like, **{**found, **self.asked.settings})


def _imported(name: str) -> str:
    """The name of a user's rule, which is registered when its module is imported."""
    cls = imported(name)
    if not (isinstance(cls, type) and issubclass(cls, Rule) and cls.__name__ in registry):
        raise RecordingError(f"{name} is {type(cls).__name__}; it must be a class of a rule")
    return cls.__name__


def _refuse_dialect(cls: type[Rule] | None, like: str, name: str = "") -> None:
    """Raise unless the rule has this dialect; wrappers and unknown rules have none."""
    presets = {} if cls is None or issubclass(cls, Wrapper) else cls.dialects
    if like not in presets:
        name = name if cls is None else cls.__name__
        raise RecordingError(f"{name} has no dialect {like!r}; it has {listed(presets)}")


def _innermost(described: Mapping[str, Any]) -> str:
    return _innermost(described["rule"]) if "rule" in described else str(described["name"])


def title(rule: Rule) -> str:
    """Names from the outside in: ``Lookahead(AdamW)``."""
    return f"{rule.name}({title(rule.rule)})" if isinstance(rule, Wrapper) else rule.name
