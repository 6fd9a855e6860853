"""How closely backends agree, measured: ``python -m samestep.conformance.harness.agreement``.

Three figures per rule, backend and dtype, all in ULP:

    one step   the largest error of one step, against the rule in float64 from the same state
    in all     the largest error in all steps, against the rule in float64 from the start
    NumPy      the largest difference from NumPy in the same dtype; 0 is equality to the last bit

There are 200 steps in float32 and 60 in the other dtypes. The first two look at the
first ten and at every fifth of the others.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import array_api_compat.numpy as numpy_namespace
import numpy

from samestep.parity import Divergence, Trajectory, compare, follow, one_step, oracle, record, ulps
from samestep.parity.backend import NUMPY, Backend, Snapshot, backends
from samestep.parity.environment import environment as environment_of
from samestep.parity.environment import processor
from samestep.parity.trajectory import suited
from samestep.precisions import stated_error
from samestep.rule import Rule
from samestep.step import advance, scalars
from samestep.vocabulary import initial_parameter

from .settings import all_rules, is_own, settings, typical

__all__ = [
    "BOUNDS",
    "Agreement",
    "bound",
    "exact",
    "measure",
    "one_steps",
    "operations",
    "table",
    "tabled",
]

STEPS = 200
STEPS_ELSEWHERE = 60
OF_NUMPY = ("numpy", "array_api_strict")
"""Libraries that compute with NumPy's own functions. They may refuse to, in the first steps."""

BOUNDS = {"element": 6, "tensor": 8, "axes": 10, "factored": 16, "tree": 16, "matrix": 4}
"""ULP of the compute dtype that one step may be off, by what the rule needs: each rounding adds
half a unit, and a sum over n elements about sqrt(n) of them (a factored rule takes four). Errors of
a matrix rule count in ULP of the array's largest element: each element of a product gathers the
errors of all others."""


TURN = 0.25
"""ULP that a change of the gradient by 1e-6 moves nothing by, unless it turns a step around."""
ROUND = 1e-3
"""Share of a step that it moves a step by at most that does not turn."""


@dataclass(frozen=True)
class Agreement:
    """The three figures of a rule on a backend; see the module's documentation."""

    one_step: Divergence
    in_all: Divergence
    numpy: Divergence | None
    turned: float
    """Share of elements left out of ``one_step``: a change of the gradient by 1e-6 turns them."""


def steps_of(dtype: str) -> int:
    """How many steps are taken in a dtype."""
    return STEPS if dtype == "float32" else min(STEPS, STEPS_ELSEWHERE)


def bound(rule: Rule, backend: Backend, dtype: str, slot: str = "param") -> float:
    """How far one step may be off, in ULP of the parameter's dtype.

    In a narrow dtype arithmetic is done in float32 and rounded once, so half a unit is nearly all;
    a rule that sums over all parameters has its state rounded on the way, between the two phases.
    Where a change is handed on, adding it to the parameter rounds once more.
    """
    limit: float = BOUNDS[rule.needs] * rule.amplifies
    if dtype == "bfloat16":
        limit = (2 if rule.reduces else 0.5) + limit / 2**16
    limit += stated_error(rule) * 2**23
    return limit + (1 if slot == "param" and backend.differenced else 0)


def exact(rule: Rule, backend: Backend) -> bool:
    """Whether a backend promises NumPy's bits: of element rules, where roots are rounded right."""
    if rule.needs != "element" or backend.exact == "bound":
        return False
    return backend.exact == "bit" or "sqrt" not in operations(rule)


@cache
def operations(rule: Rule) -> set[str]:
    """Names of the namespace's functions that an element rule's arithmetic calls."""
    called: set[str] = set()

    class Spy:
        def __getattr__(self, name: str) -> Any:
            called.add(name)
            return getattr(numpy_namespace, name)

    params = suited(rule, record(steps=1)).params
    state = rule.init(params)
    values = scalars(rule, numpy_namespace, 0, numpy.float64)
    for path, param in params.items():
        own = {name: slots[path] for name, slots in state.slots.items()}
        advance(Spy(), rule.bare, param, param, own, {}, values)
    return called - {"float64", "float32", "astype"}


