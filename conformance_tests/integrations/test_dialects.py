"""The dialects of libraries that only these tests install, beside the real packages."""

from __future__ import annotations

import pytest

from samestep.conformance.rules import test_dialects as dialects

LIKE = ("heavyball", "keller-jordan", "optimi", "pytorch_optimizer", "schedulefree")
HERE = [case for case in dialects.CASES if case.like in LIKE]


@pytest.mark.parametrize("side", ["the rule", "the reference", "torch"])
@pytest.mark.parametrize("case", HERE, ids=lambda case: case.label)
def test_a_dialect_computes_what_its_library_does(case: dialects.Case, side: str) -> None:
    dialects.test_a_dialect_computes_what_its_library_does(case, side)
