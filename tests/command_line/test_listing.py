"""``samestep list``: all rules, one rule, and how a rule's dialects differ in what they compute."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import samestep
from samestep.command_line.commands import list as listing
from samestep.command_line.differences import STEPS, Row, alike, changed, differences
from samestep.command_line.main import commands
from samestep.command_line.markdown import markdown
from samestep.command_line.report import Report
from samestep.command_line.terminal import print_report
from samestep.conformance.harness.settings import all_rules
from samestep.declaration import Option
from samestep.rule import Rule, registry

ROOT = Path(samestep.__file__).parent.parent
WIDTHS = (80, 120)
REFUSED = 2
"""Exit code."""

RULES = [rule for rule in all_rules() if rule.__module__.startswith("samestep.")]
WITH_DIALECTS = [rule for rule in RULES if rule.dialects]


def named(rules: list[type[Rule]]) -> Any:
    return pytest.mark.parametrize("rule", rules, ids=lambda rule: rule.__name__)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(commands(), ["list", *arguments])


def printed(width: int, report: Report) -> str:
    console = Console(file=StringIO(), width=width, color_system=None, force_terminal=False)
    print_report(report, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def joined(text: str) -> str:
    """Without rules, borders and spaces, so that a name broken over two lines is one again."""
    return re.sub(r"[\s│┃─━]", "", text)


def rows_of(name: str) -> dict[str, Row]:
    return {row.name: row for row in differences(registry[name])}


# All rules


def test_the_page_shows_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "pages" / "dialects.md"
    if not page.exists():
        pytest.skip("samestep is installed, not a checkout")
    monkeypatch.setenv("COLUMNS", "80")
    shown = command("Adan", "--differences").output
    assert "\n".join(line.rstrip() for line in shown.rstrip().splitlines()) in page.read_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_every_rule_is_listed_with_all_that_it_takes(width: int) -> None:
    text = printed(width, listing.rules_report())
    assert max(map(len, text.splitlines())) <= width
    body, _, caption = text.rpartition("─")
    entries = {
        block.split()[0]: joined("".join(line[22:] for line in block.splitlines()))
        for block in re.split(r"─+", body)
        if block.split() and block.split()[0] in registry
    }
    assert list(entries) == sorted(registry, key=str.casefold)
    for name, entry in entries.items():
        rule = registry[name]
        for field in rule.fields().values():
            shown = joined(f"{field.name}={field.default!r}")
            assert shown in entry or shown in joined(caption)
        for dialect in rule.dialects:
            assert dialect in entry
        for slot in (n for n, item in rule._slots.items() if item.only_if is None):
            assert slot in entry.rpartition("state")[2]


def test_what_every_rule_takes_is_said_once() -> None:
    text = printed(100, listing.rules_report())
    assert text.count("maximize=False") == 1
    assert text.count("state_dtype=None") == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Adam", 8.0),
        ("Adan", 16.0),
        ("SGD", 0.0),
        ("Lion", 4.0),
        ("Lookahead", 4.0),
        ("Adafactor", 4 * (256 + 256) / 256**2),
    ],
)
def test_state_is_counted_in_bytes_per_element(name: str, expected: float) -> None:
    rule = registry[name]
    instance = rule(registry["SGD"](momentum=0.9)) if name == "Lookahead" else rule()
    sizes = listing.state_bytes(instance)
    assert sum(sizes[slot] for slot in instance.slots() if slot in sizes) == expected
    line = re.search(rf"^ {name}\s+(?:a )?\w+\s+(\S+)", printed(100, listing.rules_report()), re.M)
    assert line is not None
    assert float(line[1]) == pytest.approx(expected, rel=0.005)


# One rule


@pytest.mark.parametrize("width", WIDTHS)
@named(RULES)
def test_a_rule_shows_everything_that_it_declares(rule: type[Rule], width: int) -> None:
    text = joined(printed(width, listing.rule_report(rule.__name__)))
    for field in rule.fields().values():
        assert field.name in text
    for slot in rule._slots | rule._shared:
        assert slot in text
    for name in rule.dialects:
        assert name in text


@pytest.mark.parametrize(
    "name, parts",
    [
        (
            "Adan",
            [
                "adaptive Nesterov momentum",
                "arXiv 2208.06677",
                "(0.98, 0.92",
                "in [0, 1)",
                "'proximal'",
                "gradient of the step before",
                "optax.adan",
                "quirks=('difference by 1 - beta2',)",
            ],
        ),
        ("SGD", ["only with", "keras.optimizers.SGD", "lr=0.01", "decays only with momentum"]),
        ("Prodigy", ["once for all", "estimated step size"]),
        ("Lookahead", ["sync_period", "slow weights", "sync_period=5"]),
    ],
)
def test_a_rule_shows_its_documentation_state_and_dialects(name: str, parts: list[str]) -> None:
    result = command(name)
    assert result.exit_code == 0, result.output
    text = printed(160, listing.rule_report(name))
    for part in parts:
        assert part in text


def test_a_dialect_shows_only_what_differs() -> None:
    assert changed(registry["Adam"], "torch") == {}
    assert changed(registry["Lookahead"], "paper") == {"sync_period": 5}
    assert changed(registry["Lion"], "optax") == {"decay": "in_update", "weight_decay": 0.001}


# How dialects differ


def test_a_first_step_without_bias_correction_is_as_long_as_the_betas_say() -> None:
    longer = (1 - 0.9) / (1 - 0.999) ** 0.5
    mlx = rows_of("Adam")["mlx"]
    for first, last in (mlx.own, mlx.alike):
        assert first.length == pytest.approx(longer, rel=1e-3)
        assert not first.same
        assert last.length > longer
    assert mlx.own[0].largest == pytest.approx(longer - 1, rel=1e-3)


def test_dialects_that_compute_the_same_are_the_same() -> None:
    rows = rows_of("Adam")
    for name in ("default", "torch", "optax", "paper", "jax-example"):
        for distance in (*rows[name].own, *rows[name].alike):
            assert distance.same
            assert (distance.length, distance.largest) == (1.0, 0.0)
    assert [name for name, row in rows.items() if row.values == {}] == [
        "torch", "optax", "paper", "jax-example"
    ]  # fmt: skip


def test_eps_matters_for_small_gradients_only() -> None:
    first, last = rows_of("Adam")["keras"].own
    assert first.length == pytest.approx(1, abs=0.01)
    assert 0.01 < first.largest < 1
    assert not first.same
    assert last.largest < first.largest


def test_the_learning_rate_differs_only_where_each_has_its_own() -> None:
    keras = rows_of("SGD")["keras"]
    assert keras.values["lr"] == 0.01
    for distance in keras.own:
        assert distance.length == pytest.approx(10, rel=1e-9)
        assert distance.largest == pytest.approx(9, rel=1e-9)
    assert all(distance.same for distance in keras.alike)


def test_decay_differs_only_where_it_is_on() -> None:
    early = rows_of("SGD")["mlx-0.0"]
    assert all(distance.same for distance in early.own)
    assert not any(distance.same for distance in early.alike)
    assert alike(registry["SGD"]) == {"lr": 0.001, "weight_decay": 0.1}


def test_two_ways_of_writing_one_decay_are_the_same() -> None:
    optax = rows_of("AdamW")["optax"]
    assert not optax.own[0].same
    assert all(distance.same for distance in optax.alike)


def test_a_difference_may_come_after_the_first_step() -> None:
    assert STEPS > 6
    for distances in (rows_of("Lookahead")["paper"].own, rows_of("Adan")["paper"].own):
        first, last = distances
        assert first.same
        assert not last.same


@named(WITH_DIALECTS)
def test_the_distances_of_every_dialect_are_numbers(rule: type[Rule]) -> None:
    rows = differences(rule)
    assert [row.name for row in rows] == ["default", *rule.dialects]
    default, *others = rows
    assert {*default.values} == {name for row in others for name in row.values} - {"quirks"}
    for row in rows:
        for distance in (*row.own, *row.alike):
            assert numpy.isfinite([distance.length, distance.largest]).all()
            if not row.values:
                assert distance.same
            if distance.same:
                assert distance.length == pytest.approx(1, rel=1e-6)
                assert distance.largest < 1e-6


@named(RULES)
def test_the_differences_of_every_rule_can_be_printed(rule: type[Rule]) -> None:
    name, narrow = rule.__name__, min(WIDTHS)
    text = printed(narrow, listing.differences_report(name))
    assert max(map(len, text.splitlines())) <= narrow
    if not rule.dialects:
        assert text == f"{name} has no dialects, so there is nothing to compare.\n"
    for dialect in rule.dialects:
        assert re.search(rf"^ {dialect}  ", text, re.M)
        for field, value in changed(rule, dialect).items():
            shown = f"{field}={value!r}"
            assert shown[: 16 if field != "quirks" else 11] in text


def test_the_table_of_differences_shows_values_and_figures() -> None:
    result = command("Adam", "--differences")
    assert result.exit_code == 0, result.output
    cells = [re.split(r"\s{2,}", line.strip()) for line in result.output.splitlines()]
    assert ["default", "eps=1e-08", "own", "1 x", "1 x"] in cells
    assert ["torch", "nothing", "own", "same", "same"] in cells
    mlx = next(cell for cell in cells if cell[0] == "mlx")
    assert mlx[1:4] == ["bias_correction=False", "own", "3.16 x, 216%"]
    assert "alike: lr=0.001, weight_decay=0.1" in " ".join(result.output.split())


def test_a_wrapper_says_what_it_is_compared_around() -> None:
    text = printed(120, listing.differences_report("Lookahead"))
    assert "Around SGD(momentum=0.9)." in " ".join(text.split())


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["adan"], "there is no rule 'adan'. Did you mean Adan"),
        (["adan", "--differences"], "there is no rule 'adan'. Did you mean Adan"),
        (["xyz"], "there is no rule 'xyz'. The known ones are Accumulate, AdaBelief, AdaDelta"),
        (["--differences"], "--differences needs a rule: samestep list Adam --differences"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], sentence: str) -> None:
    result = command(*arguments)
    assert result.exit_code == REFUSED
    assert sentence in " ".join(result.output.split())


# The same on the documentation's pages


@named(RULES)
def test_the_documentation_has_every_dialect_and_choice(rule: type[Rule]) -> None:
    def plain(text: str) -> str:
        return re.sub(r"[`\\]", "", text.strip())

    text = markdown(listing.rule_report(rule.__name__))
    assert text.startswith(f"## {rule.__name__}\n\n```text\n")
    cells = [[*map(plain, line.strip("|").split(" | "))] for line in text.splitlines()]
    for name, preset in rule.dialects.items():
        (row,) = [row for row in cells if row[:2] == [name, plain(preset.of)]]
        values = [f"{field}={value!r}" for field, value in changed(rule, name).items()]
        assert row[2:4] == [plain(", ".join(values) or "none"), plain(preset.note)]
    for name, field in rule.fields().items():
        (row,) = [row for row in cells if row[:2] == [name, repr(field.default)]]
        assert row[-1] == plain(field.meaning)
        for choice in (isinstance(field, Option) and field.choices) or ():
            assert repr(choice) in row[2]
