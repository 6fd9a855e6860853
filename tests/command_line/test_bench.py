"""``samestep bench``: what it measures and derives, and that it keeps what it has measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
from click.testing import CliRunner, Result

import samestep
from samestep.benchmarks import frameworks, opponents, run
from samestep.benchmarks.models import MODELS, Model, elements, gpt2_small, resnet50
from samestep.benchmarks.opponents import COPY, LIBRARIES, Library
from samestep.benchmarks.results import Results, Row, judged, machine
from samestep.benchmarks.sharded import PIECES
from samestep.benchmarks.targets import TARGETS, Target
from samestep.benchmarks.timing import Spread, alternate, median, paired
from samestep.benchmarks.traffic import moved
from samestep.command_line.commands import bench as bench_command
from samestep.command_line.main import commands

REFUSED = 2
"""Exit code."""
ROW = Row("torch", "AdamW", "gpt2", "float32", "compiled", "torch.optim", "fused")


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(commands(), ["bench", *arguments])


class Clock:
    """Stands still except while a side works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worked: list[str] = []

    def __call__(self) -> float:
        return self.now

    def side(self, name: str, *seconds: float) -> Callable[[], None]:
        coming = iter(seconds)

        def work() -> None:
            self.worked.append(name)
            self.now += next(coming)

        return work


def test_sides_take_turns_and_seconds_are_those_of_the_side_alone() -> None:
    clock = Clock()
    sides = {"a": clock.side("a", 1, 2, 4), "b": clock.side("b", 8, 16, 32)}
    assert alternate(sides, 3, clock) == {"a": [1, 2, 4], "b": [8, 16, 32]}
    assert "".join(clock.worked) == "ababab"


def test_no_round_begins_after_the_longest_time_but_three_are_made() -> None:
    clock = Clock()
    taken = alternate({"a": clock.side("a", *[1] * 9)}, 9, clock, longest=4.5)
    assert len(taken["a"]) == 5
    taken = alternate({"a": clock.side("a", *[1] * 9)}, 9, clock, longest=0)
    assert len(taken["a"]) == 3


def test_a_ratio_is_the_median_of_paired_ratios_not_the_ratio_of_medians() -> None:
    ours, theirs = [2.0, 9.0, 30.0, 8.0, 5.0], [1.0, 3.0, 10.0, 2.0, 5.0]
    assert paired(ours, theirs) == Spread(3.0, 2.0, 3.0)  # of 2, 3, 3, 4, 1
    assert median(ours) / median(theirs) == pytest.approx(8 / 3)
    assert median([0.002, 0.001, 0.009]) == pytest.approx(2.0)
    assert paired([3.0], [2.0]) == Spread(1.5, 1.5, 1.5)  # of one round


@pytest.mark.parametrize(
    ("rule", "bytes_of_float32"),
    [
        (samestep.AdamW(), 28),  # grad; param, m and v both ways
        (samestep.Lion(), 20),
        (samestep.Adan(), 44),  # m, v, n and the last gradient
        (samestep.SGD(), 12),
        (samestep.SGD(momentum=0.9), 20),
        (samestep.AdamW(state_dtype="float64"), 12 + 32),
    ],
    ids=repr,
)
def test_bytes_per_parameter_by_hand(rule: Any, bytes_of_float32: int) -> None:
    shapes = [(8, 4), (32,), (8, 4)]
    assert moved(rule, shapes, "float32") == bytes_of_float32 * elements(shapes)
    if not rule.hypers["state_dtype"]:
        assert moved(rule, shapes, "bfloat16") == bytes_of_float32 // 2 * elements(shapes)


def test_bytes_of_a_factored_state_are_those_of_its_factors() -> None:
    rule = samestep.Adafactor(like="torch")
    assert moved(rule, [(64, 32)], "float32") == 4 * (3 * 64 * 32 + 2 * (64 + 32))


def test_the_shapes_are_the_networks() -> None:
    assert (len(gpt2_small()), elements(gpt2_small())) == (148, 124_439_808)
    assert (len(resnet50()), elements(resnet50())) == (161, 25_557_032)
    assert elements(MODELS["large"].sizes[0]) == 50_000_000
    assert [len(shapes) for shapes in MODELS["tensors"].sizes] == [10, 30, 100, 300, 1000, 3000]
    assert [elements(s) for s in MODELS["elements"].sizes] == [10**n for n in range(4, 9)]
    assert [(len(MODELS[name].sizes[0])) for name in ("small", "tiny")] == [600, 3000]


