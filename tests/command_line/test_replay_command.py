"""``samestep replay``: what is printed, for people and for machines, and the exit code."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import numpy
import pytest

import samestep
from samestep.command_line.main import commands
from samestep.parity import record
from samestep.recording import Recorder

testing = pytest.importorskip("click.testing")
SHAPES = {"weight": (5, 3), "bias": (3,)}
RULE = samestep.AdamW(lr=0.01, weight_decay=0.1)


def train(
    path,
    *,
    rule=RULE,
    seed=3,
    wrong=None,
    says=None,
    shapes=SHAPES,
    numbered=0,
    by=0.001,
    **how,
):
    made = record(seed, 12, shapes).rounded("float32")
    params = {name: value.astype("float32") for name, value in made.params.items()}
    state = rule.init(params)
    with Recorder(path, **how) as recording:
        for step, given in enumerate(made.grads):
            grads = {name: value.astype("float32") for name, value in given.items()}
            after, new = rule.update(grads, params, state)
            if step == wrong:
                after["bias"] = after["bias"] + numpy.float32(by)
            recording.note(step + numbered, grads, params, after, says or rule, state)
            params, state = after, new
    return str(path)


def run(*words, width=400):
    done = testing.CliRunner().invoke(commands(), ["replay", *words], env={"COLUMNS": str(width)})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_what_agrees_has_the_exit_code_0_and_a_table(tmp_path):
    path = train(tmp_path / "run.safetensors")
    done = run(path)
    assert done.exit_code == 0 and not done.stderr
    assert f"{path}: agrees with AdamW" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if "float32" in line and "│" in line]
    assert [row[1] for row in rows] == ["weight", "bias"]
    assert f"samestep replay {path}" in done.stdout.splitlines()[-1]
    assert "\x1b[" not in done.stdout


def test_what_departs_has_the_exit_code_1_and_says_where(tmp_path):
    path = train(tmp_path / "run.safetensors", wrong=7)
    done = run(path)
    assert done.exit_code == 1
    assert f"{path}: departs from AdamW" in done.stdout
    assert "departs at step 7 in bias" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("At step 7 bias["))
    was, should = (float(line.split(word)[1].split(" ")[1].rstrip(":")) for word in ("was", "be"))
    assert was - should == pytest.approx(0.001, rel=1e-3)


def test_numbers_are_set_and_the_bound_is_chosen(tmp_path):
    path = train(tmp_path / "run.safetensors")
    assert run(path, "--set", "weight_decay=0.2").exit_code == 1
    assert run(path, "--set", "weight_decay=0.1").exit_code == 0
    assert run(path, "--ulp", "0").exit_code == 0  # the same arithmetic in float32
    path = train(tmp_path / "double.safetensors", rule=RULE.replace(lr=0.01 * (1 + 1e-6)))
    assert run(path, "--set", "lr=0.01").exit_code == 0
    strict = run(path, "--set", "lr=0.01", "--ulp", "2")
    assert strict.exit_code == 1 and "within 2 ULP" in strict.stdout


def test_json_is_for_machines(tmp_path):
    path = train(tmp_path / "run.safetensors", wrong=7)
    done = run(path, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["verdict"] == "departs"
    assert (found["first"]["step"], found["first"]["path"]) == (7, "bias")
    assert [row["step"] for row in found["growth"]] == [*range(12)]
    assert {row["path"]: row["departing"] for row in found["parameters"]} == {
        "weight": 0,
        "bias": 1,
    }


def test_a_rule_is_named_where_the_recording_does_not(tmp_path):
    numbers = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
    path = train(tmp_path / "run.safetensors", says=numbers)
    done = run(path)
    assert done.exit_code == 2 and not done.stdout
    assert "name one with --rule: ADOPT, AMSGrad, AdEMAMix, AdaBelief" in done.stderr
    assert run(path, "--rule", "AdamW").exit_code == 0
    assert run(path, "--rule", "AdamW", "--like", "torch").exit_code == 0
    assert run(path, "--rule", "Adam", "--like", "torch").exit_code == 1
    assert run(path, "--rule", "AdamW", "--set", "eps=1e-5").exit_code == 1


def test_two_recordings_are_compared(tmp_path):
    one = train(tmp_path / "one.safetensors")
    other = train(tmp_path / "other.safetensors", wrong=7)
    done = run(one, "--against", train(tmp_path / "same.safetensors"))
    assert done.exit_code == 0 and "nothing differs" in done.stdout
    done = run(one, "--against", other)
    assert done.exit_code == 1
    assert "the optimizer differed first" in done.stdout and "step 7, bias" in done.stdout
    found = json.loads(run(one, "--against", other, "--json").stdout)
    assert (found["first"]["kind"], found["first"]["step"]) == ("optimizer", 7)
    third = train(tmp_path / "third.safetensors", seed=4)
    assert "the parameters to start from differ" in run(one, "--against", third).stdout


def test_recordings_of_other_lengths_are_compared_in_the_steps_that_both_have(tmp_path):
    one = train(tmp_path / "one.safetensors")
    short = train(tmp_path / "short.safetensors", steps=7, parameters="weight")
    done = run(one, "--against", short)
    assert done.exit_code == 0
    assert f"nothing differs in steps 0 to 6; 5 steps are in {one} only" in done.stdout
    assert f"only in {one}: bias" in done.stdout
    found = json.loads(run(one, "--against", short, "--json").stdout)
    assert found["steps_only"] == [[7, 8, 9, 10, 11], []] and found["only"] == [["bias"], []]
    assert "only" not in run(one, "--against", one).stdout


def test_what_is_no_number_is_said_so_and_is_null_for_machines(tmp_path):
    path = train(tmp_path / "nan.safetensors", wrong=7, by=math.nan)
    done = run(path)
    assert done.exit_code == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("At step 7")]
    assert re.fullmatch(r"At step 7 bias\[\d\] is NaN, and should be -?[\d.e-]+\.", line)
    one = train(tmp_path / "one.safetensors")
    done = run(one, "--against", path)
    assert done.exit_code == 1 and "the optimizer differed first" in done.stdout
    text = run(one, "--against", path, "--json").stdout
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["first"]["kind"] == "optimizer" and found["first"]["relative"] is None
    assert found["steps"][7]["changes"] is None and '"inf"' not in text


def test_a_title_says_what_does_not_simply_agree(tmp_path):
    rule, params = samestep.AdamW(lr=0.1), {"w": numpy.ones(3)}

    def record_steps(path, numbers, carried, grads=params, rule=rule, **how):
        params, state = carried
        with Recorder(path, **how) as recording:
            for step in numbers:
                after, new = rule.update(grads, params, state)
                recording.note(step, grads, params, after, rule, state)
                params, state = after, new
        return params, state

    one, two = tmp_path / "one", tmp_path / "two"
    carried = record_steps(one, range(4), (params, rule.init(params)))
    record_steps(two, range(4, 8), carried, {"w": numpy.array([1, 1, math.nan])})
    done = run(str(one), str(two))
    assert done.exit_code == 1 and "ends in NaN or infinity, by steps of AdamW" in done.stdout
    found = json.loads(run(str(one), str(two), "--json").stdout)
    assert found["not_finite"] == {"step": 4, "what": "the gradient of", "path": "w"}
    record_steps(two, range(4, 8), carried, rule=rule.replace(lr=0.5))
    done = run(str(one), str(two))
    assert done.exit_code == 1 and "resumed with other numbers, and agrees with Adam" in done.stdout
    assert "lr was 0.1 at step 3, and is 0.5 from step 4 on" in done.stdout
    record_steps(one, range(8), (params, rule.init(params)), steps={0, 1, 5}, state=False)
    done = run(str(one))
    assert done.exit_code == 0 and "agrees with AdamW in 2 of 3 steps\n" in done.stdout


@pytest.mark.parametrize("option", ["--ulp", "--tolerance"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1"])
def test_bounds_that_bound_nothing_are_refused(tmp_path, option, value):
    path = train(tmp_path / "run.safetensors")
    done = run(path, option, value)
    assert done.exit_code == 2 and not done.stdout
    assert option in done.stderr and value.removesuffix(".0") in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.safetensors"], "none.safetensors: there is no such file"),
        (["a.txt"], "a.txt: this is no safetensors file"),
        (["saved"], "saved: this is a checkpoint of samestep, no recording; its header has"),
        (["run", "--rule", "Adamw"], "there is no rule Adamw; there are ADOPT, AMSGrad,"),
        (["run", "--rule", "Muon"], "run: Muon takes no parameter such as bias of shape (3,)"),
        (["run", "--rule", "a.py:QHM"], "a.py: there is no such file"),
        (["run", "--rule", "samestep.torch:bind"], "is function; it must be a class of a rule"),
        (["own", "--set", "lr=1"], "--rule file.py:Stranger says where a rule of yours is"),
        (["run", "--rule", "AdamW", "--like", "tf"], "AdamW has no dialect 'tf'; it has"),
        (["run", "--like", "torchh"], "AdamW has no dialect 'torchh'; it has"),
        (["wrapped", "--like", "torch"], "Lookahead has no dialect 'torch'; it has none"),
        (["run", "--set", "like=optax"], "--set like=optax: the dialect is given by --like"),
        (["run", "wide"], "wide: weight has shape (6, 3), and had (5, 3) in run"),
        (["run", "--against", "run", "--rule", "AdamW"], "--rule is not for --against"),
        (["run", "--against", "run", "--like", "torch"], "--like is not for --against"),
        (["run", "--against", "run", "--ulp", "3"], "--ulp is not for --against"),
        (["run", "--against", "run", "--set", "lr=1"], "--set is not for --against"),
        (["run", "--rule", "Lookahead"], "Lookahead is a wrapper"),
        (["run", "--set", "learning_rate=1"], "Did you mean lr?"),
        (["run", "--set", "lr"], "--set lr: it must be NAME=VALUE"),
        (["run", "--set", "lr=-1"], "lr"),
        (["run", "--map", "torch:flax"], "--map is for --against"),
        (["run", "--against", "none"], "none: there is no such file"),
        (["run", "run", "--against", "run"], "give one FILE before it"),
        (["run", "--against", "run", "--map", "torch:tf"], "tf"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_line_with_the_exit_code_2(
    tmp_path, monkeypatch, words, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("nothing of the kind")
    train(tmp_path / "run")
    params = {"w": numpy.ones(2)}
    samestep.save(tmp_path / "saved", samestep.checkpoint(RULE, params, RULE.init(params)))
    train(tmp_path / "wide", shapes={"weight": (6, 3), "bias": (3,)}, first_step=12, numbered=12)
    stranger = type("Stranger", (samestep.SGD,), {}, register=False)
    train(tmp_path / "own", rule=stranger(lr=0.01))
    train(tmp_path / "wrapped", rule=samestep.Lookahead(samestep.AdamW(lr=0.01), sync_period=3))
    done = run(*words)
    assert done.exit_code == 2 and not done.stdout
    assert said in done.stderr and done.stderr.count("\n") == 1


OWN = """
import samestep

