"""The second half of interrupted runs, in a process of its own.

    python -m samestep.conformance.harness.interrupted FOLDER BACKEND DTYPE

``FOLDER`` has ``jobs.pickle``, a dict of a rule and a trajectory by name, and of each job the
checkpoint in the middle, ``<name>.safetensors``; the one at the end goes next to it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from samestep.checkpoints import read, write
from samestep.parity import Trajectory
from samestep.parity.backend import Backend, Run, backends
from samestep.rule import Rule

from .settings import load_rules

if TYPE_CHECKING:
    import pytest

__all__ = ["Jobs", "asked_for", "begun", "finish", "in_a_new_process", "stepped"]

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


def asked_for(request: pytest.FixtureRequest) -> list[str]:
    """The names among the selected tests that use a fixture."""
    items: list[Any] = [item for item in request.session.items if hasattr(item, "callspec")]
    return list(
        dict.fromkeys(
            item.callspec.params["name"]
            for item in items
            if item.module is request.module and request.fixturename in item.fixturenames
        )
    )


def in_a_new_process(module: str, call: str, **environment: str) -> None:
    """Call a function of a module in a process that knows the rules of ``SAMESTEP_RULES``.

    Args:
        module: its full name.
        call: the function with its arguments, as Python; ``Path`` is known.
        environment: variables that are set for it.
    """
    code = (
        "from pathlib import Path; "
        "from samestep.conformance.harness.settings import load_rules; load_rules(); "
        f"import {module} as own; own.{call}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    load_rules()
    chosen = backends()[sys.argv[2]]
    assert isinstance(chosen, Backend)
    finish(Path(sys.argv[1]), chosen, sys.argv[3])
