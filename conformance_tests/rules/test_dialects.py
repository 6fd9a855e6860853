"""Every dialect against the library that it is named after, or against vectors worked out by hand.

Rule, reference and library run in float64 over the same recorded gradients, which change sign, span
decades and hold exact zeros, on shapes that include an empty and a 0-d one. Parameters and state
are compared after every step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import numpy
import pytest

from samestep.conformance.peers import Peer, Vector, agree, declared, dialects, run
from samestep.conformance.references import follow_reference
from samestep.parity import Trajectory, oracle, record
from samestep.parity.trajectory import suited
from samestep.rule import Rule, registry
from samestep.vocabulary import Wrapper

STEPS = 120
MODULES = dialects()
# What a paper prints has no library beside it; what it says stands in the preset's note.
WITHOUT_PEER = {"paper"}


def cases(kind: str) -> list[Any]:
    found = []
    for name, module in MODULES.items():
        for item in getattr(module, kind, []):
            for values in item.settings if isinstance(item, Peer) else [item.settings]:
                shown = "-".join(f"{k}={v}" for k, v in values.items() if "<" not in str(v))
                label = f"{item.rule}-{name}-{shown}"
                found.append(pytest.param(name, item, values, id=label))
    return found


def made(name: str, like: str | None, values: dict[str, Any]) -> Rule:
    """The rule of that dialect; of a wrapper, around the rule that the values name."""
    rule = registry[name]
    if "inner" not in values:
        return rule(like=like, **values)
    inner = registry[values["inner"]]
    mine = {k: v for k, v in values.items() if k in rule.fields()}
    others = {k: v for k, v in values.items() if k not in mine and k != "inner"}
    return rule(inner(**others), like=like, **mine)


def trajectory_for(peer: Peer) -> Trajectory:
    trajectory = record(seed=3, steps=STEPS)
    return peer.problem(trajectory.taken(set(trajectory.params) - set(peer.without)))


def need(module: ModuleType) -> None:
    for library in module.LIBRARIES:
        if find_spec(library.partition(".")[0]) is None:
            pytest.skip(f"{library} is not installed")


@pytest.mark.parametrize(("like", "peer", "values"), cases("PEERS"))
def test_a_dialect_computes_what_its_library_does(
    like: str, peer: Peer, values: dict[str, Any]
) -> None:
    rule = made(peer.rule, like, values)
    hypers = {**rule.hypers, **{k: v for k, v in values.items() if k == "inner"}}
    compare_with_library(like, peer, rule, hypers)


@pytest.mark.parametrize(("like", "peer", "values"), cases("OTHERS"))
def test_a_rule_computes_what_a_library_does_that_it_has_no_dialect_for(
    like: str, peer: Peer, values: dict[str, Any]
) -> None:
    rule = made(peer.rule, None, values)
    compare_with_library(like, peer, rule, rule.hypers)


def compare_with_library(name: str, peer: Peer, rule: Rule, hypers: Mapping[str, Any]) -> None:
    """The rule and its reference beside the library's optimizer."""
    module = MODULES[name]
    need(module)
    trajectory = suited(rule, trajectory_for(peer))
    theirs = run(module, peer, hypers, trajectory)
    kept = {slot.partition(".")[0] for slot, _ in theirs[-1]}
    assert {*rule.slots(), *rule.shared()} - {*peer.left_out} <= kept
    whole = rule.needs == "matrix"
    agree(oracle(rule, trajectory), theirs, peer.tolerance, "the rule", whole=whole)
    filled = trajectory.taken({path for path, array in trajectory.params.items() if array.size})
    reference = follow_reference(rule, filled)
    agree(reference, theirs, peer.tolerance, "the reference", whole=whole)


def compared() -> list[tuple[str, str]]:
    """Rules and dialects of the libraries that can be asked for their defaults."""
    asked = {name for name, module in MODULES.items() if hasattr(module, "PEERS")}
    return [(rule, name) for rule in registry for name in registry[rule].dialects if name in asked]


@pytest.mark.parametrize(("name", "like"), compared())
def test_a_dialect_has_the_library_s_own_defaults(name: str, like: str) -> None:
    module = MODULES[like]
    need(module)
    inner = {"inner": "SGD"} if issubclass(registry[name], Wrapper) else {}
    hypers = made(name, like, inner).hypers
    path = re.match(r"[\w.]+", registry[name].dialects[like].of)  # the first, where it is several
    assert path is not None
    asked = getattr(module, "defaults", lambda of: declared(resolve_name(of)))
    theirs = asked(path[0])
    ours = {}
    for argument in theirs:
        taken = module.ARGUMENTS.find(name, argument)
        if taken is not None:
            ours[argument] = taken(hypers) if callable(taken) else hypers[taken]
    assert {k: plain(v) for k, v in ours.items()} == {k: plain(theirs[k]) for k in ours}


def plain(value: Any) -> Any:
    """A list is a tuple, and what is switched off is None."""
    return tuple(value) if isinstance(value, (list, tuple)) else value or None


@pytest.mark.parametrize(("like", "vector", "values"), cases("VECTORS"))
def test_a_dialect_computes_what_was_worked_out_by_hand(
    like: str, vector: Vector, values: dict[str, Any]
) -> None:
    grads = [{"w": numpy.array(grad)} for grad in vector.grads]
    trajectory = Trajectory({"w": numpy.array(vector.start)}, grads)
    rule = made(vector.rule, like, values)
    ours = oracle(rule, trajectory)[1:]
    assert {"param", *rule.slots()} == set(vector.after)
    for slot, rows in vector.after.items():
        for step, row in enumerate(rows, 1):
            found = ours[step - 1][slot, "w"]
            numpy.testing.assert_allclose(
                found, row, rtol=1e-14, atol=1e-15, err_msg=f"{slot} after step {step}"
            )


def test_every_declared_dialect_is_tested() -> None:
    tested = {
        (item.rule, name)
        for name, module in MODULES.items()
        for item in [*getattr(module, "PEERS", []), *getattr(module, "VECTORS", [])]
    }
    declared = {(rule, name) for rule in registry for name in registry[rule].dialects}
    assert {pair for pair in declared if pair[1] not in WITHOUT_PEER} == tested


def test_a_peer_with_a_tolerance_of_its_own_says_why() -> None:
    peers = [peer for module in MODULES.values() for peer in getattr(module, "PEERS", [])]
    assert all((peer.tolerance > Peer.tolerance) == bool(peer.because) for peer in peers)


@pytest.mark.parametrize("name", sorted(name for name in registry if registry[name].dialects))
def test_an_unknown_dialect_is_refused_with_those_there_are(name: str) -> None:
    values = {"inner": "SGD"} if issubclass(registry[name], Wrapper) else {}
    with pytest.raises(ValueError, match="no such dialect") as caught:
        made(name, "esperanto", values)
    assert all(repr(known) in str(caught.value) for known in registry[name].dialects)
