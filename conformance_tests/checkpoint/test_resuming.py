"""Interrupted runs that go on from a file end where uninterrupted ones do, bit for bit."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import numpy
import pytest

import samestep
from samestep.checkpoints import Checkpoint, read, write
from samestep.checkpoints.contents import arrays
from samestep.conformance.harness.interrupted import Jobs, begun, stepped
from samestep.conformance.harness.settings import all_rules, representatives, settings, typical
from samestep.parity import record
from samestep.parity.backend import NUMPY, Backend, backends
from samestep.parity.trajectory import suited
from samestep.schedules import CosineDecay, ExponentialDecay

HALF = 13
"""Steps to the middle: in the middle of what Lookahead and Accumulate do in several steps, too."""

trajectory = record(seed=3, steps=2 * HALF)


def jobs_for(backend, dtype, every, thorough):
    """Rules of all kinds, with schedules and other dtypes of the state, by name.

    A compiler has one rule of these and the route, unless it is to be thorough.
    """
    classes = all_rules() if every else representatives()
    classes = classes[:1] if backend.slow and not thorough else classes
    rules = {cls.__name__: typical(cls) for cls in classes}
    if backend is NUMPY and thorough:
        rules |= {
            f"{cls.__name__}.{label.replace('/', '-')}": rule
            for cls in classes
            for label, rule in settings(cls).items()
        }
    scheduled = CosineDecay(0.01, 2 * HALF)
    matrices = typical(samestep.Muon)
    rules["routed"] = samestep.Average(
        samestep.route((samestep.Where(min_ndim=2), matrices), samestep.AdamW(lr=scheduled))
    )
    if backend.slow and not thorough:
        return {
            name: (rule, suited(rule, trajectory).rounded(dtype)) for name, rule in rules.items()
        }
    rules["scheduled"] = samestep.AdamW(
        lr=scheduled,
        betas=(ExponentialDecay(0.9, 5, 0.9), 0.99),
        weight_decay=0.1,
        decay="relative",
    )
    rules["grouped"] = samestep.AdamW(
        lr=0.01, groups=[(samestep.Where(ndim=1), {"lr": 0.5, "betas": (0.5, 0.9)})]
    )
    if backend is not NUMPY and backend.library not in ("numpy", "array_api_strict"):
        wide = "float32" if dtype == "bfloat16" else "bfloat16"
        rules["stored"] = samestep.AdamW(weight_decay=0.1, state_dtype=wide)
        rules["stored in part"] = samestep.Adan(state_dtype={"m": wide})
    return {
        name: (rule, suited(rule, trajectory).rounded(dtype))
        for name, rule in rules.items()
        if not (backend.library == "numpy" and "bfloat16" in repr(rule))
    }


def resumed(folder, backend, dtype, jobs: Jobs) -> dict[str, tuple[Checkpoint, Checkpoint]]:
    """The ends of the interrupted runs and of the uninterrupted ones."""
    (folder / "jobs.pickle").write_bytes(pickle.dumps(jobs))
    whole = {}
    for name, (rule, own) in jobs.items():
        run = begun(backend, rule, own, dtype, HALF)
        write(folder / f"{name}.safetensors", run.checkpoint())
        stepped(run, own.grads[HALF:])
        write(folder / f"{name}.whole.safetensors", run.checkpoint())
        whole[name] = read(folder / f"{name}.whole.safetensors")
    command = [sys.executable, "-m", "samestep.conformance.harness.interrupted"]
    done = subprocess.run(
        [*command, str(folder), backend.name, dtype], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: (read(folder / f"{name}.end.safetensors"), whole[name]) for name in jobs}


def differing(one: Checkpoint, other: Checkpoint) -> list[str]:
    """What is not the same to the last bit."""
    ours, theirs = arrays(one), arrays(other)
    assert ours.keys() == theirs.keys()
    found = [
        key
        for key, tensor in ours.items()
        if tensor.dtype != theirs[key].dtype or tensor.bits.tobytes() != theirs[key].bits.tobytes()
    ]
    steps = [
        path for path, own in one.parameters.items() if own.step != other.parameters[path].step
    ]
    return [*found, *(f"step of {path}" for path in steps)]


def check(folder, backend, dtype, every, thorough=False):
    jobs = jobs_for(backend, dtype, every, thorough)
    wrong = {
        name: apart
        for name, pair in resumed(folder, backend, dtype, jobs).items()
        if (apart := differing(*pair))
    }
    assert wrong == {}


SOON = ("numpy", "torch (packed)", "jax.jit", "mlx", "mx.compile")
"""Backends of each library; the others are left to make thorough."""


@pytest.mark.parametrize("name", SOON)
def test_a_new_process_ends_where_an_uninterrupted_one_does(tmp_path, name):
    backend = backends().get(name)
    if not isinstance(backend, Backend):
        pytest.skip(f"{name} is not installed")
    check(tmp_path, backend, "float32", every=backend is NUMPY)


@pytest.mark.thorough
def test_so_does_every_rule_in_every_dtype(tmp_path, backend, dtype):
    check(tmp_path, backend, dtype, every=True, thorough=True)


def test_without_the_state_it_ends_elsewhere(rule_class):
    """Or the tests above could not fail."""
    rule = typical(rule_class)
    own = suited(rule, trajectory)
    whole = begun(NUMPY, rule, own, "float64").checkpoint()
    middle = begun(NUMPY, rule, own, "float64", HALF).checkpoint()
    run = NUMPY.start(rule, own.params, "float64")
    kept = {path: replace(state, slots=None, step=0) for path, state in middle.parameters.items()}
    run.restore(Checkpoint(kept, {}, middle.layout))
    stepped(run, own.grads[HALF:])
    moved = [key for key in differing(run.checkpoint(), whole) if not key.startswith("step of ")]
    assert bool(moved) == bool(rule.slots() or rule.shared())


def test_a_half_of_the_steps_is_not_the_whole(rule_class):
    rule = typical(rule_class)
    own = suited(rule, trajectory)
    middle = begun(NUMPY, rule, own, "float64", HALF).checkpoint()
    assert differing(middle, begun(NUMPY, rule, own, "float64").checkpoint())


def test_the_numbers_that_a_schedule_gives_go_on(tmp_path):
    """At the step of the file, not from the beginning."""
    rule = samestep.SGD(lr=CosineDecay(0.5, 2 * HALF))
    params, grads = {"w": numpy.ones(3)}, {"w": numpy.full(3, 0.1)}
    state = rule.init(params)
    for _ in range(HALF):
        params, state = rule.update(grads, params, state)
    samestep.save(tmp_path / "x.safetensors", rule, params, state)
    other, again = samestep.load(tmp_path / "x.safetensors", rule, {"w": numpy.zeros(3)})
    assert again.step == HALF
    moved, _ = rule.update(grads, other, again)
    expected = params["w"] - 0.1 * rule.at(HALF).lr
    numpy.testing.assert_array_equal(moved["w"], expected)


def test_steps_are_counted_in_one_way(backend):
    """By the state where it is a value, by the optimizer where it holds the state."""
    run = begun(backend, samestep.SGD(), trajectory.rounded("float32"), "float32", 3)
    run = getattr(run, "run", run)
    counted = getattr(run, "state", None) or run.optimizer
    assert counted.steps_taken == 3
    assert backend.start(samestep.SGD(), trajectory.params, "float32").checkpoint().step == 0
