"""Every engine, with rules of every need, does what the page says."""

from __future__ import annotations

import re

import pytest

from samestep.conformance.harness.checkout import ROOT
from samestep.conformance.harness.settings import all_rules, is_own, typical
from samestep.conformance.sharded.table import (
    ORDER,
    RULES,
    cell,
    engines,
    groups,
    measured,
)
from samestep.made import NEEDS
from samestep.wrapper import Wrapper

pytestmark = pytest.mark.sharded
PAGE = ROOT / "docs" / "pages" / "sharding.md"


def shown():
    """The cells of the page, by engine and need."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    table = re.search(r"<!-- engines -->\n(.*?)<!-- /engines -->", text, re.S)
    lines = [line.strip("| ").split(" | ") for line in table[1].splitlines()] if table else []
    return {
        (row[0], need): text for row in lines[2:] for need, text in zip(RULES, row[1:], strict=True)
    }


SHOWN = shown()


def cases():
    """Every engine with every rule, of which one for each need is not left to make thorough."""
    for kind, name, worlds in engines():
        for rule in filter(is_own, all_rules()):
            need = typical(rule).needs
            if issubclass(rule, Wrapper) and "Zero" in name:
                continue  # it makes the optimizer of a class and numbers
            if "compiled" in name and RULES[need] != rule.__name__:
                continue  # each takes half a minute
            marks = [] if RULES[need] == rule.__name__ else [pytest.mark.thorough]
            yield pytest.param(kind, name, worlds, rule, marks=marks, id=f"{name}-{rule.__name__}")


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    with groups(tmp_path_factory.mktemp("ranks")) as found:
        yield found


def test_the_page_has_every_engine_and_need_and_no_silent_cell():
    assert set(RULES) == set(NEEDS)
    assert set(SHOWN) == {(name, need) for _, name, _ in engines() for need in RULES}
    assert set(SHOWN.values()) <= {*ORDER[1:]}


@pytest.mark.parametrize(("kind", "name", "worlds", "rule"), [*cases()])
def test_an_engine_does_what_the_page_says(group, kind, name, worlds, rule):
    """A cell is measured with one rule; bits of others are asked for where nothing is summed."""
    one = typical(rule)
    outcomes = [each for world in worlds for each in measured(group(kind, world), name, one)]
    found, wanted = cell(outcomes), SHOWN[name, one.needs]
    assert found != "wrong", outcomes
    assert (found == "refused") == (wanted == "refused"), outcomes
    if RULES[one.needs] == rule.__name__ or (
        kind == "torch" and one.needs in ("element", "matrix")
    ):
        assert ORDER.index(found) >= ORDER.index(wanted), outcomes
