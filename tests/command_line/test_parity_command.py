"""``samestep parity`` on the real packages: verdict, words and exit code."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import samestep
from samestep.command_line.main import commands
from samestep.command_line.terminal import heights
from samestep.parity import subject

pytest.importorskip("torch")
pytest.importorskip("optax")
testing = pytest.importorskip("click.testing")

ROOT = Path(samestep.__file__).parent.parent


def run(*words, columns=200, **environment):
    environment = {"COLUMNS": str(columns), **environment}
    done = testing.CliRunner().invoke(commands(), ["parity", *words], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


HEEDING = """
import signal
from samestep.command_line.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""What a shell has put into the background ignores interrupts, and so do its children, but this."""


def started(*words, **settings):
    command = [sys.executable, "-c", HEEDING, "parity", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **settings)


RULES = """
import os, time, warnings
import samestep

print("printed by Python")
os.system("echo printed by C")
warnings.warn("a warning")

class Loud(samestep.SGD):
    def coefficients(self, xp, t):
        warnings.warn("a warning")
        return super().coefficients(xp, t + 1)

class Sleeping(samestep.SGD):
    def coefficients(self, xp, t):
        print("asleep", flush=True)
        time.sleep(60)
"""
MINE = """
import sys, warnings
import torch

class Mine(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        warnings.warn("another")
        super().__init__(params, lr=lr, momentum=0.5)

class Odd(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                mean = self.state[param].setdefault("exp_avg", torch.zeros_like(param))
                mean.mul_(0.9).add_(param.grad, alpha=0.1)
                param.sub_(group["lr"] * torch.tanh(mean) * (1 + 0.01 * param.abs()))

class Exploding(Odd):
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                param.data.fill_(float("nan"))

class Refusing(Odd):
    def step(self):
        raise RuntimeError("[red]no[/]\\nin two lines")

class Leaving(Odd):
    def step(self):
        sys.exit(0)

class Flat(Odd):
    def step(self):
        for group in self.param_groups:
            for param in group["params"]:
                param.data = param.data.ravel()
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_the_text_says_what_differs_in_which_parameter_and_slot_and_the_exit_code_is_1():
    done = run("optax.adan", "samestep:Adan")
    text = done.stdout
    assert done.exit_code == 1 and text.startswith("optax.adan and samestep:Adan: differ\n")
    assert "weights the gradient difference by 1 - b2 = 0.08" in text
    assert text.rstrip().endswith("samestep parity optax.adan samestep:Adan")
    assert "They part at step 1, in the parameter '" in text
    assert re.search(r"\n difference by 1 - beta2 +weights the gradient .*weights the", text)
    assert re.search(r"\n kernel +step 1 +\S+ +\S+", text)
    assert re.search(r"\n n +step 2 +0 +0\.\d+", text)
    assert re.search(r"\n m +never +0 +\d\S*e-1\d", text)
    assert re.search(r"betas +\(0\.98, 0\.92, 0\.99\) +\(0\.98, 0\.92, 0\.99\)", text)
    assert re.search(r"optax \d+\.\d+\.\d+.*Python 3\.", text)
    assert "optax.adan is Adan(" in text


def test_what_agrees_has_the_exit_code_0_and_no_reasons():
    done = run("torch.optim.SGD", "optax.sgd", "--set", "weight_decay=0", "--set", "lr=0.25")
    assert done.exit_code == 2  # optax.sgd has no weight_decay
    done = run("torch.optim.SGD", "optax.sgd", "--set", "a.weight_decay=0", "--set", "momentum=0.5")
    assert done.exit_code == 0
    assert done.stdout.startswith("torch.optim.SGD and optax.sgd: agree\n")
    assert "never part" in done.stdout and "What differs" not in done.stdout
    assert re.search(r"momentum +0\.5 +0\.5", done.stdout)


def test_arguments_are_given_to_one_side_or_both():
    words = ("torch.optim.SGD", "optax.sgd", "--set", "a.lr=0.5", "--set")
    assert run(*words, "b.learning_rate=0.5").exit_code == 0
    other = run(*words, "b.learning_rate=0.25")
    assert other.exit_code == 1 and "agree" not in other.output


def test_a_schedule_is_a_call_of_a_dotted_name():
    lr = "lr=samestep.schedules.CosineDecay(0.1, decay_steps=20)"
    other = "lr=samestep.schedules.ExponentialDecay(0.1, 20, 0.5)"
    words = ("samestep:SGD", "torch.optim.SGD")
    same = run(*words, "--set", lr)
    assert same.exit_code == 0 and "CosineDecay" in same.stdout
    assert same.stdout.rstrip().endswith(f"--set '{lr}'")
    assert run(*words, "--set", f"a.{lr}", "--set", f"b.{other}").exit_code == 1


def test_steps_seed_dtype_and_ulp_are_used_and_in_the_command():
    words = ("torch.optim.Adam", "samestep:Adam", "--steps", "7", "--seed", "3")
    done = run(*words, "--dtype", "float32", "--ulp", "0", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1  # torch's root is not correctly rounded
    assert (found["steps"], found["dtype"], len(found["growth"])) == (7, "float32", 8)
    assert found["command"].endswith("--steps 7 --seed 3 --dtype float32 --ulp 0.0")
    assert run(*words, "--dtype", "float32", "--ulp", "1000").exit_code == 0


def test_json_is_for_machines():
    done = run("torch.optim.Adam", "samestep:Adam", "--set", "b.like='keras'", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["verdict"] == "differ" and found["schema"] == 1
    assert found["a"]["name"] == "torch.optim.Adam" and len(found["growth"]) == found["steps"] + 1
    assert found["sentences"] and found["first"][0] == 1
    assert found["explained"] and {reason["option"] for reason in found["reasons"]} >= {"eps_at"}
    assert found["environment"].keys() >= {"torch", "samestep", "numpy", "Python", "platform"}
    by_path = found["curves"]["param"]
    assert by_path.keys() == found["by_parameter"].keys()
    assert max(max(values) for values in by_path.values()) == found["distance"]
    assert all(len(v) == found["steps"] + 1 for s in found["curves"].values() for v in s.values())


def test_json_says_what_is_apart_in_float32_only():
    found = json.loads(run("torch.optim.AdamW", "optax.adamw", "--json").stdout)
    assert found["verdict"] == "agree" and found["narrow"]["dtype"] == "float32"
    assert found["narrow"]["first"][0] == 1 and 30 < found["narrow"]["growth_ulp"][1] < 120
    assert "computes 1 - beta^t in float32" in found["sentences"][0]


def test_two_of_one_name_are_told_apart():
    done = run("samestep:SGD", "samestep:SGD", "--set", "a.momentum=0.5", "--set", "b.momentum=0.9")
    assert done.exit_code == 1
    assert "samestep:SGD (a) has momentum = 0.5" in done.stdout
    assert "samestep:SGD (b) has momentum = 0.9" in done.stdout


def test_an_optimizer_in_a_file_is_compared(mine):
    words = (f"{mine}:Mine", "torch.optim.SGD", "--set", "lr=0.1")
    assert run(*words, "--set", "b.momentum=0.5").exit_code == 0
    assert run(*words).exit_code == 1
    assert subject(f"{mine}:Mine").name.endswith("Mine")


def test_what_is_unexplained_is_said_to_be_so_with_what_both_keep_alike(mine):
    done = run(f"{mine}:Odd", "samestep:AdamW")
    assert done.exit_code == 1 and "What differs" not in done.stdout
    assert "Both keep the same m." in done.stdout and "unexplained: none of" in done.stdout


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_text_fits_the_terminal_and_has_no_colours_where_there_is_none(columns):
    words = ("samestep:SGD", "samestep:SGD", "--set", "a.momentum=0.5", "--set", "b.momentum=0.9")
    text = run(*words, columns=columns).stdout
    *lines, command = text.rstrip().splitlines()
    assert all(len(line.rstrip()) <= columns for line in lines)
    assert command == " ".join(("samestep parity", *words))
    assert "\x1b" not in text


def test_colours_are_shown_unless_they_are_not_wanted():
    words = ("samestep:SGD", "samestep:SGD", "--set", "a.momentum=0.5", "--set", "b.momentum=0.9")
    coloured = run(*words, FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[1;31mdiffer" in coloured
    plain = run(*words, FORCE_COLOR="1", TERM="xterm-256color", NO_COLOR="1").stdout
    assert not re.search(r"\x1b\[[0-9;]*3\d", plain)


def test_a_sparkline_is_lowest_within_the_bound_and_highest_at_the_top():
    values = [0.0, 1e-12, 1e-10, 1e-9, 1e-5, 1.0, 1e-5]
    assert heights(values, 1e-10) == "▁▁▁▂▅█▅"
    assert heights(values, 1e-10, blocks=False) == "___.=#="
    assert heights([1.0, float("inf")], 1e-10) == "██"
    assert len(heights([1.0] * 1000, 1e-10)) == 40


def test_what_libraries_print_and_warn_of_is_not_in_the_output(tmp_path):
    file = tmp_path / "loud.py"
    file.write_text(RULES)
    process = started(f"{file}:Loud", "samestep:SGD", "--json")
    out, err = process.communicate(timeout=100)
    assert json.loads(out)["verdict"] == "agree" and process.returncode == 0
    assert "printed by Python" in err and "printed by C" in err and "warning" not in err


def test_an_interrupt_leaves_no_half_written_page_and_has_an_exit_code_of_its_own(tmp_path):
    file, page = tmp_path / "sleeping.py", tmp_path / "page.html"
    file.write_text(RULES)
    page.write_text("before")
    process = started(f"{file}:Sleeping", "samestep:SGD", "--html", str(page))
    while "asleep" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.rstrip().endswith("samestep parity: interrupted")
    assert page.read_text() == "before" and len(os.listdir(tmp_path)) <= 3


def refused(*words):
    done = run(*words)
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("samestep parity: ") and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("torch.optim.Adamm", "optax.adam"), "torch.optim.Adamm cannot be imported"),
        (("optax.adam", "nothing_here.Adam"), "nothing_here"),
        (("nothing.py:Adam", "optax.adam"), "nothing.py"),
        (("samestep:Adamm", "optax.adam"), "samestep:Adamm"),
        (("torch.optim.Adam", "optax.adam", "--set", "c.lr=1"), "--set c.lr=1: it must be"),
        (("torch.optim.Adam", "optax.adam", "--set", "lr"), "--set lr: it must be"),
        (("torch.optim.Adam", "optax.adam", "--set", "a.foo=1"), "has no argument foo; it has"),
        (("torch.optim.Adam", "optax.adam", "--set", "lr="), "there must be a value behind the ="),
        (("torch.optim.Adam", "optax.adam", "--set", "lr=os.getpid()"), "makes no schedule, but"),
        (("mine.py", "optax.adam"), "name what is in the file, as in mine.py:MyOptimizer"),
        (("torch.optim.Adam", "optax.adam", "--set", "a.lr=abc"), "torch.optim.Adam cannot be"),
        (("torch.optim.Adam", "optax.adam", "--set", "lr=no.such(1)"), "no.such cannot be"),
        (("torch.optim.Adam", "optax.adam", "--set", "lr=math.sqrt(-1)"), "cannot be called so"),
        (("torch.optim.Adam", "optax.adam", "--set", "lr=math.sqrt(x)"), "must be numbers, texts"),
        (("torch.optim.LBFGS", "optax.adam"), "torch.optim.LBFGS"),
        (("json.loads", "optax.adam"), "json.loads"),
        (
            ("torch.optim.SGD", "samestep:SGD", "--set", "a.lr=1e308"),
            "torch.optim.SGD gave infinity",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_the_exit_code_2(words, said):
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Exploding", "Exploding gave NaN"),
        ("Refusing", "RuntimeError: [red]no[/]"),
        ("Leaving", "ended the program"),
        ("Flat", "Flat"),
        ("Missing", "Missing"),
    ],
)
def test_which_side_fails_is_said_and_what_to_do(mine, name, said):
    text = refused("samestep:SGD", f"{mine}:{name}")
    assert said in text
    if name == "Exploding":
        assert "side b" in text and "b.lr=" in text
    if name == "Refusing":
        assert "--set b.NAME" in text and "--traceback" in text


def test_a_traceback_is_shown_where_it_is_asked_for(mine):
    done = run("samestep:SGD", f"{mine}:Refusing", "--traceback")
    assert done.exit_code == 2 and "Traceback (most recent call last)" in done.stderr
    assert "RuntimeError" in done.stderr and done.stderr.count("\nsamestep parity: ") == 1


def test_a_file_that_fails_while_it_is_imported_is_refused(tmp_path):
    for text in ("1 / 0", "def broken(:", "import sys; sys.exit(3)"):
        file = tmp_path / "bad.py"
        file.write_text(text)
        assert "cannot be imported" in refused(f"{file}:Mine", "samestep:SGD")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Missing argument 'A'"),
        (("optax.adam",), "Missing argument 'B'"),
        (("optax.adam", "samestep:Adam", "--dtype", "float8"), "'float8' is not one of"),
        (("optax.adam", "samestep:Adam", "--steps", "0"), "0 is not in the range"),
        (("optax.adam", "samestep:Adam", "--only", "Adam"), "--only is not for a pair"),
        (("optax.adam", "samestep:Adam", "--html", "/no/such/folder/x.html"), "there is no folder"),
        (("optax.adam", "--all"), "--all compares every pair"),
        (("--all", "--set", "lr=1"), "--set is not for --all"),
        (("optax.adam", "samestep:Adam", "--nothing"), "No such option"),
    ],
)
def test_wrong_options_are_refused_by_name(words, said):
    done = run(*words)
    assert done.exit_code == 2 and said in done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/pages/parity.md"])
def test_what_is_printed_in_the_documentation_is_what_the_command_prints(page):
    if not (ROOT / page).exists():
        pytest.skip("samestep is installed, not a checkout")
    blocks = re.findall(r"```\n(\$ samestep parity .*?)```", (ROOT / page).read_text(), re.S)
    assert blocks, f"{page} shows no comparison"
    for block in blocks:
        command, *lines = block.rstrip().splitlines()
        words = shlex.split(command.removeprefix("$ samestep parity "))
        if "..." in lines or "--all" in words:
            continue
        printed = [line.rstrip() for line in run(*words, columns=80).stdout.splitlines()]
        machine = [at for at, line in enumerate(lines) if line.startswith("samestep 0")]
        shown = lines[: machine[0]] if machine else lines
        assert printed[: len(shown)] == shown
