"""Runs recorded in stretches, of which the state was lost in steps that are not recorded."""

from __future__ import annotations

import pytest

from samestep.replay import replay

torch = pytest.importorskip("torch")
from tests.recording.torch_runs import OPTIMIZERS, adamw, network, trained  # noqa: E402


def stretches(step):
    return step % 10 < 3


def lose_at(made, when, what):
    """Do something to an optimizer after a step."""

    def between(step):
        if step == when:
            what(made)

    return between


def clear(made):
    made.state.clear()


def count_on(made):
    for own in made.state.values():
        own["step"] += 100


def run(tmp_path, when=None, what=clear, make=adamw):
    model = network()
    made = make(model)
    between = None if when is None else lose_at(made, when, what)
    return replay([trained(tmp_path / "x", model, made, steps=stretches, between=between)])


CASES = {
    "counted too few": (
        15,
        clear,
        "from step 12 to step 20: 4 steps are counted in place of at le",
    ),
    "no state": (19, clear, "from step 12 to step 20: there is no state (all parameters)"),
    "too many": (
        15,
        count_on,
        "from step 12 to step 20: 120 steps are counted in place of at most 20",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_state_that_was_lost_between_stretches_is_said(tmp_path, case):
    when, what, said = CASES[case]
    found = run(tmp_path, when, what)
    assert found.verdict == "departs" and not found.departures
    assert f"the state was not carried {said}" in found.sentences[0]


def test_a_count_that_is_short_and_possible_is_said_and_not_judged(tmp_path):
    found = run(tmp_path, 4, clear)
    assert found.verdict == "agree"
    assert found.sentences[0].startswith("no parameter counted 5 of the steps between 2 and 10: ")


@pytest.mark.parametrize("name", ["AdamW", "SGD", "NAdam"])
def test_what_is_not_recorded_is_said_not_to_be_judged(tmp_path, name):
    found = run(tmp_path, make=OPTIMIZERS[name])
    words = (
        "14 steps between the recorded ones are not recorded; of these only the counts are judged"
    )
    assert (found.verdict, found.sentences) == ("agree", [words])
