"""The pytest plugin in somebody's own project: the fixture, the assertion, a rule's properties."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
import types
import typing
from collections import defaultdict
from pathlib import Path

import numpy
import pytest
import pytest_samestep

import samestep
from samestep.conformance import assert_same_step, conformance_of
from samestep.conformance.harness import properties, reporter
from samestep.conformance.harness.reporter import FEW, FORMAT, PROPERTY, Report, Row, lines
from samestep.parity import SubjectError, Trajectory, record, subject
from samestep.parity.backend import backends
from samestep.rule import registry

pytest_plugins = ["pytester"]
OWN = ("-p", "no:cacheprovider", "-p", "no:xdist", "--strict-markers", "-W", "error")
PLAIN = (*OWN, "-W", "ignore::pytest.PytestAssertRewriteWarning")  # of a run inside of another
HEAD = '''
import numpy
from samestep import Rule, ema, hyper, slot, weights
from samestep.conformance import conformance_of

class Plain(Rule):
    """Momentum."""

    lr = hyper(1.0, "step size", unit="parameter/gradient", ge=0)
    beta = hyper(0.9, "decay per step of m", unit="1/step", ge=0, lt=1)
    m = slot("mean of the gradient")

    def scalars(self, xp, t):
        return {"beta": weights(self.beta)}

    def direction(self, xp, grad, param, state, s):
        m = ema(state.m, grad, s.beta)
        return m, {"m": m}

TestPlain = conformance_of(Plain)
'''
BODY = '''
class {name}(Plain):
    """Momentum, wrongly."""

    def direction(self, xp, grad, param, state, s):
        {code}

Test{name} = conformance_of({name})
'''
UNTOUCHED = "test_inputs_are_untouched"
KEPT = "test_shapes_dtypes_and_devices_are_kept"
RESUMES = "test_state_is_all_there_is_to_resume_from"
NEEDS = "test_needs_are_declared_truly"
AXES = "test_rules_that_do_not_look_at_axes_take_any_shape_alike"
BROKEN = {
    "Writes": ("grad *= 0.5; m = ema(state.m, grad, s.beta); return m, {'m': m}", UNTOUCHED, KEPT),
    "WritesState": (
        "state.m[...] = ema(state.m, grad, s.beta); return state.m + 0, {'m': state.m}",
        UNTOUCHED,
        KEPT,
    ),
    "Leaks": ("m = ema(state.m, grad, s.beta); return m * numpy.float64(1), {'m': m}", KEPT),
    "NotStandard": ("m = ema(state.m, grad, s.beta); return xp.nan_to_num(m), {'m': m}", KEPT),
    "Collapses": (
        "return ema(state.m, grad, s.beta), {'m': xp.sum(grad)}",
        *(UNTOUCHED, KEPT, RESUMES, NEEDS, AXES),
    ),
    "Hides": (
        "old = self.__dict__.setdefault('old', {}); k = grad.shape; "
        "old[k] = ema(old.get(k, 0 * grad), grad, s.beta); return old[k] + 0, {'m': state.m}",
        *(RESUMES, NEEDS),
    ),
    "Sums": (
        "m = ema(state.m, grad, s.beta); return m / (1 + xp.sum(xp.abs(m))), {'m': m}",
        NEEDS,
    ),
    "Counts": (
        "seen = self.__dict__.setdefault('seen', []); seen.append(1); "
        "m = ema(state.m, grad, s.beta); return m * (1 + 0.01 * (len(seen) % 7)), {'m': m}",
        *(RESUMES, NEEDS, AXES),
    ),
    "LooksAtRows": (
        "m = ema(state.m, grad, s.beta); return (m / grad.shape[0] if grad.ndim else m), {'m': m}",
        *(NEEDS, AXES),
    ),
}
"""A wrong rule: the body of its ``direction``, and which of these properties it breaks."""


@pytest.fixture(scope="module", autouse=True)
def _all_imported():
    """Before a run inside of this one, which forgets its imports: torch is imported but once."""
    backends()
    conformance_of(samestep.AdamW, thorough=True)


@pytest.fixture
def project(pytester, monkeypatch):
    """A folder of somebody's, where rules are defined that are gone afterwards."""
    monkeypatch.setenv("SAMESTEP_BACKENDS", "numpy,array_api_strict")
    known = dict(registry)
    yield pytester
    registry.clear()
    registry.update(known)


