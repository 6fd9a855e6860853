"""Routes: different rules for different parameters, by path, shape and number of dimensions.

    rule = samestep.route(
        (Where(min_ndim=2) & ~Where(path="*embed*"), Muon(lr=0.02)),
        (Where(max_ndim=1), AdamW(lr=3e-4)),
        AdamW(lr=3e-4, weight_decay=0.1),
    )
    print(rule.table(params))

A parameter has the first rule whose predicate holds. A route is a rule with one state: adapters
and wrappers take it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Self

from .arrays import listed
from .conditions import described
from .groups import Choice, Groups, Predicate, parameter
from .rule import Rule

__all__ = ["Route", "route"]


class Route(Rule, register=False):
    """A rule without numbers that holds the rules of parameters; see ``route``.

    ``of`` returns the rule of a parameter, which takes the step.
    """

    _holds = ("routes",)
    _carried = (*Rule._carried, "predicates")

    predicates: tuple[Predicate | None, ...]
    """A predicate for each rule inside; ``None`` takes the rest."""

    def __init__(self, *routes: tuple[Predicate | None, Rule] | Rule) -> None:
        if not routes:
            raise TypeError(
                "route(): give pairs of a predicate and a rule, and a rule for the rest"
            )
        pairs = [_pair(place, item) for place, item in enumerate(routes)]
        summing = [rule.name for _, rule in pairs if rule.phases]
        if len(summing) > 1:
            raise ValueError(
                f"route({', '.join(summing)}): each of these sums over all its parameters; only "
                "one such rule can be in a route"
            )
        for predicate, rule in pairs[:-1]:
            if predicate is None:
                raise TypeError(
                    f"route: {rule!r} stands without a predicate before others, which would get "
                    "nothing; only the last may"
                )
        vars(self)["predicates"] = tuple(predicate for predicate, _ in pairs)
        self._store({}, tuple(rule for _, rule in pairs), Groups("route"))

    @classmethod
    def _derived_signature(cls) -> inspect.Signature:
        return inspect.Signature([inspect.Parameter("routes", inspect.Parameter.VAR_POSITIONAL)])

    @property
    def name(self) -> str:
        """The name of the function ``route``."""
        return "route"

    @property
    def routes(self) -> tuple[tuple[Predicate | None, Rule], ...]:
        """Pairs of a predicate and a rule, in order."""
        return tuple(zip(self.predicates, self.inside, strict=True))

    @property
    def _through(self) -> tuple[Rule, ...]:
        """Empty: every rule has its own numbers, and ``hypers`` is empty."""
        return ()

    def replace(self, **changes: Any) -> Self:
        """Always raises: make a route of other rules."""
        if changes:
            raise TypeError(
                f"route: there is no {listed(changes)} to replace; replace it in one of the rules "
                + ", ".join(rule.name for rule in self.inside)
            )
        return self

    # Which rule a parameter has.

    @property
    def branches(self) -> tuple[Rule, ...]:
        """The rules, in order."""
        return self.inside

    def branch(self, path: str, shape: Any) -> int:
        """Index of the rule of a parameter.

        Raises:
            ValueError: no rule takes the parameter.
        """
        seen = parameter(path, shape)
        for place, predicate in enumerate(self.predicates):
            if predicate is None or self.groups.answer(
                f"the predicate of route {place}", predicate, seen
            ):
                return place
        raise ValueError(
            f"route: parameter {path!r} of shape {tuple(shape)} goes nowhere; the predicates are "
            + ", ".join(map(described, self.predicates))
            + "; a rule without a predicate at the end takes the rest"
        )

    def of(self, path: str, shape: Any) -> Rule:
        """The rule for one parameter."""
        return self.inside[self.branch(path, shape)].of(path, shape)

    def reasons(self, path: str, shape: Any) -> list[str]:
        """The predicate that chooses the rule, and then the reasons of the rule."""
        place = self.branch(path, shape)
        predicate, rule = self.routes[place]
        chosen = "the rest" if predicate is None else f"{place}: {described(predicate)}"
        return [chosen, *rule.reasons(path, shape)]

    def choices(self, path: str, shape: Any) -> tuple[list[Choice], tuple[Rule, ...]]:
        """The predicates, and whether each chooses a parameter; and the rule of the parameter."""
        place = self.branch(path, shape)
        asked = [(i, each) for i, each in enumerate(self.predicates) if each is not None]
        own = [Choice(f"the predicate of route {i}", each, i == place) for i, each in asked]
        return own, (self.inside[place],)

    # The sums over all parameters; at most one rule has any.

    @property
    def _summing(self) -> Rule:
        return max(self.inside, key=lambda rule: rule.phases)

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """The coefficients of the rule that sums over its parameters."""
        return self._summing.coefficients(xp, t)

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """The shared state of the rule that sums over its parameters."""
        return self._summing.summed(xp, sums, shared, s, phase)

    # Comparison and display.

    def _shown(self, show: Callable[[Rule], str], numbers: bool = False) -> list[str]:
        return [
            show(rule) if predicate is None else f"({described(predicate)}, {show(rule)})"
            for predicate, rule in self.routes
        ]

    def _plain(self) -> tuple[Any, ...]:
        return self.routes


def route(*routes: tuple[Predicate | None, Rule] | Rule) -> Route:
    """A rule that gives every parameter the first rule whose predicate holds.

        rule = route((Where(min_ndim=2), Muon(lr=0.02)), AdamW(lr=3e-4))

    Args:
        routes: pairs of a predicate (``Where(...)``, or a callable of a ``Parameter``) and a rule;
            the last may be a rule alone, or a rule paired with None, which takes the rest.

    Returns:
        A rule for every framework. ``table(params)`` shows the rule of each parameter, the reason,
        and the bytes of its state.

    Raises:
        TypeError, ValueError: an argument is not such a pair, or several rules sum over all
            parameters. At the first step: no rule takes a parameter, which is named.
    """
    return Route(*routes)


def _pair(place: int, item: Any) -> tuple[Predicate | None, Rule]:
    predicate, rule = (None, item) if isinstance(item, Rule) else _two(place, item)
    if rule.branches != (rule,):
        raise TypeError(
            f"route: route {place} leads to another, {rule!r}; list all rules in one, and put "
            "wrappers around each or around the whole"
        )
    return predicate, rule


def _two(place: int, item: Any) -> tuple[Predicate | None, Rule]:
    fits = isinstance(item, (tuple, list)) and len(item) == 2
    fits = fits and (item[0] is None or callable(item[0]))
    if not fits or not isinstance(item[1], Rule):
        raise TypeError(
            f"route: route {place} is {item!r}; it must be a pair of a predicate and a rule, such "
            "as (Where(min_ndim=2), Muon(lr=0.02)), or a rule"
        )
    return item[0], item[1]
