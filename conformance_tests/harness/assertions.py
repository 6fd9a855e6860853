"""An assertion about two optimizers, for anybody's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samestep.parity import (
    Comparison,
    Difference,
    Divergence,
    Subject,
    SubjectError,
    Trajectory,
    compare,
    compared,
)
from samestep.parity import subject as described
from samestep.parity.bounds import EPS
from samestep.parity.comparison import SHAPES, STEPS

__all__ = ["assert_same_step"]


def assert_same_step(
    a: Any,
    b: Any,
    *,
    ulp: float | None = None,
    steps: int = STEPS,
    seed: int = 0,
    dtype: str | None = None,
    trajectory: Trajectory | None = None,
) -> None:
    """Assert that two optimizers take the same steps, from the same start on the same gradients.

    Both get the same numbers, such as ``lr``, where both let them be chosen; all else each has of
    its own. To give one of them arguments: ``samestep.parity.subject("optax.adan", b3=0.9)``.

    Args:
        a, b: each a dotted name, ``file.py:name`` or ``samestep:Adan``; a class; a function that
            makes an optimizer; one that is made already, such as a rule; or a subject.
        ulp: how far apart any parameter may be after any step, in ULP of the dtype; by default what
            rounding may do, as ``samestep parity`` has it. In float64 two ways to write one rule
            are often 60 apart, since ``1 - beta2**t`` cancels at first.
        steps: how many are taken.
        seed: of the recorded gradients.
        dtype: of the parameters; float64 if both compute in it, else float32.
        trajectory: other parameters and gradients than the recorded ones; ``steps`` and ``seed``
            have no say then.

    Raises:
        AssertionError: they part: where, by how much, and what they do differently.
        samestep.parity.SubjectError: one of them cannot be built or stepped, or does not take a
            parameter.
        ValueError: there are no steps, or no such bound or dtype.
    """
    __tracebackhide__ = True
    sides = [side if isinstance(side, Subject) else described(side) for side in (a, b)]
    shapes: Mapping[str, tuple[int, ...]] = SHAPES
    if trajectory is not None:
        steps = len(trajectory.grads)
        shapes = {path: value.shape for path, value in trajectory.params.items()}
    if steps < 1:
        given = f"steps={steps!r}" if trajectory is None else "a trajectory without gradients"
        raise ValueError(f"assert_same_step({given}): there must be a step at least")
    how: dict[str, Any] = {"steps": steps, "seed": seed, "dtype": dtype, "ulp": ulp}
    found = compared(sides[0], sides[1], shapes=shapes, **how)
    for path, reason in found.left_out.items():
        raise SubjectError(f"{path!r}, of shape {shapes[path]}, is not taken: {reason}")
    bound = found.bound / EPS[found.dtype]
    apart = found.divergence if trajectory is None else _on(trajectory, found)
    worst = apart.worst.get("param")
    if worst is not None and worst.ulp > bound:
        raise AssertionError(_message(found, apart, worst, bound))


def _on(trajectory: Trajectory, found: Comparison) -> Divergence:
    """How two subjects differ on a trajectory of the user's own."""
    exact = trajectory.rounded(found.dtype)
    runs = [side.recorded(side.runner(found.dtype), exact).params for side in (found.a, found.b)]
    one, other = (
        [{("param", path): value for path, value in params.items()} for params in run]
        for run in runs
    )
    return compare(one, other, found.dtype)


def _message(found: Comparison, apart: Divergence, worst: Difference, bound: float) -> str:
    """A message that says where two runs part, by how much, and why."""
    lines = [
        f"{found.a.name} and {found.b.name} do not take the same steps",
        f"after step {worst.step} {worst.path} is {worst.ulp:.3g} ULP of {found.dtype} apart "
        f"({worst.relative:.2g} relative); {bound:g} are allowed",
    ]
    if apart.first is not None:
        lines.append(f"the first difference: {apart.first}")
    lines += [
        f"the largest of a slot that both keep: {difference}"
        for slot, difference in apart.worst.items()
        if slot != "param"
    ]
    said = found.sentences or [
        f"unexplained: on samestep's own recorded gradients they agree to within {bound:g} ULP"
    ]
    return "\n  ".join(lines + said + [f"both were given: {_numbers(found)}"])


def _numbers(found: Comparison) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in found.shared.items()) or "nothing"