KEPT = 6
"""Runs of 200 steps that are kept: of a rule on NumPy in each dtype, and on one backend more."""


@lru_cache(KEPT)
def trajectory_of(rule: Rule, dtype: str) -> Trajectory:
    """The recorded trajectory for a rule, in numbers that the dtype holds."""
    return suited(rule, record(steps=steps_of(dtype))).rounded(dtype)


@lru_cache(KEPT)
def _oracle(rule: Rule, dtype: str) -> list[Snapshot]:
    return oracle(rule, trajectory_of(rule, dtype))


@lru_cache(KEPT)
def _followed(rule: Rule, backend: Backend, dtype: str) -> list[Snapshot]:
    trajectory = trajectory_of(rule, dtype)
    return follow(backend.start(rule, trajectory.params, dtype), backend, trajectory)


@cache
def measure(rule: Rule, backend: Backend, dtype: str) -> Agreement:
    """Run a rule on a backend over the recorded trajectory and compare."""
    trajectory = trajectory_of(rule, dtype)
    peer = _followed(rule, NUMPY, dtype) if dtype in NUMPY.dtypes else None
    if backend is not NUMPY and backend.library in OF_NUMPY and peer is not None:
        begun = trajectory.taken(set(trajectory.params), steps=STEPS_ELSEWHERE)
        few = follow(backend.start(rule, begun.params, dtype), backend, begun)
        if _equal(few, peer[: len(few)]):
            return measure(rule, NUMPY, dtype)
    ours = _followed(rule, backend, dtype)
    if backend is not NUMPY and peer is not None and _equal(ours, peer):
        return measure(rule, NUMPY, dtype)  # what is the same has the same errors
    how = _compared_as(rule)
    looked_at = [step for step in range(steps_of(dtype)) if step < 10 or step % 5 == 0]
    expected, turned = [], 0
    for step in looked_at:
        grads = trajectory.grads[step]
        theirs = one_step(rule, ours[step], grads, step)
        if not rule.continuous:
            turned += _leave_out_turned(rule, ours, theirs, grads, step, dtype)
        expected.append(theirs)
    reference = compare(ours, peer, dtype, **how) if peer is not None else None
    before = [ours[step] for step in looked_at]
    after = [ours[step + 1] for step in looked_at]
    wanted = _oracle(rule, dtype)
    in_all = compare(
        after,
        [wanted[step + 1] for step in looked_at],
        dtype,
        [wanted[step] for step in looked_at],
        **how,
    )
    looked_over = steps_of(dtype) * sum(param.size for param in trajectory.params.values())
    share = turned / looked_over
    alone = compare(after, expected, dtype, before, **how)
    return Agreement(_brief(alone), _brief(in_all), reference and _brief(reference), share)


def _compared_as(rule: Rule) -> dict[str, Any]:
    """How the arrays of a rule are compared."""
    slots = rule.slots().items()
    alike = {name for name, item in slots if item.init is initial_parameter}
    return {"whole": rule.needs == "matrix", "alike": alike}


def one_steps(rule: Rule, backend: Backend, steps: int = 8) -> Divergence:
    """The error of each of a few steps in float32, against the rule in float64 from its state.

    It counts in ULP of the largest element, since with some options elements nearly cancel.
    """
    trajectory = suited(rule, record(seed=3, steps=steps)).rounded("float32")
    expected = []
    with numpy.errstate(all="ignore"):
        ours = follow(backend.start(rule, trajectory.params, "float32"), backend, trajectory)
        for at, grads in enumerate(trajectory.grads):
            expected.append(one_step(rule, ours[at], grads, at))
            if not rule.continuous:
                _leave_out_turned(rule, ours, expected[at], grads, at, "float32")
    how = _compared_as(rule) | {"whole": True}
    return compare(ours[1:], expected, "float32", ours[:-1], **how)


def _equal(ours: list[Snapshot], theirs: list[Snapshot]) -> bool:
    """Whether two runs are the same to the last bit."""
    assert len(ours) == len(theirs)
    return all(
        one.keys() == other.keys()
        and all(numpy.array_equal(value, other[key]) for key, value in one.items())
        for one, other in zip(ours, theirs, strict=True)
    )