def test_what_every_run_imports_is_next_to_nothing():
    assert not loaded("import pytest, pytest_samestep") & {"numpy", "samestep", "hypothesis"}


def test_what_a_test_imports_has_no_framework():
    found = loaded("from samestep.conformance import assert_same_step, conformance_of")
    assert "numpy" in found
    assert not found & {"torch", "jax", "optax", "mlx", "pytest", "hypothesis"}


def loaded(code):
    """The packages that a fresh interpreter has after some code."""
    code = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_a_run_without_it_stays_as_it_was(pytester):
    pytester.makepyfile(
        "import sys\n"
        "def test_one():\n    assert 'samestep' not in sys.modules\n"
        "def test_two(backend):\n    assert backend == 'mine'\n"
        "import pytest\n"
        "@pytest.fixture\ndef backend(): return 'mine'\n"
    )
    done = pytester.runpytest_subprocess(*OWN)
    done.assert_outcomes(passed=2)
    done.stdout.no_fnmatch_line("*samestep:*")
    assert [*pytester.path.glob("*.json")] == []


def test_the_trajectory_is_a_recording(project):
    project.makepyfile(
        """
        import numpy, pytest
        from samestep.parity import record

        def same(one, other):
            assert one.params.keys() == other.params.keys() and len(one.grads) == len(other.grads)
            for mine, theirs in zip([one.params, *one.grads], [other.params, *other.grads]):
                for path in mine:
                    numpy.testing.assert_array_equal(mine[path], theirs[path])

        def test_default(trajectory):
            same(trajectory, record())

        @pytest.mark.trajectory(seed=3, steps=7, shapes={"w": (3, 4)}, dtype="bfloat16")
        def test_marked(trajectory):
            same(trajectory, record(3, 7, {"w": (3, 4)}).rounded("bfloat16"))
            assert (trajectory.params["w"] != record(3, 7, {"w": (3, 4)}).params["w"]).any()

        @pytest.mark.trajectory(seeds=3)
        def test_wrong_name(trajectory): pass

        @pytest.mark.trajectory(dtype="float8")
        def test_wrong_dtype(trajectory): pass

        @pytest.mark.trajectory(steps=0)
        def test_no_steps(trajectory): pass

        class TestOwn:
            @pytest.fixture
            def trajectory(self): return 5

            def test_own(self, trajectory):
                assert trajectory == 5
        """
    )
    done = project.runpytest_inprocess(*PLAIN)
    done.assert_outcomes(passed=3, errors=3)
    for said in (
        "*(steps=0, dtype='float64'): there must be a step at least*",
        "*@pytest.mark.trajectory(seeds=3, dtype='float64'):*it takes seed, steps, shapes,*",
        "*trajectory(dtype='float8'):*float64, float32, bfloat16 or*",
    ):
        done.stdout.fnmatch_lines([said])


def test_the_same_step_is_the_same():
    assert_same_step("samestep:AdamW", samestep.AdamW, ulp=0)
    assert_same_step(samestep.Adam(like="keras"), subject("samestep:Adam", like="keras"), ulp=0)
    assert_same_step("samestep:Lion", samestep.Lion(), ulp=0, dtype="float32", steps=3, seed=5)


def test_where_steps_part_is_said():
    with pytest.raises(AssertionError) as caught:
        assert_same_step("samestep:Adam", subject("samestep:Adam", like="mlx"))
    said = str(caught.value)
    assert said.startswith(
        "samestep:Adam (a) and samestep:Adam (b) do not take the same steps\n  after step"
    )
    assert "ULP of float64 apart" in said and " are allowed" in said
    assert "the first difference: step 1: param of " in said
    assert "does not correct its averages" in said
    assert "both were given: lr=" in said


def test_the_bound_is_in_ulp():
    pytest.importorskip("torch")
    pytest.importorskip("optax")
    assert_same_step("torch.optim.AdamW", "samestep:AdamW", dtype="float32", steps=1)
    sides = "torch.optim.AdamW", "optax.adamw"
    assert_same_step(*sides, dtype="float32", ulp=300)
    for given in ({}, {"ulp": 100}, {"steps": 1}):  # 1 - beta^t of one of them is in float32
        with pytest.raises(AssertionError, match=r"(?s)ULP of float32 .*computes 1 - beta"):
            assert_same_step(*sides, dtype="float32", **given)


