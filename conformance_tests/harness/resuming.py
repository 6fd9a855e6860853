"""The second half of interrupted runs, in a process of its own.

    python -m samestep.conformance.harness.resuming FOLDER BACKEND DTYPE

``FOLDER`` has ``jobs.pickle``, a dict of a rule and a trajectory by name, and of each job the
checkpoint in the middle, ``<name>.safetensors``; the one at the end goes beside it.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy

from samestep.checkpoints import read, write
from samestep.parity import Trajectory
from samestep.parity.backend import Backend, Run, backends
from samestep.rule import Rule

from .settings import load_rules

__all__ = ["Jobs", "begun", "finish", "stepped"]

Jobs = dict[str, tuple[Rule, Trajectory]]


def begun(
    backend: Backend, rule: Rule, trajectory: Trajectory, dtype: str, steps: int | None = None
) -> Run:
    """A run after the first steps of a trajectory."""
    run = backend.start(rule, trajectory.params, dtype)
    return stepped(run, trajectory.grads[:steps])


def stepped(run: Run, grads: Sequence[dict[str, numpy.ndarray]]) -> Run:
    """The run after a step for each of these gradients."""
    with numpy.errstate(all="ignore"):
        for own in grads:
            run.step(own)
    return run


def finish(folder: Path, backend: Backend, dtype: str) -> None:
    """Go on with every job from its middle to its end."""
    jobs: Jobs = pickle.loads((folder / "jobs.pickle").read_bytes())
    for name, (rule, trajectory) in jobs.items():
        other = {path: numpy.ones_like(param) for path, param in trajectory.params.items()}
        run = backend.start(rule, other, dtype)
        run.restore(read(folder / f"{name}.safetensors"))
        stepped(run, trajectory.grads[len(trajectory.grads) // 2 :])
        write(folder / f"{name}.end.safetensors", run.checkpoint())


if __name__ == "__main__":
    load_rules()
    chosen = backends()[sys.argv[2]]
    assert isinstance(chosen, Backend)
    finish(Path(sys.argv[1]), chosen, sys.argv[3])