def _brief(found: Divergence) -> Divergence:
    """Without the curves, which nobody looks at and which are large."""
    return replace(found, curves={})


def _leave_out_turned(
    rule: Rule,
    ours: list[Snapshot],
    theirs: Snapshot,
    grads: dict[str, numpy.ndarray],
    step: int,
    dtype: str,
) -> int:
    """Overwrite, in what is expected, the elements that a tiny change of the gradient turns."""
    turned = 0
    for factor in (1 - 1e-6, 1 + 1e-6):
        nearby = {path: grad * factor for path, grad in grads.items()}
        moved = one_step(rule, ours[step], nearby, step)
        for key, value in theirs.items():
            if key[0] == "param":
                step_size = numpy.abs(value - ours[step][key])
                jumps = numpy.abs(moved[key] - value) > ROUND * step_size
                jumps &= (
                    ulps(moved[key], value, numpy.abs(value) + numpy.abs(moved[key]), dtype) > TURN
                )
                turned += int(jumps.sum())
                theirs[key] = numpy.where(jumps, ours[step + 1][key], value)
    return turned


def table(dtype: str = "float32", known: str = "") -> str:
    """Agreement of every rule on every backend, as a Markdown table.

    ``known``: a table whose rows are taken over, if it has the same columns.
    """
    shown = [b for b in backends().values() if isinstance(b, Backend) and dtype in b.dtypes]
    head = _line(["rule", *(backend.name for backend in shown)])
    found = known.splitlines()
    rows = {line.split(" | ")[0][2:]: line for line in found[2:]} if found[:1] == [head] else {}
    for name, rule in tabled().items():
        if name not in rows:
            rows[name] = _line([name, *(_cell(rule, backend, dtype) for backend in shown)])
    ruler = _line(["---"] * (len(shown) + 1))
    return "\n".join([head, ruler, *(rows[name] for name in sorted(rows))])


WITH_OPTIONS = "Muon"
"""The rule whose options that amplify have rows; those of its kin amplify as much."""


def tabled() -> dict[str, Rule]:
    """The typical rules, and those whose options amplify a rounding more, by what a row says."""
    found = {rule.__name__: typical(rule) for rule in all_rules() if is_own(rule)}
    usual = found[WITH_OPTIONS]
    options = settings(type(usual)).items()
    more = {name: one for name, one in options if one.amplifies > usual.amplifies}
    return found | {f"{WITH_OPTIONS}, {name}": one for name, one in more.items()}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(rule: Rule, backend: Backend, dtype: str) -> str:
    measured = measure(rule, backend, dtype)
    figure = f"{math.ceil(measured.one_step.ulp * 10) / 10:.1f}"
    equal = measured.numpy is not None and measured.numpy.ulp == 0
    return f"**{figure}**" if equal else figure


def environment() -> str:
    """Versions and machine, for the line under a table."""
    names = sorted({b.library for b in backends().values() if isinstance(b, Backend)} - {"numpy"})
    found = environment_of(["numpy", *(name.replace("_", "-") for name in names)])
    python, platform = found.pop("Python"), found.pop("platform")
    named = ", ".join(map(" ".join, found.items()))
    return f"{named}; Python {python}, {platform}, {processor()}"


def between_markers(text: str, name: str, content: str) -> str:
    """Text with what stands between the markers ``name`` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    replaced, count = re.subn(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.S)
    if count != 1:
        raise ValueError(f"expected the markers <!-- {name} --> and <!-- /{name} --> once")
    return replaced


def main() -> None:
    """Print the table, or put it into a Markdown file between its markers."""
    parser = argparse.ArgumentParser(
        prog="python -m samestep.conformance.harness.agreement", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into FILE")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16"])
    parser.add_argument(
        "--add", action="store_true", help="measure only the rules that FILE has no row for"
    )
    arguments = parser.parse_args()
    text = "" if arguments.write is None else arguments.write.read_text(encoding="utf-8")
    there = re.search(r"<!-- agreement -->\n(.*?)\n\n", text, re.S) if arguments.add else None
    content = f"{table(arguments.dtype, there[1] if there else '')}\n\n{environment()}."
    if arguments.write is None:
        print(content)
    else:
        new = between_markers(text, "agreement", content)
        arguments.write.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
