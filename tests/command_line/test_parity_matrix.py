"""``samestep parity --all``: what is compared with what, what is found, and how it is shown."""

from __future__ import annotations

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from click import testing

import samestep
from samestep.command_line.main import commands
from samestep.command_line.markdown import markdown
from samestep.command_line.page import page
from samestep.command_line.pairs import all_pairs
from samestep.command_line.pairs.all_pairs import Cell, Matrix, compare_all, compare_pair
from samestep.command_line.pairs.all_pairs_report import all_pairs_report
from samestep.command_line.pairs.peers import Peer, groups
from samestep.parity import SubjectError
from samestep.rule import registry

LIBRARIES = {"torch", "optax", "mlx", "keras", "samestep"}
if not all(find_spec(name) for name in LIBRARIES):
    pytest.skip(f"it compares {', '.join(sorted(LIBRARIES))}", allow_module_level=True)
OTHERS = tuple(
    name
    for name in ("holocron.optim", "pytorch_optimizer")
    if find_spec(name.partition(".")[0]) is not None
)


@pytest.fixture(scope="module")
def found():
    return {group.name: group for group in groups(OTHERS)}


def test_names_are_the_same_whatever_their_spelling(found):
    by_library = {peer.library: peer.name for peer in found["AdaDelta"].peers}
    assert by_library == {
        "torch": "torch.optim.Adadelta",
        "optax": "optax.adadelta",
        "mlx": "mlx.optimizers.AdaDelta",
        "keras": "keras.optimizers.Adadelta",
        "samestep": "samestep:AdaDelta",
    }
    assert {peer.name for peer in found["SignSGD"].peers} == {"optax.sign_sgd", "samestep:SignSGD"}
    assert "optax.nadam" in {peer.name for peer in found["NAdam"].peers}
    assert "optax.contrib.muon" in {peer.name for peer in found["Muon"].peers}


def test_every_pair_is_compared_once_and_every_dialect_beside_its_library(found):
    adam = found["Adam"]
    assert {peer.library for peer in adam.peers} == LIBRARIES
    pairs = {frozenset((a.library, b.library)) for a, b in adam.pairs}
    assert len(adam.pairs) == len(pairs) == 10
    assert {(a.library, b.title) for a, b in adam.dialects} == {
        (library, f"samestep:Adam(like={library!r})") for library in LIBRARIES - {"samestep"}
    }


def test_a_flag_called_like_an_optimizer_makes_its_owner_one(found):
    titles = {peer.title for peer in found["AMSGrad"].peers}
    assert titles >= {"torch.optim.Adam(amsgrad=True)", "optax.amsgrad", "samestep:AMSGrad"}


def test_base_classes_wrappers_and_parts_are_left_out(found):
    names = {peer.name.rpartition(".")[2] for group in found.values() for peer in group.peers}
    assert not names & {"Optimizer", "MultiOptimizer", "LossScaleOptimizer", "scale_by_adam"}
    assert not {name for name in found if name.lower() in ("module", "lookahead", "clipnorm")}


def test_what_cannot_be_stepped_is_named_with_the_reason(found):
    (reason,) = found["lbfgs"].refused
    assert reason.startswith("torch.optim.LBFGS") and "closure" in reason


def test_only_keeps_names_in_any_spelling(found):
    assert [group.name for group in groups((), ("ADA_DELTA", "rprop"))] == ["AdaDelta", "Rprop"]
    assert groups((), ("Nothing",)) == []


# What it must find on its own.

FOUND = [
    ("Adan", "optax.adan", "samestep:Adan", "difference by 1 - beta2"),
    ("Rprop", "torch.optim.Rprop", "optax.rprop", "one step late"),
    ("Adam", "torch.optim.Adam", "mlx.optimizers.Adam", "bias_correction"),
    ("Adamax", "torch.optim.Adamax", "mlx.optimizers.Adamax", "bias_correction"),
    ("NAdam", "torch.optim.NAdam", "optax.nadam", "momentum_schedule"),
    ("NAdam", "torch.optim.NAdam", "keras.optimizers.Nadam", "momentum_decay"),
    ("NAdam", "optax.nadam", "keras.optimizers.Nadam", "momentum_schedule"),
    ("AMSGrad", "torch.optim.Adam(amsgrad=True)", "optax.amsgrad", "maximum of the corrected v"),
    ("RMSprop", "torch.optim.RMSprop", "optax.rmsprop", "eps_at"),
    ("Adagrad", "torch.optim.Adagrad", "optax.adagrad", "eps_at"),
    ("Adan", "holocron.optim.Adan", "samestep:Adan", "previous gradient not kept"),
    ("LAMB", "pytorch_optimizer.Lamb", "samestep:LAMB", "correction after the ratio"),
]


