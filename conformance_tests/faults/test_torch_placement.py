"""Faults in the placement of the torch adapter are caught by steps and files of four processes."""

from __future__ import annotations

from collections import Counter

import pytest

from samestep.conformance.harness.ranks import started

planted = pytest.importorskip("samestep.conformance.faults.torch_placement")
pytestmark = pytest.mark.sharded
four = started("torch", 4)


FAULTS = [fault.name for fault in planted.faults_of_people()]
WAITS = (
    "copies are pieces of a mesh of all",
    "rows in the order of the group",
    "what has cut before is forgotten",
    "a gradient is not added up",
    "a mesh is not compared",
)
"""Those with which some process waits for another, until the test ends them."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.thorough if n in WAITS else ()) for n in FAULTS]
)
def test_faults_that_people_make_are_caught(four, name):
    assert planted.shown(four, "faults_of_people", FAULTS.index(name)).startswith("caught")


@pytest.mark.thorough
def test_faults_of_mechanical_kinds_are_caught(four):
    """Or change no bit; none changes a bit and is not noticed. One of six, for each takes long."""
    counted, survivors = Counter[str](), []
    for at, fault in [*enumerate(planted.mechanical())][::6]:
        found = planted.shown(four, "mechanical", at).partition(":")[0]
        counted[found] += 1
        survivors += [fault.name] if found == "rounding" else []
    print(counted)
    assert not survivors, survivors
    assert counted["caught"] >= counted.total() / 3
