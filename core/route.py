"""Different rules for different parameters, chosen by path, shape and number of dimensions.

    rule = samestep.route(
        (Where(min_ndim=2) & ~Where(path="*embed*"), Muon(lr=0.02)),
        (Where(max_ndim=1), AdamW(lr=3e-4)),
        AdamW(lr=3e-4, weight_decay=0.1),
    )
    print(rule.table(params))

The first route whose predicate holds has the parameter. A route is a rule like any other: every
adapter takes it, wrappers go around it, and its state is one state.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

import numpy

from . import step as stepping
from . import tree
from .arrays import dtype_name, is_array, listed, parts
from .declaration import Shared, Slot
from .groups import Groups, Parameter, Predicate
from .rule import Rule

__all__ = ["Route", "Where", "route", "state_bytes"]


@dataclass(frozen=True)
class Where:
    """A predicate of parameters that says what it asks for; combine with ``&``, ``|`` and ``~``.

    Args:
        path: a pattern of the dotted path, in which ``*`` is any text: ``"encoder.*.weight"``.
        ndim: number of dimensions.
        min_ndim: the same, at least.
        max_ndim: the same, at most.
    """

    path: str | None = None
    ndim: int | None = None
    min_ndim: int | None = None
    max_ndim: int | None = None

    def __call__(self, parameter: Parameter) -> bool:
        """Whether all that was asked for is so."""
        return (
            (self.path is None or fnmatchcase(parameter.path, self.path))
            and self.ndim in (None, parameter.ndim)
            and (self.min_ndim is None or parameter.ndim >= self.min_ndim)
            and (self.max_ndim is None or parameter.ndim <= self.max_ndim)
        )

    def __and__(self, other: Predicate) -> Where:
        return _Combined("&", (self, other))

    def __or__(self, other: Predicate) -> Where:
        return _Combined("|", (self, other))

    def __invert__(self) -> Where:
        return _Combined("~", (self,))

    def __repr__(self) -> str:
        asked = ", ".join(f"{n}={v!r}" for n, v in vars(self).items() if v is not None)
        return f"Where({asked})"


class _Combined(Where):
    """Predicates joined by ``&`` or ``|``, or the contrary of one."""

    def __init__(self, sign: str, predicates: tuple[Predicate, ...]) -> None:
        object.__setattr__(self, "sign", sign)
        object.__setattr__(self, "predicates", predicates)

    sign: str
    predicates: tuple[Predicate, ...]

    def __call__(self, parameter: Parameter) -> bool:
        answers = [predicate(parameter) for predicate in self.predicates]
        if self.sign == "~":
            return not answers[0]
        return all(answers) if self.sign == "&" else any(answers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Combined) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.sign, self.predicates))

    def __repr__(self) -> str:
        words = [_described(predicate) for predicate in self.predicates]
        return f"~{words[0]}" if self.sign == "~" else f"({f' {self.sign} '.join(words)})"


class Route(Rule, register=False):
    """A rule for every parameter, the first whose predicate holds; see ``route``."""

    weight_decay = decay = maximize = state_dtype = None

    routes: tuple[tuple[Predicate | None, Rule], ...]

    def __init__(self, *routes: tuple[Predicate, Rule] | Rule) -> None:
        if not routes:
            raise TypeError(
                "route(): give pairs of a predicate and a rule, and a rule for the rest"
            )
        object.__setattr__(self, "routes", tuple(_pair(i, item) for i, item in enumerate(routes)))
        self._store({}, Groups("route"))
        summing = [rule for rule in self.branches if rule.phases]
        if len(summing) > 1:
            raise ValueError(
                f"route({', '.join(rule.name for rule in summing)}): each of these sums over all "
                "its parameters; only one such rule can be in a route"
            )
        for place, (predicate, _) in enumerate(self.routes[:-1]):
            if predicate is None:
                raise TypeError(
                    f"route: {self.routes[place][1]!r} stands without a predicate before others, "
                    "which would get nothing; only the last may"
                )

    @classmethod
    def _derived_signature(cls) -> inspect.Signature:
        return inspect.Signature([inspect.Parameter("routes", inspect.Parameter.VAR_POSITIONAL)])

    @property
    def branches(self) -> tuple[Rule, ...]:
        """The rules, in order."""
        return tuple(rule for _, rule in self.routes)

    def branch(self, path: str, shape: Any) -> int:
        """Place of the rule that has a parameter.

        Raises:
            ValueError: none has it.
        """
        parameter = Parameter(path, tuple(shape))
        for place, (predicate, _) in enumerate(self.routes):
            if predicate is None or self.groups.answer(
                f"the predicate of route {place}", predicate, parameter
            ):
                return place
        raise ValueError(
            f"route: parameter {path!r} of shape {tuple(shape)} goes nowhere; the predicates are "
            + ", ".join(_described(predicate) for predicate, _ in self.routes)
            + "; a rule without a predicate at the end takes the rest"
        )

    def of(self, path: str, shape: Any) -> Rule:
        """The rule for one parameter."""
        return self.branches[self.branch(path, shape)].of(path, shape)

    @property
    def phases(self) -> int:
        """Those of the rule that sums over its parameters, if there is one."""
        return max(rule.phases for rule in self.branches)

    @property
    def hypers(self) -> dict[str, Any]:
        """Nothing: every rule has its own."""
        return {}

    def slots(self) -> dict[str, Slot]:
        """All slots that a rule keeps; a parameter has those of its own rule."""
        return {name: slot for rule in self.branches for name, slot in rule.slots().items()}

    def declared_slots(self) -> dict[str, Slot]:
        """All slots of all rules."""
        return {n: slot for rule in self.branches for n, slot in rule.declared_slots().items()}

    def shared(self) -> dict[str, Shared]:
        """The shared state of the one rule that has some."""
        return {name: item for rule in self.branches for name, item in rule.shared().items()}

    def first_value(self, item: Shared) -> Any:
        """First value of a shared state array."""
        return next(r for r in self.branches if item in r.shared().values()).first_value(item)

    def numbers(self) -> Iterator[Any]:
        """The numbers of all rules."""
        for rule in self.branches:
            yield from rule.numbers()

    def at(self, step: Any) -> Self:
        """All rules as they are after ``step`` steps."""
        return self._mapped(lambda rule: rule.at(step))

    def map_numbers(self, function: Callable[[Any], Any]) -> Self:
        """A copy with ``function`` applied to every number of every rule."""
        return self._mapped(lambda rule: rule.map_numbers(function))

    def _stripped(self) -> Self:
        return self._mapped(lambda rule: rule.without_numbers())

    def _mapped(self, change: Callable[[Rule], Rule]) -> Self:
        return type(self)(
            *(
                change(rule) if predicate is None else (predicate, change(rule))
                for predicate, rule in self.routes
            )
        )

    def coefficients(self, xp: Any, t: Any) -> dict[str, Any]:
        """Those of the rule that sums over its parameters."""
        return self._summing.coefficients(xp, t)

    def summed(self, xp: Any, sums: Any, shared: Any, s: Any, phase: int) -> dict[str, Any]:
        """The shared state of that rule."""
        return self._summing.summed(xp, sums, shared, s, phase)

    @property
    def _summing(self) -> Rule:
        return max(self.branches, key=lambda rule: rule.phases)

    def replace(self, **changes: Any) -> Self:
        """Nothing can be replaced: make a route of other rules."""
        if changes:
            raise TypeError(
                f"route: there is no {listed(changes)} to replace; it belongs to one of the rules "
                + ", ".join(rule.name for rule in self.branches)
            )
        return self

    def table(self, params: Any) -> str:
        """Which parameter has which rule, why, and how many bytes of state that takes.

        Args:
            params: a tree of arrays, or pairs of a name and a tensor (``named_parameters()``).
        """
        rows = [("parameter", "shape", "rule", "because of", "bytes of state")]
        total = 0
        for path, array in _named(params):
            place = self.branch(path, array.shape)
            predicate, rule = self.routes[place]
            size = state_bytes(rule.of(path, array.shape), array.shape, dtype_name(array.dtype))
            total += size
            why = "the rest" if predicate is None else f"{place}: {_described(predicate)}"
            shape = " x ".join(map(str, array.shape)) or "0-d"
            rows.append((path, shape, rule.name, why, f"{size:,}"))
        rows.append(("", "", "", "total", f"{total:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if last else cell.ljust(width)
                for cell, width, last in zip(row, widths, (False,) * 4 + (True,), strict=True)
            )
            for row in rows
        )

    def __repr__(self) -> str:
        shown = (
            repr(rule) if predicate is None else f"({_described(predicate)}, {rule!r})"
            for predicate, rule in self.routes
        )
        return f"route({', '.join(shown)})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Route) and self.routes == other.routes

    __hash__ = Rule.__hash__

    def _plain(self) -> dict[str, Any]:
        return {str(place): route for place, route in enumerate(self.routes)}


def route(*routes: tuple[Predicate, Rule] | Rule) -> Route:
    """A rule that hands every parameter to the first rule whose predicate holds.

    Args:
        routes: pairs of a predicate (``Where(...)``, or a callable of a ``Parameter``) and a rule;
            the last may be a rule alone, which takes the rest.

    Raises:
        TypeError, ValueError: no such pairs; several rules that sum over all parameters. At the
            first step: a parameter that goes nowhere, by its name.
    """
    return Route(*routes)


def state_bytes(rule: Rule, shape: Any, dtype: str) -> int:
    """Bytes of state of one parameter.

    Args:
        rule: its rule.
        shape: of the parameter.
        dtype: name of the parameter's dtype.
    """
    param = numpy.broadcast_to(numpy.zeros((), getattr(_Sized(), dtype)), tuple(shape))
    slots = stepping.init_slots(rule, _Sized(), param)
    return sum(int(part.nbytes) for value in slots.values() for part in parts(value))


class _Sized:
    """NumPy, with float16 in the place of the bfloat16 that it does not have."""

    bfloat16 = numpy.float16

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)


def _pair(place: int, item: Any) -> tuple[Predicate | None, Rule]:
    predicate, rule = (None, item) if isinstance(item, Rule) else _two(place, item)
    if isinstance(rule, Route):
        raise TypeError(f"route: route {place} leads to another; list all rules in one")
    return predicate, rule


def _two(place: int, item: Any) -> tuple[Predicate, Rule]:
    fits = isinstance(item, (tuple, list)) and len(item) == 2
    if not fits or not callable(item[0]) or not isinstance(item[1], Rule):
        raise TypeError(
            f"route: route {place} is {item!r}; it must be a pair of a predicate and a rule, such "
            "as (Where(min_ndim=2), Muon(lr=0.02)), or a rule"
        )
    return item[0], item[1]


def _described(predicate: Any) -> str:
    own = isinstance(predicate, Where) or not hasattr(predicate, "__name__")
    return repr(predicate) if own else str(predicate.__name__)


def _named(params: Any) -> Iterable[tuple[str, Any]]:
    """Names and arrays, from a tree or from pairs."""
    if isinstance(params, Mapping) or is_array(params) or hasattr(params, "shape"):
        return [(tree.dotted(path), array) for path, array in tree.leaves(params)]
    pairs = list(params)
    if all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        return pairs
    return [(tree.dotted(path), array) for path, array in tree.leaves(pairs)]
