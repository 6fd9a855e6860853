"""Every dialect against the library that it is named after, or against its published formulas.

The rule in NumPy, its reference, the native class of every framework and the library's own
optimizer run in float64 over the same recorded gradients, which change sign, span decades and hold
exact zeros, on shapes that include an empty and a 0-d one. Parameters and state are compared after
every step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest

from samestep.conformance.peers import Peer, agree, declared, dialects, followed, run
from samestep.conformance.references import follow_reference
from samestep.kept import KEPT
from samestep.parity import Trajectory, compare, oracle, record
from samestep.parity.backend import Snapshot
from samestep.parity.trajectory import as_recorded, suited
from samestep.rule import Rule, registry
from samestep.vocabulary import Wrapper

STEPS, FEWER = 120, 50
"""Steps of a peer in its furthest setting by itself, and of every other comparison."""
MODULES = dialects()
# What a paper prints has no library beside it; what it says stands in the preset's note.
WITHOUT_PEER = {"paper"}
ADAPTERS = {"torch": "torch", "optax": "jax", "mlx": "mlx"}
"""The adapter by the package that the parity kit steps."""
HOME = {"torch": "torch", "optax": "optax", "jax": "optax", "keras": "optax", "mlx": "mlx"}
"""Where a library's optimizers are replaced by native classes."""


@dataclass(frozen=True, eq=False)
class Case:
    """A peer with one of its settings, and the rule that computes the same."""

    like: str
    peer: Peer
    values: Mapping[str, Any]
    is_dialect: bool = True
    """Whether the rule needs ``like``."""

    @property
    def furthest(self) -> bool:
        """Whether this is the peer's setting furthest from its defaults."""
        return self.values is self.peer.settings[-1]

    @property
    def module(self) -> ModuleType:
        """What says how the library is called."""
        return MODULES[self.like]

    @cached_property
    def rule(self) -> Rule:
        """The rule with these values."""
        return made(self.peer.rule, self.like if self.is_dialect else None, self.values)

    @property
    def hypers(self) -> dict[str, Any]:
        """The rule's, with the name of the rule inside."""
        aside = {name: value for name, value in self.values.items() if name == "inner"}
        return {**self.rule.hypers, **aside}

    @property
    def trajectory(self) -> Trajectory:
        """What both sides are given."""
        given = record(seed=3, steps=STEPS if self.furthest else FEWER)
        given = given.taken(set(given.params) - set(self.peer.without))
        return suited(self.rule, self.peer.problem(given))

    @property
    def label(self) -> str:
        """The name in a test's."""
        shown = "-".join(f"{k}={v}" for k, v in self.values.items() if "<" not in str(v))
        return f"{self.peer.rule}-{self.like}-{shown}"


CASES = [
    Case(like, peer, values, kind == "PEERS")
    for like, module in MODULES.items()
    for kind in ("PEERS", "OTHERS")
    for peer in getattr(module, kind, [])
    for values in peer.settings
]
FURTHEST = [case for case in CASES if case.furthest]


def made(name: str, like: str | None, values: Mapping[str, Any]) -> Rule:
    """The rule of that dialect; of a wrapper, around the rule that the values name."""
    rule = registry[name]
    if "inner" not in values:
        return rule(like=like, **values)
    inner = registry[values["inner"]]
    mine = {k: v for k, v in values.items() if k in rule.fields()}
    others = {k: v for k, v in values.items() if k not in mine and not k.startswith("inner")}
    return rule(inner(like=values.get("inner_like"), **others), like=like, **mine)


def need(module: ModuleType) -> None:
    for library in module.LIBRARIES:
        if find_spec(library.partition(".")[0]) is None:
            pytest.skip(f"{library} is not installed")


@lru_cache(1)
def of_library(case: Case, dtype: str = "float64") -> list[Snapshot]:
    """The library's optimizer over the case's trajectory."""
    need(case.module)
    return run(case.module, case.peer, case.hypers, case.trajectory, dtype)