def test_a_single_step_is_one_with_gradients():
    (first,) = record(steps=1, shapes={"w": (9, 9)}).grads
    assert (first["w"] != 0).any()
    wrong = subject("samestep:Adam", bias_correction=False)
    with pytest.raises(AssertionError, match="after step 1 "):
        assert_same_step("samestep:Adam", wrong, steps=1)


def test_steps_are_compared_on_a_trajectory_of_the_user_s():
    """Which way the gradient is followed does not show where it is zero."""
    params = {"w": numpy.ones(3)}
    still = Trajectory(params, [{"w": numpy.zeros(3)}] * 4)
    moving = Trajectory(params, [{"w": numpy.full(3, 0.25)}] * 4)
    pair = samestep.SGD(momentum=0.9), samestep.SGD(momentum=0.9, maximize=True)
    assert_same_step(*pair, trajectory=still)
    with pytest.raises(AssertionError, match="after step 4 w is") as caught:
        assert_same_step(*pair, trajectory=moving)
    assert "the first difference: step 1: param of w" in str(caught.value)


def test_what_cannot_be_compared_is_no_difference():
    with pytest.raises(SubjectError, match="there is no such rule"):
        assert_same_step("samestep:Adamm", "samestep:Adam")
    with pytest.raises(ValueError, match=r"ulp=-1: it must be a finite number"):
        assert_same_step("samestep:Adam", "samestep:Adam", ulp=-1)
    for nothing in ({"steps": 0}, {"trajectory": Trajectory({"w": numpy.ones(3)}, [])}):
        with pytest.raises(ValueError, match="there must be a step at least"):
            assert_same_step("samestep:Adam", "samestep:Adam", **nothing)


def test_a_right_port_agrees_in_both_dtypes():
    pytest.importorskip("torch")
    for dtype in ("float64", "float32"):
        assert_same_step("torch.optim.AdamW", "samestep:AdamW", dtype=dtype)


def test_a_parameter_that_one_side_does_not_take_is_no_agreement(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "flat.py"
    file.write_text(
        "import torch\n"
        "class Flat(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n"
        "        if any(p.ndim > 1 for g in self.param_groups for p in g['params']):\n"
        "            raise IndexError('vectors only')\n"
        "        super().step()\n"
    )
    with pytest.raises(SubjectError, match=r"'matrix', of shape \(16, 9\), is not taken: .*Flat"):
        assert_same_step(f"{file}:Flat", "samestep:SGD")


def test_a_failed_assertion_shows_the_user_s_line(project):
    project.makepyfile(mine="import samestep\nMine = samestep.SGD(maximize=True)\n")
    project.makepyfile(
        "from samestep.conformance import assert_same_step\n"
        "def test_it():\n    assert_same_step('samestep:SGD', 'mine.py:Mine', steps=2)\n"
    )
    done = project.runpytest_inprocess(*PLAIN)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([">*assert_same_step('samestep:SGD', 'mine.py:Mine', steps=2)"])
    done.stdout.no_fnmatch_line("*raise AssertionError*")


def test_a_wrong_rule_fails_in_the_properties_that_it_breaks(project):
    wrong = [BODY.format(name=name, code=code) for name, (code, *_) in BROKEN.items()]
    project.makepyfile(test_mine="\n".join([HEAD, *wrong]))
    chosen = " or ".join((UNTOUCHED, KEPT, RESUMES, NEEDS, AXES))
    run = project.inline_run(*PLAIN, "-q", "--tb=line", "-k", chosen)
    passed, _, failed = run.listoutcomes()
    found = defaultdict(set)
    for each in failed:
        _, name, test = each.nodeid.split("::")
        found[name.removeprefix("Test")].add(test.partition("[")[0])
        assert each.nodeid.partition("[")[2].startswith(name.removeprefix("Test"))
    assert found == {name: {*expected} for name, (_, *expected) in BROKEN.items()}
    assert any("TestPlain::test_inputs_are_untouched[Plain-typical]" in p.nodeid for p in passed)


def test_a_rule_has_every_property_that_a_function_of_the_suite_says():
    known = dict(registry)
    made = conformance_of(samestep.SGD)
    assert dict(registry) == known
    there = {name for name in vars(made) if name.startswith("test_")}
    assert {UNTOUCHED, KEPT, RESUMES, NEEDS, AXES} < there
    module = importlib.import_module("samestep.conformance.rules.test_properties")
    assert vars(made)[UNTOUCHED].__func__ is getattr(module, UNTOUCHED)
    source = Path(module.__file__).read_text(encoding="utf-8")
    written = {*re.findall(r"^def (test_\w+)", source, re.M)}
    assert written <= there
    thorough = {*vars(conformance_of(samestep.SGD, thorough=True))} - {*vars(made)}
    assert "test_faults_in_a_rule_are_caught" in thorough and written.isdisjoint(thorough)


def test_a_property_asks_for_nothing_but_its_case_and_pytest_s_own_fixtures():
    own = {"rule_class", "setting", "backend", "dtype", "monkeypatch", "record_property"}
    for name, value in vars(conformance_of(samestep.SGD, thorough=True)).items():
        if name.startswith("test_"):
            marks = getattr(value.__func__, "pytestmark", [])
            given = {m.args[0] for m in marks if m.name == "parametrize"}
            assert {*inspect.signature(value.__func__).parameters} <= own | given, name


def test_what_is_not_installed_is_a_test_that_is_skipped(monkeypatch):
    def missing(name):
        if name == "pytest":
            return pytest
        raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)

    pytest.importorskip("hypothesis")
    whole = types.SimpleNamespace(**{**vars(properties.importlib), "import_module": missing})
    absent = "mlx"
    (found,) = (each for each in properties.modules() if each.name.endswith("test_properties"))
    monkeypatch.setattr(properties, "importlib", whole)
    (test,) = properties.taken(found, thorough=False).values()
    with pytest.raises(pytest.skip.Exception, match="needs mlx, which is not installed"):
        test()
    absent = "samestep.gone"
    with pytest.raises(ModuleNotFoundError):
        properties.taken(found, thorough=False)