@pytest.mark.filterwarnings("ignore:Parameter .foreach. is deprecated")
@pytest.mark.parametrize("name", LIBRARIES)
def test_every_library_has_a_rule_with_the_numbers_of_ours(name: str) -> None:
    library = LIBRARIES[name]
    if not library.installed:
        pytest.skip(f"{name} is not installed")
    found = library.opponents()
    assert {"AdamW", "Lion"} & {*found}
    if library.framework != "torch":
        return
    torch = pytest.importorskip("torch")
    for opponent in found.values():
        for make in opponent.variants.values():
            group = make([torch.zeros(2, 2, requires_grad=True)]).param_groups[0]
            assert group["lr"] == opponent.rule.hypers["lr"]
            decay = opponent.rule.hypers["weight_decay"]
            assert group.get("weight_decay", decay) == decay


def test_torch_is_made_in_each_of_its_ways() -> None:
    torch = pytest.importorskip("torch")
    found = LIBRARIES["torch.optim"].opponents()
    assert [*found["AdamW"].variants] == ["for-loop", "foreach", "fused"]
    assert [*found["RMSprop"].variants] == ["for-loop", "foreach"]
    made = {
        name: make([torch.zeros(2, requires_grad=True)])
        for name, make in found["AdamW"].variants.items()
    }
    assert all(type(one) is torch.optim.AdamW for one in made.values())
    switches = {
        name: (one.defaults["foreach"], one.defaults["fused"]) for name, one in made.items()
    }
    assert switches == {"for-loop": (False, False), "foreach": (True, None), "fused": (None, True)}


def test_a_class_is_found_whatever_its_case_and_only_if_it_is_the_library_s_own() -> None:
    class Yogi:
        def __init__(self, params: Any, betas: Any = (0.0, 0.0), eps: Any = None) -> None:
            self.betas, self.eps = betas, eps

    module = ModuleType("elsewhere")
    own = type("YOGI", (Yogi,), {"__module__": "elsewhere.optimizers"})
    vars(module).update(YOGI=own, Lion=type("Lion", (Yogi,), {"__module__": "torch.optim"}))
    found = opponents._named(lambda rule: module, {}, "Yogi")
    assert found is not None
    made = found.variants[""]([])
    assert (type(made), made.betas, made.eps) == (own, samestep.Yogi().betas, None)
    assert opponents._named(lambda rule: module, {}, "Lion") is None


def test_a_target_is_about_its_rows_only() -> None:
    row = replace(ROW, ratio=Spread(0.9, 0.8, 1.2), first_seconds=12.0)
    verdicts = {(v.figure, v.at_most): v.reached for v in judged(row).verdicts}
    assert verdicts == {("ratio", 1.0): True, ("first_seconds", 10.0): False}
    for change in ({"device": "gpu"}, {"framework": "mlx"}, {"ratio": None, "first_seconds": None}):
        assert not [v for v in judged(replace(row, **change)).verdicts if v.at_most == 1.0]  # type: ignore[arg-type]
    sgd = replace(row, rule="SGD", variant="for-loop")
    assert ("ratio", 1.0) in {(v.figure, v.at_most) for v in judged(sgd).verdicts}
    compile_time = Target("first_ratio", 1.0, "torch")
    slow = replace(row, theirs_first_seconds=6.0)
    assert [v.value for v in judged(slow, [compile_time]).verdicts] == [2.0]