class Halved(samestep.Rule):
    \"""Half a step of descent.\"""

    lr = samestep.hyper(1.0, "step size", unit="parameter/gradient", ge=0)

    def direction(self, xp, grad, param, state, s):
        return 0.5 * grad, {}
"""


RUN = """
from click.testing import CliRunner
from samestep.command_line.main import commands

for name in ("mine.py:Halved", "SGD"):
    done = CliRunner().invoke(commands(), ["replay", "run", "--rule", name])
    print(done.exit_code, done.output.splitlines()[0])
"""


def test_a_rule_of_the_user_s_is_replayed(tmp_path):
    """In a process of its own, because the rule is registered."""
    (tmp_path / "mine.py").write_text(OWN)
    train(tmp_path / "run", rule=samestep.SGD(lr=0.05), says={"lr": 0.1})
    command = [sys.executable, "-c", RUN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = ["0 run: agrees with Halved", "1 run: departs from SGD"]
    assert done.stdout.splitlines() == lines, done.stderr


def test_names_in_a_file_are_no_markup(tmp_path):
    path = tmp_path / "run.safetensors"
    with Recorder(path) as recording:
        ones = {"[red]w": numpy.ones(2, "float32")}
        rule = samestep.SGD(lr=1.0)
        recording.note(0, ones, ones, {"[red]w": numpy.full(2, 0.5, "float32")}, rule)
    done = run(str(path))
    assert done.exit_code == 1 and "[red]w" in done.stdout


def test_the_command_runs_without_any_framework(tmp_path):
    path = train(tmp_path / "run.safetensors")
    code = (
        "import sys; sys.modules.update(torch=None, jax=None, mlx=None); "
        f"sys.argv = ['samestep', 'replay', {path!r}]; "
        "from samestep.command_line.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agrees with AdamW" in done.stdout