def pair(found, name, a, b):
    pairs = {(one.title, other.title): (one, other) for one, other in found[name].pairs}
    if (a, b) not in pairs and a.partition(".")[0] not in LIBRARIES:
        pytest.skip(f"{a.partition('.')[0]} is not installed")
    return compare_pair(*pairs[a, b])


FEW = [known for known in FOUND if known[0] in ("Adan", "AMSGrad", "LAMB")]
"""Pairs of ours, of a flag and of modules; ``test_parity_diagnosis`` compares the others."""


@pytest.mark.parametrize(("name", "a", "b", "option"), FEW, ids=lambda v: str(v)[:30])
def test_what_is_known_to_differ_is_found_without_being_told(found, name, a, b, option):
    cell = pair(found, name, a, b)
    assert (cell.verdict, cell.explained) == ("differ", True)
    assert option in cell.options
    side = next(side for side in cell.sides if side[0] == option)
    assert side[1] and side[2] and side[1] != side[2]


def test_the_correction_in_float32_is_found_where_float64_agrees(found):
    cell = pair(found, "Adam", "torch.optim.Adam", "optax.adam")
    assert cell.verdict == "agree" and cell.dtype == "float64" and cell.ulp < 100
    assert cell.options == ("correction in float32",) and cell.explained
    assert cell.narrow is not None and 55 <= cell.narrow <= 120


def test_a_pair_that_cannot_be_compared_says_why_and_does_not_stop_the_rest():
    broken = Peer("samestep", "samestep:Adam", (("lr", -1.0),))
    cell = compare_pair(broken, Peer("samestep", "samestep:Adam"))
    assert cell.verdict == "failed" and "lr must be" in cell.sentences[0]


def test_the_map_in_the_docs_has_every_name_and_what_is_known_to_differ(found):
    page = Path(samestep.__file__).parent.parent / "docs" / "pages" / "parity" / "matrix.md"
    if not page.exists() or len(OTHERS) < 2:
        pytest.skip("it is in the checkout, and made with all libraries")
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page.read_text(), re.M | re.S))
    ours = {name for name, rule in registry.items() if rule.__module__.startswith("samestep.")}
    theirs = found.keys() - (registry.keys() - ours)  # a user's rules are not in the docs
    assert sections.keys() - {"Beside"} == theirs
    for name, a, b, option in FOUND:
        known = re.search(rf"^- `{option}`\n((?:    - .*\n?)+)", sections[name], re.M)
        assert known is not None, (name, option)
        lines = known[1].splitlines()
        assert not any(f"`{a}`" in line and f"`{b}`" in line for line in lines)
        assert all(any(f"`{who}`" in line for line in lines) for who in (a, b))


# How it is shown.


@pytest.fixture(scope="module")
def small():
    """A few names, compared in a thread, since here the libraries are imported already."""

    @contextmanager
    def in_a_thread(count):
        with ThreadPoolExecutor(1) as pool:
            yield pool

    watched = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_pairs, "_workers", in_a_thread)
        made = compare_all(
            ("rprop", "signum", "lbfgs"),
            command=["samestep", "parity", "--all"],
            watch=lambda count, title: watched.append((count, title)),
            processes=1,
        )
    assert {count for count, _ in watched} == {len(watched)} == {7}
    return made


def shown(small, monkeypatch, *words):
    asked = []

    def instead(*given):
        asked.append(given)
        return small

    monkeypatch.setattr(all_pairs, "compare_all", instead)
    done = testing.CliRunner().invoke(
        commands(), ["parity", "--all", *words], env={"COLUMNS": "80"}
    )
    return done, asked