def test_targets_name_what_there_is() -> None:
    for target in TARGETS:
        assert {name.partition(" ")[0] for name in target.against} <= {*LIBRARIES, PIECES}
        assert {*target.rules, *target.but} <= {*samestep.rule.registry}
        assert {*target.models} <= {*MODELS}
        assert hasattr(ROW, target.figure) or target.figure == "first_ratio"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    spread = Spread(0.1, 1 / 3, 2.0)
    row = judged(replace(ROW, ratio=spread, copy_ratio=spread, ours_ms=0.1, first_seconds=3.0))
    assert row.verdicts
    results = Results({"cores": 2}, {"optax": ["Adam"]}, ["timm"], [row, replace(ROW, error="no")])
    results.write(tmp_path / "bench.jsonl")
    assert Results.read(tmp_path / "bench.jsonl") == results
    assert [path.name for path in tmp_path.iterdir()] == ["bench.jsonl"]
    assert len((tmp_path / "bench.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(
    ("option", "wrong", "allowed"),
    [
        ("--against", "torch.optin", [*LIBRARIES, COPY]),
        ("--rules", "AdmW", ["AdamW", "Lion"]),
        ("--models", "gpt3", [*MODELS]),
        ("--dtypes", "float8", ["float32", "bfloat16"]),
        ("--executions", "fused", ["reference", "compiled"]),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(
    option: str, wrong: str, allowed: list[str], tmp_path: Path
) -> None:
    done = bench(option, wrong, "--out", str(tmp_path / "out"))
    assert done.exit_code == REFUSED
    assert option in done.output
    assert repr(wrong) in done.output
    assert all(name in done.output for name in allowed)
    assert not (tmp_path / "out").exists()


def test_nothing_to_time_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = Library("torch", "no_such_library", lambda rule: None)
    monkeypatch.setitem(LIBRARIES, "timm", absent)  # type: ignore[arg-type]
    done = bench(
        "--quick", "--against", "timm", "--models", "quick", "--out", str(tmp_path / "out")
    )
    assert done.exit_code == REFUSED
    assert "not installed: timm" in " ".join(done.output.split())


def test_earlier_runs_are_shown_together(tmp_path: Path) -> None:
    spread = Spread(0.5, 0.4, 0.6)
    measured = replace(ROW, ratio=spread, copy_ratio=spread, ours_ms=0.1, first_seconds=30.0)
    files = []
    for place, model in enumerate(("gpt2", "small")):
        files.append(tmp_path / f"{place}.jsonl")
        row = replace(measured, model=model)
        Results(machine(2), {"torch.optim": ["AdamW"]}, [], [row]).write(files[-1])
    read = [part for path in files for part in ("--read", str(path))]
    done = bench(*read, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert "targets, and how many rows met them" in done.output
    together = Results.read(tmp_path / "out" / "bench.jsonl")
    assert [row.model for row in together.rows] == ["gpt2", "small"]
    page = (tmp_path / "out" / "bench.md").read_text(encoding="utf-8")
    assert "seconds of the first step | 10 | 30.00" in page
    assert "| 0 of 2 |" in page


def test_a_file_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("[1]", encoding="utf-8")
    done = bench("--read", str(tmp_path / "notes.jsonl"), "--out", str(tmp_path / "out"))
    assert done.exit_code == REFUSED
    assert "is not what a run has written" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes no time."""
    monkeypatch.setitem(MODELS, "quick", Model("two", [[(4, 4), (3,)]]))


@pytest.mark.usefixtures("tiny")
def test_a_quick_run_measures_writes_and_draws(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("torch", "jax", "mlx"):
        pytest.importorskip(name)
    executions = {frameworks.framework(name).executions[0] for name in ("torch", "jax", "mlx")}
    absent = Library("torch", "no_such_library", lambda rule: None)
    monkeypatch.setitem(LIBRARIES, "timm", absent)  # type: ignore[arg-type]
    done = bench(
        *("--quick", "--models", "quick", "--rules", "AdamW", "--executions", ",".join(executions)),
        *("--against", "torch.optim,optax,mlx.optimizers,timm", "--out", str(tmp_path)),
    )
    assert done.exit_code == 0, done.output
    assert "timm is not installed" in done.output
    results = Results.read(tmp_path / "bench.jsonl")
    assert [(row.framework, row.against) for row in results.rows] == [
        ("torch", "torch.optim for-loop"),
        ("torch", "torch.optim foreach"),
        ("torch", "torch.optim fused"),
        ("jax", "optax"),
        ("mlx", "mlx.optimizers"),
    ]
    for row in results.rows:
        assert not row.error
        assert (row.tensors, row.elements, row.rounds) == (2, 19, 3)
        assert row.bytes_per_parameter == 28
        assert row.ratio and row.copy_ratio and row.first_seconds
        assert row.ratio.low <= row.ratio.median <= row.ratio.high
    assert results.machine["versions"]["torch"]
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "torch.optim fused" in (tmp_path / "bench.svg").read_text(encoding="utf-8")
    text = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert text.count("| AdamW |") == len(results.rows)


@pytest.mark.usefixtures("tiny")
def test_what_was_measured_is_kept_and_a_failure_is_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    options = run.Options.quick(against=("torch.optim",), models=("quick",), rules=("AdamW",))
    options = replace(options, executions=("reference",))
    results, path, kept = run.prepared(options), tmp_path / "bench.jsonl", []
    real = run.alternate

    def failing(sides: Any, rounds: int) -> Any:
        if len(results.rows) == 1:
            raise RuntimeError("out of luck\nand more")
        return real(sides, rounds)

    monkeypatch.setattr(run, "alternate", failing)

    def watch(row: Row) -> None:
        kept.append(len(Results.read(path).rows) if path.exists() else 0)

    run.run(options, results, path, watch)
    assert kept == [0, 1, 2]
    assert [row.error for row in results.rows] == ["", "RuntimeError: out of luck", ""]


def test_a_rule_steps_the_tensors_that_it_takes() -> None:
    pytest.importorskip("torch")
    options = run.Options(against=(COPY,), rules=("Muon",), models=("resnet50", "large"))
    rows = [case.row for case in run.cases(options) if case.row.framework == "torch"]
    assert {row.model for row in rows} == {"resnet50"}
    assert {row.tensors for row in rows} == {54}
    assert {row.library for row in rows} == {COPY}


def test_every_rule_is_timed_beside_a_copy_on_every_framework() -> None:
    pytest.importorskip("torch")
    options = run.Options(against=(COPY,), models=("mixed",))
    found = run.cases(options)
    for name in {case.row.framework for case in found}:
        assert {case.row.rule for case in found if case.row.framework == name} == {*run.registry}


def test_every_rule_has_one_line_with_the_fastest_other() -> None:
    copied = replace(ROW, copy_ratio=Spread(1.5, 1, 2))
    rows = [
        replace(copied, variant=name, ratio=Spread(n, n, n)) for n, name in ((2, "a"), (3, "b"))
    ]
    rows.append(replace(copied, rule="Lion", framework="mlx", execution="auto", library=COPY))
    (table,) = (block for block in bench_command._by_rule(Results({}, rows=rows)))
    assert table.columns == ["rule", "torch compiled", "mlx auto"]
    assert table.rows == [["AdamW", "1.50 (3.00 torch.optim b)", ""], ["Lion", "", "1.50"]]


@pytest.mark.parametrize("name", ["torch", "jax", "mlx"])
def test_a_step_of_ours_and_of_theirs_and_a_copy_run_again_and_again(name: str) -> None:
    pytest.importorskip(name)
    stepper = run.framework(name)
    library = {"torch": "torch.optim", "jax": "optax", "mlx": "mlx.optimizers"}[name]
    opponent = LIBRARIES[library].opponents()["AdamW"]
    shapes = [(4, 4), (3,)]
    for dtype in ("float32", "bfloat16"):
        sides = [
            stepper.ours(opponent.rule, stepper.executions[0], shapes, dtype),
            *(stepper.step(make, shapes, dtype) for make in opponent.variants.values()),
            stepper.copy(1000),
        ]
        for _ in range(3):
            for side in sides:
                side()


def test_parts_of_a_copy_are_as_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "COPIED", 4000)
    assert frameworks.lengths(8 * 2500) == [1000, 1000, 500]
    assert frameworks.lengths(8 * 2000) == [1000, 1000]
    values = [*frameworks.arrays([(3, 2), (5,)], seed=0)]
    assert [array.shape for array in values] == [(3, 2), (5,)]
    assert all(array.dtype == numpy.float32 for array in values)


def test_threads_are_cores_while_it_runs() -> None:
    before = run._cores()
    with run.limited(1):
        assert len(run._cores()) <= 1
    assert run._cores() == before