@pytest.mark.parametrize("wrong", [samestep.SGD(), "SGD", dict])
def test_only_the_class_of_a_rule_has_properties(wrong):
    with pytest.raises(TypeError, match=r"conformance_of\(.*must be the class of a rule"):
        conformance_of(wrong)


@pytest.mark.thorough
def test_the_example_has_every_property_on_every_backend(project, monkeypatch):
    monkeypatch.delenv("SAMESTEP_BACKENDS")
    path = Path(samestep.__file__).parent.parent / "examples" / "quasi_hyperbolic_momentum.py"
    if not path.exists():
        pytest.skip("samestep is installed, not a checkout")
    project.makepyfile(
        qhm=path.read_text(encoding="utf-8"),
        test_qhm="from qhm import QHM\nfrom samestep.conformance import conformance_of\n"
        "TestQHM = conformance_of(QHM)\n",
    )
    passed, _, failed = project.inline_run(*PLAIN, "-q").listoutcomes()
    assert failed == [] and len(passed) > 200


# The report at the end.


def test_agreement_is_shown_and_saved(project, monkeypatch):
    monkeypatch.setenv("SAMESTEP_BACKENDS", "numpy")
    project.makepyfile(test_mine=HEAD + "def test_wrong(): assert False\n")
    done = project.runpytest_inprocess(
        *PLAIN, "-k", "one_step_is or wrong", "--samestep-report=found.json"
    )
    done.assert_outcomes(passed=4, failed=1)
    done.stdout.fnmatch_lines(
        [
            "=*samestep: agreement on this machine*=",
            "rule  *backend  *dtype  *one step  all steps    NumPy",
            "Plain *numpy  *float32 *  0",
            "saved in *found.json",
        ]
    )
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert _misfits(found, Report) == []
    assert found["format"] == FORMAT and found["counts"] == {"passed": 4, "failed": 1, "skipped": 0}
    assert found["exit_status"] == 1
    assert found["failures"] == ["test_mine.py::test_wrong"]
    assert found["selection"] == "-k 'one_step_is or wrong'"
    assert found["versions"]["samestep"] == found["samestep"]
    rows = {(row["backend"], row["dtype"]): row for row in found["agreement"]}
    assert {backend for backend, _ in rows} == {"numpy", "numpy (read-only)"}
    assert 0 < rows["numpy", "float32"]["one_step"] < 6 < rows["numpy", "float32"]["all_steps"]
    assert rows["numpy (read-only)", "float64"]["numpy"] == 0