def in_framework(
    case: Case, package: str, dtype: str = "float64", steps: int = STEPS
) -> list[Snapshot]:
    """The native class of a framework over the first steps of the case's trajectory."""
    adapter = pytest.importorskip(f"samestep.{ADAPTERS[package]}")
    given = case.trajectory
    rule, trajectory = as_recorded(case.rule), given.taken(given.params, steps).rounded(dtype)
    kept = {name: rule.hypers[name] for name in KEPT if name in rule.fields()}

    def make(*tensors: Any) -> Any:
        given = [list(zip(trajectory.params, some, strict=True)) for some in tensors]
        how = {"execution": "reference"} if package == "mlx" else {}  # it compiles for long
        if isinstance(rule, Wrapper):
            return adapter.bind(rule, *given, **how)
        like = case.like if case.is_dialect else None
        return getattr(adapter, rule.name)(*given, like=like, **{**case.values, **kept}, **how)

    return followed(package, make, trajectory, dtype)


def home(case: Case) -> str:
    return HOME.get(getattr(case.module, "PACKAGE", ""), "mlx")


SIDES = ("the rule", "the reference", *ADAPTERS)


def sides() -> list[Any]:
    """Every case on every side; the reference of schedules is the formula beside it.

    A peer's furthest setting stands for all of them. Another framework than the library's shows
    something where a quirk runs in it.
    """
    found = []
    for case in CASES:
        for side in SIDES:
            near = side in ("the rule", "the reference", home(case))
            usual = case.furthest and (near or case.rule.quirks)
            if side in ("the rule", "mlx", "torch") or case.rule.at(0) is case.rule:
                marks = () if usual else (pytest.mark.thorough,)
                found.append(pytest.param(case, side, id=f"{case.label}-{side}", marks=marks))
    return found


@pytest.mark.parametrize(("case", "side"), sides())
def test_a_dialect_computes_what_its_library_does(case: Case, side: str) -> None:
    rule, peer, theirs = case.rule, case.peer, of_library(case)
    kept = {slot.partition(".")[0] for slot, _ in theirs[-1]}
    assert {*rule.slots(), *rule.shared()} - {*peer.left_out} <= kept
    trajectory = case.trajectory
    if side == "the rule":
        found = oracle(rule, trajectory)
    elif side == "the reference":
        filled = {path for path, array in trajectory.params.items() if array.size}
        found = follow_reference(rule, trajectory.taken(filled))
    else:
        found = in_framework(case, side, steps=FEWER)
        theirs = theirs[: len(found)]
        kept -= {*rule.shared()}  # no parameter's own
        assert {slot.partition(".")[0] for slot, _ in found[-1]} >= kept & {*rule.slots()}
    agree(found, theirs, peer.tolerance, side, whole=rule.needs == "matrix")


FEW = {"mlx": 8, "jax-example": 16}
"""ULP of float32 that two orders of evaluation may part by in all: each rounding is half a unit,
and errors of either sign add up to some sqrt(100) of them. In JAX's examples a sum of steps, such
as momentum of steps, gathers the errors of ten."""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.label, marks=() if case.like == "mlx" else pytest.mark.thorough)
        for case in CASES
        if case.furthest and case.like in FEW and case.is_dialect
        if case.peer.rule not in ("Adafactor", "Muon")  # whose sums round in any order
    ],
)
def test_in_float32_they_part_by_a_few_roundings(case: Case) -> None:
    """And by what ``1 - beta**t`` is off where a library takes it in float32: half a unit of 1.

    Nothing is compiled: what a compiler fuses has other roundings, in each kernel its own.
    """
    rule, name = case.rule, case.peer.rule
    limit: float = FEW[case.like]
    if case.like == "jax-example" and name == "Adamax":
        limit += 1 / (1 - rule.hypers["betas"][0])
    elif name in ("Adam", "AdamW") and rule.hypers["bias_correction"]:
        limit += 0.5 / (1 - rule.hypers["betas"][1])  # of which the root takes half
    with uncompiled(case):
        theirs = of_library(case, "float32")
        ours = in_framework(case, home(case), "float32")
    common = ours[0].keys() & theirs[0].keys()
    one, other = (
        [{key: row[key].reshape(ours[0][key].shape) for key in common} for row in rows]
        for rows in (ours, theirs)
    )
    difference = compare(one, other, "float32")
    assert difference.ulp <= limit, difference.worst


