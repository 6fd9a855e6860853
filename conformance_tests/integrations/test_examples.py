"""Every file of the examples folder runs as it is, and what it trains gets better."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import samestep

FOLDER = Path(samestep.__file__).parent.parent / "examples"
OTHERWISE = {
    "gpt.py": "a test of its own, below",
    "quasi_hyperbolic_momentum.py": "a rule of one's own, which make test runs",
}
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in OTHERWISE)
STEPS = 30

pytestmark = pytest.mark.skipif(not EXAMPLES, reason="samestep is installed, not a checkout")


@functools.cache
def printed(name, *more, steps=STEPS):
    done = subprocess.run(
        [sys.executable, FOLDER / name, "--steps", str(steps), *more],
        check=False,
        capture_output=True,
        text=True,
    )
    if missing := re.search(r"ModuleNotFoundError: No module named '(.*)'", done.stderr):
        pytest.skip(f"{missing[1]} is not installed")
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(text):
    """What stands after the word loss, and after no longer word that ends in it."""
    return [float(found) for found in re.findall(r"(?<!\w)loss\W+(-?[\d.]+(?:e[+-]?\d+)?)", text)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_its_loss_falls(name):
    found = losses(printed(name))
    assert len(found) > 1, "the example prints its loss"
    assert found[-1] < 0.9 * found[0]


def test_statistics_that_are_gathered_at_the_average_are_better_than_those_of_training():
    rows = [line for line in printed("batch_norm.py").splitlines() if "statistics" in line]
    pairs = [[float(word) for word in re.findall(r"\d+\.\d+", row)] for row in rows]
    assert len(pairs) > 2 and all(right < stale for right, stale in pairs)


def test_a_route_prints_its_table_and_the_same_losses_in_torch_and_jax():
    text = printed("route_muon.py")
    rows = {
        line.split()[0]: line for line in text.splitlines() if "weight" in line or "bias" in line
    }
    rules = {name: next(r for r in ("Muon", "AdamW") if r in row) for name, row in rows.items()}
    hidden = {"hidden.0.weight", "hidden.1.weight"}
    assert rules == {name: "Muon" if name in hidden else "AdamW" for name in rows}
    assert len(rows) == 6
    pairs = [losses(line) for line in text.splitlines() if line.startswith("step")]
    assert len(pairs) > 2
    for in_torch, in_jax in pairs:
        assert in_torch == pytest.approx(in_jax, abs=1e-4)


def test_a_gpt_has_the_same_losses_in_three_frameworks_with_every_rule(tmp_path):
    picture = tmp_path / "losses.png"
    text = printed("gpt.py", "--picture", picture, steps=10)
    for rule in ("AdamW", "Muon", "NorMuon", "Schedule-Free"):
        rows = [losses(row) for row in text.splitlines() if re.match(rf"{rule} +step ", row)]
        assert len(rows) == 2
        assert rows[-1][0] < 0.9 * rows[0][0]
        for in_torch, *others in rows:
            assert others == pytest.approx([in_torch] * 2, abs=1.5e-4)  # one in the last digit
    assert picture.read_bytes().startswith(b"\x89PNG")
