"""``samestep parity`` on the real packages: verdict, words and exit code."""

from __future__ import annotations

import json

import pytest

from samestep.conformance.command_line import commands
from samestep.parity import subject

pytest.importorskip("torch")
pytest.importorskip("optax")
testing = pytest.importorskip("click.testing")


def run(*words):
    done = testing.CliRunner().invoke(commands(), ["parity", *words], env={"COLUMNS": "200"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_what_differs_is_said_and_the_exit_code_is_1():
    done = run("optax.adan", "samestep:Adan")
    assert done.exit_code == 1
    assert "optax.adan and samestep:Adan: differ" in done.output
    assert "weights the gradient difference by 1 - b2 = 0.08" in done.output
    assert "They part at step 1" in done.output
    assert done.output.rstrip().endswith("samestep parity optax.adan samestep:Adan")


def test_what_agrees_has_the_exit_code_0_and_no_reasons():
    done = run("torch.optim.AdamW", "optax.adamw", "--set", "weight_decay=0.25")
    assert done.exit_code == 0
    assert "torch.optim.AdamW and optax.adamw: agree" in done.output
    assert "weight_decay=0.25" in done.output and "They part" not in done.output


def test_arguments_are_given_to_one_side_or_both():
    same = run("torch.optim.SGD", "optax.sgd", "--set", "a.lr=0.5", "--set", "b.learning_rate=0.5")
    assert same.exit_code == 0
    other = run(
        "torch.optim.SGD", "optax.sgd", "--set", "a.lr=0.5", "--set", "b.learning_rate=0.25"
    )
    assert other.exit_code == 1 and "agree" not in other.output


def test_json_is_for_machines():
    done = run("torch.optim.Adam", "samestep:Adam", "--set", "b.like='keras'", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1 and found["verdict"] == "differ"
    assert found["a"]["name"] == "torch.optim.Adam" and len(found["growth"]) == found["steps"] + 1
    assert found["sentences"] and found["first"][0] == 1


def test_an_optimizer_in_a_file_is_compared(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "class Mine(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.1):\n"
        "        super().__init__(params, lr=lr, momentum=0.5)\n"
    )
    words = (f"{file}:Mine", "torch.optim.SGD", "--set", "lr=0.1")
    assert run(*words, "--set", "b.momentum=0.5").exit_code == 0
    assert run(*words).exit_code == 1
    assert subject(f"{file}:Mine").name.endswith("Mine")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("torch.optim.Adamm", "optax.adam"), "torch.optim.Adamm cannot be imported"),
        (("nothing_here.Adam", "optax.adam"), "nothing_here"),
        (("torch.optim.Adam", "optax.adam", "--set", "c.lr=1"), "--set c.lr=1: it must be"),
        (("torch.optim.Adam", "optax.adam", "--set", "a.foo=1"), "has no argument foo; it has"),
        (("torch.optim.Adam", "optax.adam", "--set", "a.lr=abc"), "torch.optim.Adam cannot be"),
        (("torch.optim.LBFGS", "optax.adam"), "torch.optim.LBFGS"),
        (("json.loads", "optax.adam"), "json.loads"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence_and_the_exit_code_2(words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("samestep parity: ")
    assert len(done.stderr.strip().splitlines()) == 1