def uncompiled(case: Case) -> AbstractContextManager[Any]:
    """Every operation of JAX by itself; in MLX only a native class has kernels, which are off."""
    need(case.module)
    return import_module("jax").disable_jit() if case.like == "jax-example" else nullcontext()


def compared() -> list[tuple[str, str]]:
    """Rules and dialects of the libraries that can be asked for their defaults."""
    asked = {name for name, module in MODULES.items() if hasattr(module, "ARGUMENTS")}
    return [(rule, name) for rule in registry for name in registry[rule].dialects if name in asked]


def read(name: str, like: str) -> tuple[dict[str, Any], Any]:
    """The library's defaults, and what reads the same arguments from a rule of ours."""
    module = MODULES[like]
    need(module)
    path = re.match(r"[\w.]+", registry[name].dialects[like].of)  # the first, where it is several
    assert path is not None
    asked = getattr(module, "defaults", lambda of: declared(resolve_name(of)))
    theirs = asked(path[0])
    taken = {argument: module.ARGUMENTS.find(name, argument) for argument in theirs}
    taken = {argument: how for argument, how in taken.items() if how is not None}

    def ours(values: Mapping[str, Any]) -> dict[str, Any]:
        hypers = made(name, like, values).hypers
        found = {a: how(hypers) if callable(how) else hypers[how] for a, how in taken.items()}
        return {argument: plain(value) for argument, value in found.items()}

    return {argument: plain(theirs[argument]) for argument in taken}, ours


def plain(value: Any) -> Any:
    """A list is a tuple, and what is switched off is None."""
    return tuple(value) if isinstance(value, (list, tuple)) else value or None


def start(name: str) -> dict[str, Any]:
    return {"inner": "SGD"} if issubclass(registry[name], Wrapper) else {}


@pytest.mark.parametrize(("name", "like"), compared())
def test_a_dialect_has_the_library_s_own_defaults(name: str, like: str) -> None:
    theirs, ours = read(name, like)
    assert ours(start(name)) == theirs


ONE_VALUE = {("nesterov", "optax"), ("amsgrad", "labml")}
"""Arguments that have one value in the rule that computes the same."""


@pytest.mark.parametrize(("name", "like"), compared())
def test_every_option_of_a_library_is_tried(name: str, like: str) -> None:
    """So that one which it gains is noticed, and compared at another value than its default."""
    theirs, ours = read(name, like)
    settings = [case.values for case in CASES if (case.peer.rule, case.like) == (name, like)]
    tried = [ours(values) for values in settings]
    ignored = getattr(MODULES[like], "IGNORED", {}).get(name, {})
    left = [a for a in theirs if all(one[a] == ours(start(name))[a] for one in tried)]
    aside = [a for a in left if (a, like) in ONE_VALUE and a not in registry[name].fields()]
    if name == "AMSGrad":
        aside.append("amsgrad")
    assert {*left} <= {*aside, *ignored}


def test_every_declared_dialect_is_tested() -> None:
    tested = {(case.peer.rule, case.like) for case in CASES if case.is_dialect}
    declared = {(rule, name) for rule in registry for name in registry[rule].dialects}
    assert {pair for pair in declared if pair[1] not in WITHOUT_PEER} == tested


def test_a_peer_with_a_tolerance_of_its_own_says_why() -> None:
    assert all((c.peer.tolerance > Peer.tolerance) == bool(c.peer.because) for c in CASES)


@pytest.mark.parametrize("name", sorted(name for name in registry if registry[name].dialects))
def test_an_unknown_dialect_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="no such dialect") as caught:
        made(name, "esperanto", start(name))
    assert all(repr(known) in str(caught.value) for known in registry[name].dialects)
