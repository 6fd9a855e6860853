"""Planted faults: each is named in every rule that has it, or said to be unexplained; none wrongly.

``make test`` plants a few faults in every rule, of every kind together; ``make thorough`` the whole
table. That 95 of 100 are named follows: every row is named but for those of ``UNEXPLAINED``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import samestep
from samestep.conformance.faults.copies import NoPlaceError, copy_of
from samestep.conformance.faults.planted import (
    UNEXPLAINED,
    Row,
    diagnosed,
    kinds,
    main,
    numbers_of,
    rows,
    rules,
    selection,
)
from samestep.conformance.faults.table import FAULTS, GIVEN
from samestep.parity.comparison import compared
from samestep.parity.subjects.subject import subject
from samestep.rule import Rule, registry

NAMES = [rule.__name__ for rule in rules()]
SHARE = 0.95


def failures(found: Iterable[Row]) -> list[str]:
    """Rows of which something else is said than what is expected."""
    wrong = []
    for row in found:
        before = time.process_time()
        comparison, outcome = diagnosed(row)
        taken = time.process_time() - before
        assert comparison.verdict == "differ", f"{row.key} changes nothing"
        expected = "unexplained" if row.key in UNEXPLAINED else "right"
        if outcome.verdict != expected or taken > (5 if expected == "right" else 10):
            wrong.append(
                f"{row.key}: {outcome.verdict}, {sorted(outcome.names)}, {taken:.1f} s; expected "
                f"{[sorted(names) for names in row.fault.expected]}; {outcome.sentences}"
            )
    return wrong


@pytest.mark.parametrize("name", NAMES)
def test_faults_planted_in_a_rule_are_named(name: str) -> None:
    chosen = [row for row in selection() if row.rule.__name__ == name]
    assert len(chosen) >= 2
    assert not failures(chosen)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_every_fault_planted_in_a_rule_is_named(name: str) -> None:
    found = list(rows(registry[name]))
    assert len(found) >= 30 and len({row.fault.kind for row in found}) >= 8
    assert not failures(found)


def test_the_selection_has_every_kind_and_every_rule() -> None:
    chosen = selection()
    assert {row.fault.kind for row in chosen} == {*kinds()}
    assert {row.rule for row in chosen} == {*rules()}
    unexplained = [row.key for row in chosen if row.key in UNEXPLAINED]
    assert len(unexplained) <= (1 - SHARE) * len(chosen), unexplained


@pytest.mark.thorough
def test_at_most_five_of_a_hundred_faults_are_unexplained() -> None:
    found = [row.key for rule in rules() for row in rows(rule)]
    assert len(found) == len({*found}) > 1500
    assert {*found} >= {*UNEXPLAINED}, "what is listed as unexplained is no row"
    assert len(UNEXPLAINED) <= (1 - SHARE) * len(found)
    planted = Counter((kind, name) for _, kind, name in found)
    unused = [(fault.kind, fault.name) for fault in FAULTS if not planted[fault.kind, fault.name]]
    assert not unused


NOTHING = {
    "one percent further": "1.01 * s.rate * direction",
    "steps that depend on the parameter": "s.rate * direction * (1 + 0.1 * numpy.sin(9 * param))",
    "the cube of the direction": "s.rate * direction**3",
}
"""Steps that no variant takes."""

OF_NEEDS: dict[Any, type[Rule]] = {rule.needs: rule for rule in reversed(rules())}


def unexplained(rule: type[Rule], new: str) -> str:
    wrong = copy_of(rule, [("descend", "s.rate * direction", new)])
    numbers = numbers_of(rule, {})
    assert numbers is not None
    before = time.process_time()
    found = compared(subject(wrong, **numbers), subject(f"samestep:{rule.__name__}", **numbers))
    assert time.process_time() - before < 10
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
        *("scalars", "t % self.sync_period == 0", "(t + 1) % self.sync_period == 0"),
        "Lookahead one step later",
    ),
    "ClipGlobalNorm": (
        *("combine", "xp.sqrt(sums.squares) + s.norm_eps"),
        *("numpy.maximum(xp.sqrt(sums.squares), s.norm_eps)", "norm_eps as a bound"),
    ),
    "ClipValue": ("prepare", "xp.clip(grad, -s.max_value, s.max_value)", "grad", "no max_value"),
    "Lookahead, rate": (
        *("step", "state.slow + s.sync_rate * (fast - state.slow)"),
        *("fast + s.sync_rate * (state.slow - fast)", "1 - sync_rate"),
    ),
    "ClipNorm": ("prepare", "norm(xp, grad), s", "norm(xp, grad) + 1e-3, s", None),
    "Centralize": ("prepare", "if grad.ndim < 2", "if grad.ndim < 3", None),
}


@pytest.mark.parametrize("name", IN_WRAPPERS)
def test_a_fault_in_a_wrapper_is_named_or_unexplained(name: str) -> None:
    wrapper: Any = registry[name.partition(",")[0]]
    *edit, expected = IN_WRAPPERS[name]
    wrong: Any = copy_of(wrapper, [tuple(edit)])
    given: dict[str, Any] = {
        "ClipGlobalNorm": {"norm_eps": 3.0, "max_norm": 0.1},
        "ClipValue": {"max_value": 0.01},
        "Lookahead, rate": {"sync_rate": 0.3},
    }.get(name, {})
    inside = samestep.SGD(lr=0.01, momentum=0.9)
    found = compared(subject(wrong(inside, **given)), subject(wrapper(inside, **given)))
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


def test_a_copy_without_a_fault_is_the_rule_to_the_last_bit() -> None:
    for rule in rules():
        numbers = numbers_of(rule, {})
        same = copy_of(rule, [("descend", "s.rate * direction", "(s.rate * direction)")])
        assert same is not rule and same.fields().keys() == rule.fields().keys()
        found = compared(
            subject(same, **(numbers or {})),
            subject(f"samestep:{rule.__name__}", **(numbers or {})),
        )
        assert (found.verdict, found.distance) == ("agree", 0.0), rule.__name__


def test_a_fault_is_in_the_copy_alone() -> None:
    before = registry["AdamW"]
    wrong = copy_of(before, [("ema", "pair[0] * old", "pair[1] * old")], GIVEN)
    assert registry["AdamW"] is before and wrong is not before
    numbers = {"lr": 0.01}
    found = compared(subject(wrong, **numbers), subject("samestep:AdamW", **numbers))
    assert found.verdict == "differ"
    same = compared(subject("samestep:AdamW", **numbers), subject(before, **numbers))
    assert same.verdict == "agree"


def test_an_edit_without_a_place_is_refused() -> None:
    with pytest.raises(NoPlaceError, match="AdamW has none of"):
        copy_of(registry["AdamW"], [("descend", "no such text", "")])


def test_the_page_of_the_table_says_how_many_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "faults.md"
    assert main(["--rules", "SignSGD", "--kinds", "sign", "--write", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| SignSGD |" in text and "| sign | SignSGD: " in text
    assert "unexplained" in text and "100 %" in text
    assert str(page) in capsys.readouterr().out