def _misfits(value, kind, where="report"):
    """Where a value is not of the type that is declared."""
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            return [f"{where}: {value!r}"]
        return [m for name in hints for m in _misfits(value[name], hints[name], f"{where}.{name}")]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and isinstance(value, list):
        return [
            m for i, each in enumerate(value) for m in _misfits(each, *arguments, f"{where}[{i}]")
        ]
    if origin is dict and isinstance(value, dict):
        return [
            m for name, v in value.items() for m in _misfits(v, arguments[1], f"{where}.{name}")
        ]
    return [] if isinstance(value, kind) else [f"{where}: {value!r} is no {kind}"]


def test_the_schema_tells_a_wrong_file():
    row = _row()
    assert _misfits(row, Row) == []
    assert _misfits(row | {"one_step": None}, Row) == ["report.one_step: None is no float | str"]
    assert _misfits({k: v for k, v in row.items() if k != "rule"}, Row) != []
    assert _misfits([row | {"numpy": [1]}], list[Row]) != []


def _row(**changes):
    row = {"rule": "SGD", "backend": "torch", "library": "torch", "device": "H200"}
    return row | {"dtype": "float32", "one_step": 0.5, "all_steps": 3.0, "numpy": 0.0} | changes


def test_what_workers_measure_is_gathered(project):
    pytest.importorskip("xdist")
    project.makepyfile(
        f"import pytest\n"
        f"@pytest.mark.parametrize('dtype', ['float32', 'float64', 'bfloat16'])\n"
        f"def test_it(dtype, record_property):\n"
        f"    record_property({PROPERTY!r}, {_row()!r} | {{'dtype': dtype}})\n"
    )
    done = project.runpytest_inprocess("-n", "2", "--samestep-report=found.json")
    done.assert_outcomes(passed=3)
    found = json.loads(Path("found.json").read_text(encoding="utf-8"))
    assert [row["dtype"] for row in found["agreement"]] == ["bfloat16", "float32", "float64"]
    assert found["counts"]["passed"] == 3


def test_a_report_is_made_of_the_whole_suite_and_where_it_is_asked_for(pytester):
    def path(*words):
        return pytest_samestep.report_path(pytester.parseconfig(*words))

    assert path("--pyargs", "samestep.conformance") == pytester.path / "samestep-conformance.json"
    assert path("--pyargs", "samestep.conformance", "--samestep-report=a/b.json") == (
        pytester.path / "a" / "b.json"
    )
    assert path("--samestep-report=b.json") == pytester.path / "b.json"
    assert path() is None
    assert path("--pyargs", "samestep.conformance.rules.test_rules") is None
    assert path("samestep.conformance") is None


def test_of_many_rows_the_worst_are_shown():
    rows = [
        _row(rule=f"Rule{i}", dtype=dtype, one_step=i / 10, numpy=known and i)
        for i in range(FEW)
        for dtype, known in (("float32", True), ("bfloat16", None))
    ]
    rows[4] |= {"one_step": "inf"}
    found = {"agreement": rows, "missing": {"mlx": "No module named 'mlx'"}}
    shown = [*lines(found)]
    assert all(len(line) <= 80 for line in shown)
    table = [line.split() for line in shown if line.startswith("torch ")]
    assert table == [
        ["torch", "bfloat16", "40", "3.9", "Rule39", "3.0", "-"],
        ["torch", "float32", "40", "inf", "Rule2", "3.0", "1"],
    ]
    assert "H200: torch" in shown and "not here: mlx" in shown
    every = [line for line in lines(found, every=True) if line.startswith("Rule")]
    assert len(every) == len(rows) and max(map(len, every)) <= 80


def test_a_file_is_whole_or_not_written(tmp_path, monkeypatch):
    path = tmp_path / "found.json"
    path.write_text("old", encoding="utf-8")

    def fails(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="no space"):
            reporter._write(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["found.json"]
    assert path.read_text(encoding="utf-8") == "old"
    reporter._write(path, "new")
    assert path.read_text(encoding="utf-8") == "new"


def test_a_recording_of_the_fixture_is_the_one_of_the_kit():
    documented = pytest_samestep.MARKERS[0].partition(")")[0].partition("(")[2].split(", ")
    assert {*documented, "return"} == {*record.__annotations__, "dtype"}