def test_the_text_has_a_table_per_name_and_what_differs(small, monkeypatch):
    done, asked = shown(small, monkeypatch, "--only", "rprop,signum", "--with", "json")
    assert done.exit_code == 0 and asked[0][:2] == (("rprop", "signum"), ("json",))
    assert asked[0][2][-4:] == ["--only", "rprop,signum", "--with", "json"]
    for text in (
        "Rprop",
        "differ: one step late",
        "agree: 0 ULP",
        "applies the update of the step before",
    ):
        assert text in done.stdout
    assert "samestep:Rprop(like='optax') reproduces optax.rprop" in done.stdout
    assert "torch.optim.LBFGS" in done.stdout and "closure" in done.stdout
    assert all(len(line.rstrip()) <= 80 for line in done.stdout.splitlines())


def test_json_has_every_pair(small, monkeypatch):
    done, _ = shown(small, monkeypatch, "--json")
    by_name = {column["name"]: column for column in json.loads(done.stdout)["names"]}
    rprop = {(cell["a"], cell["b"]): cell for cell in by_name["Rprop"]["pairs"]}
    cell = rprop["torch.optim.Rprop", "optax.rprop"]
    assert cell["verdict"] == "differ" and cell["options"] == ["one step late"]
    assert cell["ulp"] is None or cell["ulp"] > 1e6
    assert json.loads(done.stdout)["versions"].keys() >= {"torch", "optax", "mlx", "keras"}


def test_the_markdown_has_the_versions_the_date_and_the_command(small, tmp_path, monkeypatch):
    out, page = tmp_path / "matrix.md", tmp_path / "matrix.html"
    done, _ = shown(small, monkeypatch, "--write", str(out), "--html", str(page))
    text = out.read_text()
    assert done.exit_code == 0 and str(out) in done.stderr and page.stat().st_size > 5000
    assert small.made in text and "```sh\nsamestep parity --all\n```" in text
    for package in ("torch", "optax", "mlx", "keras", "samestep"):
        assert f"{package} {small.versions[package]}" in text
    assert "| [Rprop](#rprop) | agree: 0 ULP | differ: one step late |" in text
    assert "    - applies the update of the step before: `optax.rprop`" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.count("|") in (4, 3) for line in rows)


def test_the_page_shows_every_kind_of_cell_and_needs_no_network(small):
    kinds = {
        "agree": Cell("a", "b", "agree", ulp=3.0, dtype="float64"),
        "narrow": Cell("a", "b", "agree", narrow=58.0, dtype="float64"),
        "differ": Cell("a", "b", "differ", ("<lag>",), (("<lag>", "x", "y"),), True),
        "unexplained": Cell("a", "b", "differ", sentences=("unexplained",)),
        "failed": Cell("a", "b", "failed", sentences=("a cannot be built",)),
    }
    (rprop,) = (column for column in small.columns if column.name == "Rprop")
    for kind, cell in kinds.items():
        column = replace(rprop, cells=dict.fromkeys(rprop.cells, cell))
        report = all_pairs_report(replace_columns(small, column))
        text = page(report)
        assert f'class="mark {kind}"' in text
        assert not any(sign in text for sign in ("<lag>", "http:", "https:", "<script", "src="))
        assert cell.verdict in markdown(report) or kind == "failed"


def replace_columns(small, column):
    return Matrix([column], small.versions, small.made, small.command)


@pytest.mark.thorough
def test_names_that_nobody_has_are_refused():
    with pytest.raises(SubjectError, match=r"no two libraries .* called Nothing"):
        compare_all(("Nothing",), processes=1)


def test_a_module_that_is_not_there_is_one_sentence_and_the_exit_code_2(monkeypatch):
    def refuse(*given):
        raise SubjectError("no_such_module cannot be imported: no")

    monkeypatch.setattr(all_pairs, "compare_all", refuse)
    done = testing.CliRunner().invoke(commands(), ["parity", "--all", "--with", "no_such_module"])
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.thorough
def test_the_whole_matrix_finds_what_is_known_to_differ():
    made = compare_all((), OTHERS)
    cells = [cell for column in made.columns for cell in column.cells.values()]
    assert len(cells) > 100
    assert all(math.isfinite(cell.seconds) for cell in cells)
    by_name = {column.name: column for column in made.columns}
    for name, a, b, option in FOUND:
        cell = by_name[name].cells.get((a, b))
        if cell is None:
            assert any(find_spec(who.partition(".")[0].partition(":")[0]) is None for who in (a, b))
        else:
            assert option in cell.options
    failed = [cell for cell in cells if cell.verdict == "failed"]
    assert len(failed) <= 3, failed
