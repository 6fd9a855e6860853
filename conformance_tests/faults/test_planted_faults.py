"""Planted faults: each is named in every rule that has it, or said to be unexplained; none wrongly.

``make test`` plants a few faults in every rule, of every kind together; ``make thorough`` the whole
table. No fault is named wrongly, and at least 95 of 100 are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import samestep
from samestep.conformance.faults.catalogue import FAULTS
from samestep.conformance.faults.mutation import Fault, with_fault
from samestep.conformance.faults.planted import (
    Row,
    diagnosed,
    faulty,
    kinds,
    main,
    numbers_of,
    rows,
    rules,
    selection,
)
from samestep.parity.comparison import compared
from samestep.parity.subjects.subject import subject
from samestep.rule import Rule, registry

NAMES = [rule.__name__ for rule in rules()]
SHARE = 0.95
SHARE_OF_A_RULE = 0.9
TOTAL = Counter[str]()
"""The verdicts about all rules whose faults have been planted."""


def judged(found: Iterable[Row]) -> Counter[str]:
    """How many rows have which verdict; none may be named wrongly."""
    counted: Counter[str] = Counter()
    wrong = []
    for row in found:
        comparison, outcome = diagnosed(row)
        assert comparison.verdict == "differ", f"{row.key} changes nothing"
        counted[outcome.verdict] += 1
        if outcome.verdict == "wrong":
            expected = [sorted(names) for names in row.fault.expected]
            said = sorted(outcome.names), outcome.sentences
            wrong.append(f"{row.key}: {said}; expected {expected}")
    assert not wrong, "\n".join(wrong)
    return counted


@pytest.mark.parametrize("name", NAMES)
def test_faults_planted_in_a_rule_are_named(name: str) -> None:
    chosen = [row for row in selection() if row.rule.__name__ == name]
    assert len(chosen) >= 2
    assert judged(chosen)["right"] >= len(chosen) - 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_every_fault_planted_in_a_rule_is_named(name: str) -> None:
    found = list(rows(registry[name]))
    assert len(found) >= 30 and len({row.fault.kind for row in found}) >= 8
    counted = judged(found)
    TOTAL.update(counted)
    assert counted["right"] >= SHARE_OF_A_RULE * len(found)


@pytest.mark.thorough
def test_of_a_hundred_faults_ninety_five_are_named() -> None:
    if not TOTAL:
        pytest.skip("it judges what the tests of all rules have planted, and they have not run")
    assert TOTAL["right"] >= SHARE * TOTAL.total()


def test_the_selection_has_every_kind_and_every_rule() -> None:
    chosen = selection()
    assert {row.fault.kind for row in chosen} == {*kinds()}
    assert {row.rule for row in chosen} == {*rules()}


@pytest.mark.thorough
def test_every_fault_of_the_table_is_planted_in_some_rule() -> None:
    found = [row.key for rule in rules() for row in rows(rule)]
    assert len(found) == len({*found}) > 1500
    used = {(kind, name) for _, kind, name in found}
    unused = [fault.name for fault in FAULTS if (fault.kind, fault.name) not in used]
    assert not [name for name in unused if not name.startswith("stale ")]  # of slots without uses


STEP = "_times((X.rate,), D)"
NOTHING = {
    "one percent further": f"{STEP} => 1.01 * X.rate * D",
    "steps that depend on the parameter": f"{STEP} => X.rate * D * (1 + numpy.sin(param))",
    "the direction and a constant": f"{STEP} => X.rate * (D + 0.01)",
}
"""Steps that no variant takes."""

OF_NEEDS: dict[Any, type[Rule]] = {rule.needs: rule for rule in reversed(rules())}


def unexplained(rule: Any, pattern: str) -> str:
    numbers = numbers_of(rule, {})
    assert numbers is not None
    wrong = faulty(rule, rule(**numbers), f"descend: {pattern}")
    found = compared(subject(wrong, **numbers), subject(f"samestep:{rule.__name__}", **numbers))
    assert found.verdict == "differ" and not found.explained and not found.reasons
    (sentence,) = found.sentences
    return sentence


@pytest.mark.parametrize("needs", OF_NEEDS)
def test_what_no_variant_does_is_unexplained_in_every_kind_of_rule(needs: str) -> None:
    rule = OF_NEEDS[needs]
    assert unexplained(rule, NOTHING["one percent further"]).startswith("unexplained: none of ")


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_what_no_variant_does_is_unexplained_in_every_rule(name: str) -> None:
    for new in NOTHING.values():
        assert unexplained(registry[name], new).startswith("unexplained: none of ")


IN_WRAPPERS = {
    "Lookahead": (
        "scalars: A % X.sync_period == 0 => (A + 1) % X.sync_period == 0",
        *("Lookahead one step later", {}),
    ),
    "Lookahead, rate": (
        "followed: A + P * (B - A) => B + P * (A - B)",
        *("1 - sync_rate", {"sync_rate": 0.3}),
    ),
    "ClipGlobalNorm": (
        "combine: A + X.norm_eps => numpy.maximum(A, X.norm_eps)",
        *("norm_eps as a bound", {"norm_eps": 3.0, "max_norm": 0.1}),
    ),
    "ClipValue": ("xp.clip(A, B, C) => A", "no max_value", {"max_value": 0.01}),
    "ClipNorm": ("prepare: norm(X, A) => norm(X, A) + 1e-3", None, {}),
    "Centralize": ("A.ndim < 2 => A.ndim < 3", None, {}),
}


@pytest.mark.parametrize("name", IN_WRAPPERS)
def test_a_fault_in_a_wrapper_is_named_or_unexplained(name: str) -> None:
    wrapper: Any = registry[name.partition(",")[0]]
    pattern, expected, given = IN_WRAPPERS[name]
    right = wrapper(samestep.SGD(lr=0.01, momentum=0.9), **given)
    wrong = faulty(wrapper, right, pattern)
    found = compared(subject(wrong(right.rule, **given)), subject(right))
    if expected is None:
        assert not found.reasons
        assert all(sentence.startswith("unexplained") for sentence in found.sentences)
    else:
        assert [reason.option for reason in found.reasons] == [expected]
        assert "unexplained" not in " ".join(found.sentences)


def test_wrappers_around_different_rules_are_unexplained() -> None:
    one = samestep.ClipNorm(samestep.SGD(lr=0.01))
    other = samestep.ClipNorm(samestep.SGD(lr=0.02))
    found = compared(subject(one), subject(other))
    assert found.verdict == "differ" and not found.reasons
    assert all(sentence.startswith("unexplained") for sentence in found.sentences)


def test_a_class_without_a_fault_is_the_rule_to_the_last_bit() -> None:
    for rule in rules():
        numbers = numbers_of(rule, {}) or {}
        same = with_fault(rule, Fault("none", {}))
        assert same is not rule and same.fields().keys() == rule.fields().keys()
        found = compared(subject(same, **numbers), subject(f"samestep:{rule.__name__}", **numbers))
        assert (found.verdict, found.distance) == ("agree", 0.0), rule.__name__


def test_a_fault_is_there_while_the_faulty_class_steps_and_no_longer() -> None:
    rule: Any = registry["AdamW"]
    numbers = {"lr": 0.01}
    wrong = faulty(rule, rule(**numbers), "ema(A, B, P) => ema(B, A, P)")
    found = compared(subject(wrong, **numbers), subject("samestep:AdamW", **numbers))
    assert found.verdict == "differ"
    same = compared(subject("samestep:AdamW", **numbers), subject(rule, **numbers))
    assert same.verdict == "agree"


def test_the_page_of_the_table_says_how_many_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "faults.md"
    assert main(["--rules", "SignSGD", "--kinds", "sign", "--write", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| SignSGD |" in text and "| sign | SignSGD: " in text
    assert "unexplained" in text and "100 %" in text
    assert str(page) in capsys.readouterr().out
