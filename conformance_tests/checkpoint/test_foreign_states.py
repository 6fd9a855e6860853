"""States of libraries' own optimizers become ours, and ours theirs: both go on alike.

A library takes 30 steps; its state goes through a file into the rule in NumPy, and both take 10
more. Then ours goes back into another optimizer of the library, and that goes on beside the one
that never stopped. The bound is that of the dialect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import pytest

import samestep
from samestep.checkpoints import Checkpoint, CheckpointError, read, write
from samestep.checkpoints.contents import arrays
from samestep.checkpoints.description import made
from samestep.conformance.peers import agree, nested
from samestep.conformance.rules.test_dialects import CASES, FURTHEST, Case, need
from samestep.parity.subjects.importing import stepping
from samestep.parity.trajectory import as_recorded
from samestep.rule import registry
from samestep.vocabulary import Wrapper

BEFORE, AFTER = 30, 10
FLOAT32 = 24 * 2.0**-23
"""Relative to the largest value or step so far: of ten steps a few ULP each."""
SUMS = 4e-5
"""In float32, of v - g^2 and of sums over rows."""
LIBRARIES = ("torch", "keras", "mlx", "optax")


def converted(case: Case) -> bool:
    """Whether the state has a form of ours; of SM3 without momentum optax keeps a mean, unlike us.

    The parameters of optax.lookahead are a pair.
    """
    if case.like not in LIBRARIES or case.peer.rule == "Lookahead":
        return False
    if case.like == "optax":
        return (case.peer.rule, case.values.get("momentum")) != ("SM3", 0.0) and case.is_dialect
    return not issubclass(registry[case.peer.rule], Wrapper)


def usual(case: Case, dtype: str) -> bool:
    """Whether a dtype is quick: every step of Keras takes milliseconds."""
    return dtype == "float64" or case.like != "keras"


def cases() -> list[Any]:
    return [
        pytest.param(
            case,
            dtype,
            id=f"{case.label}-{dtype}",
            marks=() if case in FURTHEST and usual(case, dtype) else pytest.mark.thorough,
        )
        for case in filter(converted, CASES)
        for dtype in ("float64", "float32")
        if dtype == "float64" or (case.like in ("torch", "keras") and case in FURTHEST)
    ]


class Training:
    """A library's optimizer at work, which counts its steps."""

    def __init__(self, case: Case, dtype: str) -> None:
        need(case.module)
        given = case.trajectory.rounded(dtype)
        filled = {path for path, param in given.params.items() if param.size}
        self.case, self.trajectory = case, given.taken(filled)
        runner = stepping(case.module.PACKAGE).Runner
        target = case.module.target(case.peer, case.hypers)
        self.start = runner(target, {}, dtype, case.peer.rule).start
        self.stepper, self.taken = self.start(self.trajectory.params), 0

    def another(self) -> Training:
        """Another optimizer, on other parameters, which has taken three steps elsewhere."""
        other = object.__new__(Training)
        vars(other).update(vars(self))
        moved = {path: param + 1 for path, param in self.trajectory.params.items()}
        other.stepper, other.taken = self.start(moved), 0
        other.run(3)
        return other

    def run(self, steps: int) -> list[Any]:
        """Snapshots before and after every step."""
        read_slots = getattr(self.case.module, "read", None)
        found = []
        for step in range(steps + 1):
            if step:
                self.stepper.step(self.trajectory.grads[self.taken])
                self.taken += 1
            stepper = self.stepper
            slots = read_slots(self.case.peer, stepper) if read_slots else stepper.slots()
            found.append(nested({"param": stepper.params(), **slots}))
        return found

    def checkpoint(self) -> Checkpoint:
        """What it keeps; the step is given where optax counts none."""
        stepper, rule = self.stepper, as_recorded(self.case.rule)
        if self.case.like != "optax":
            return samestep.checkpoint(bare(stepper.optimizer), params_of(stepper))
        try:
            found: Checkpoint = samestep.checkpoint(rule, stepper.values, stepper.state)
        except CheckpointError as error:
            if "step=" not in str(error):
                raise
            adapter = import_module("samestep.jax")
            return adapter.from_optax(rule, stepper.values, stepper.state, step=self.taken)
        return found

    def restore(self, saved: Checkpoint, taken: int) -> None:
        """Go on from a checkpoint."""
        stepper, self.taken = self.stepper, taken
        if self.case.like == "optax":
            adapter = import_module("samestep.jax")
            stepper.state = adapter.to_optax(saved, stepper.state, stepper.values)
            stepper.values = adapter.to_optax_params(saved, stepper.values)
            return
        new = samestep.restore(bare(stepper.optimizer), saved, params_of(stepper))
        if self.case.like == "mlx":
            stepper.values = new
        if hasattr(stepper, "taken"):
            stepper.taken = taken


def bare(optimizer: Any) -> Any:
    """The optimizer of the library, without the context of its steps."""
    return getattr(optimizer, "base_optimizer", optimizer)


def params_of(stepper: Any) -> Any:
    return next(vars(stepper)[n] for n in ("tensors", "variables", "values") if n in vars(stepper))


@pytest.fixture(autouse=True)
def _precisely(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let every library hold float64, where that is the dtype."""
    dtype = getattr(request.node, "callspec", None)
    wide = dtype is None or dtype.params.get("dtype", "float64") == "float64"
    with ExitStack() as stack:
        if find_spec("jax"):
            stack.enter_context(import_module("jax").enable_x64(wide))
        if find_spec("mlx"):
            mx = import_module("mlx.core")
            stack.enter_context(mx.stream(mx.cpu))
        if find_spec("torch"):  # counts, and NAdam's product, are in the default dtype
            torch = import_module("torch")
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float64 if wide else torch.float32)
        if find_spec("keras"):
            import_module("samestep.keras.subject")
            config = import_module("keras").config
            stack.callback(config.set_floatx, config.floatx())
            config.set_floatx("float64" if wide else "float32")
        yield


def stepped(rule: Any, own: Any, state: Any, grads: Any) -> tuple[Any, Any, list[Any]]:
    """The rule's parameters and state after some steps, with snapshots of every one."""
    found = [nested({"param": own, **state.slots})]
    for step in grads:
        dtype = next(iter(own.values())).dtype
        own, state = rule.update({p: numpy.asarray(g, dtype) for p, g in step.items()}, own, state)
        found.append(nested({"param": own, **state.slots}))
    return own, state, found


def alike(case: Case, dtype: str, found: list[Any], expected: list[Any]) -> None:
    """The same parameters and state after every step, in float32 of the state in each array."""
    whole = case.rule.needs == "matrix"
    if dtype == "float64":
        agree(found, expected, 10 * case.peer.tolerance, whole=whole)
        return
    sums = case.values.get("centered") or case.peer.rule == "Adafactor"
    tolerance = SUMS if sums else FLOAT32
    agree(found, expected, 4 * tolerance, whole=True)
    for rows in (found, expected):
        rows[:] = [{key: row[key] for key in row if key[0] == "param"} for row in rows]
    agree(found, expected, tolerance, whole=whole)


def goes_over(case: Case, path: Path, dtype: str = "float64") -> tuple[Training, Any, Any, Any]:
    """A library's optimizer and the rule, which has taken its state over, after 40 steps."""
    theirs = Training(case, dtype)
    theirs.run(BEFORE)
    write(path, theirs.checkpoint())
    saved = read(path)
    furthest = max(saved.parameters.values(), key=lambda state: len(state.shape))  # says a layout
    rule = as_recorded(made(furthest.rule))
    blank = {p: numpy.zeros(v.shape, dtype) for p, v in theirs.trajectory.params.items()}
    own, state = samestep.load(path, rule, blank)
    assert state.step == BEFORE or rule.name in ("Muon", "SGD")  # torch's count none
    grads = theirs.trajectory.grads[BEFORE : BEFORE + AFTER]
    own, state, found = stepped(rule, own, state, grads)
    alike(case, dtype, found, theirs.run(AFTER))
    return theirs, rule, own, state


@pytest.mark.parametrize(("case", "dtype"), cases())
def test_a_rule_goes_on_where_a_library_stopped_and_back(
    case: Case, dtype: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    theirs, rule, own, state = goes_over(case, path, dtype)
    saved, again = read(path), theirs.another()
    again.restore(saved, BEFORE)
    expected, found = arrays(saved), arrays(again.checkpoint())
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype
        assert found[key].bits.tobytes() == tensor.bits.tobytes(), key
    samestep.save(path, rule, own, state)
    again.restore(read(path), BEFORE + AFTER)
    found, grads = again.run(AFTER), theirs.trajectory.grads[BEFORE + AFTER :][:AFTER]
    alike(case, dtype, found, stepped(rule, own, state, grads)[2])
    if dtype == "float64":
        agree(found, theirs.run(AFTER), 10 * case.peer.tolerance, "never stopped", whole=True)


def tables() -> Iterator[tuple[str, dict[str, Any]]]:
    """The correspondences of libraries whose optimizers are classes."""
    for like, module, name in (
        ("torch", "samestep.torch.tables", "TORCH"),
        ("keras", "samestep.keras.natives", "KERAS"),
        ("mlx", "samestep.mlx.natives", "MLX"),
    ):
        if find_spec(like):
            yield like, getattr(import_module(module), name)


PAIRED = [
    pytest.param(like, table, name, id=f"{like}-{name}")
    for like, table in tables()
    for name, native in table.items()
    if len(native.slots) > 1
]


@pytest.mark.parametrize(("like", "table", "name"), PAIRED)
def test_a_correspondence_with_two_slots_swapped_is_seen(
    like: str, table: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = table[name]
    case = next(c for c in FURTHEST[::-1] if (c.like, c.peer.rule) == (like, right.rule))
    (one, first), (other, second) = [*right.slots.items()][:2]
    swapped = replace(right, slots={**right.slots, one: second, other: first})
    monkeypatch.setitem(table, name, swapped)
    seen = pytest.raises((AssertionError, ValueError), match=r"differs|step|argument")
    with numpy.errstate(all="ignore"), seen:
        goes_over(case, tmp_path / "x.safetensors")


FAULTS = {
    "m and v are swapped": lambda s: {**s, "m": s["v"], "v": s["m"]},
    "m has the other sign": lambda s: {**s, "m": s["m"].reshaped(numpy.asarray(-s["m"].bits))},
    "v is corrected already": lambda s: {
        **s,
        "v": s["v"].reshaped(numpy.asarray(s["v"].bits / (1 - 0.9**BEFORE))),
    },
    "v_max is v": lambda s: {**s, "v_max": s["v"]},
    "the step is forgotten": 1,
    "the step is the next": BEFORE + 1,
}


def spoilt(saved: Checkpoint, fault: Any) -> Checkpoint:
    """The checkpoint with other slots, or another step."""
    change = partial(replace, step=fault)
    if callable(fault):
        change = lambda own: replace(own, slots=fault(own.slots))  # noqa: E731
    return replace(saved, parameters={path: change(own) for path, own in saved.parameters.items()})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("like", ["torch", "keras"])
@pytest.mark.parametrize("into", ["ours", "theirs"])
def test_a_conversion_with_a_fault_is_seen(fault: str, like: str, into: str) -> None:
    case = next(c for c in FURTHEST if (c.like, c.peer.rule) == (like, "AdamW"))
    theirs = Training(case, "float64")
    theirs.run(BEFORE)
    right = theirs.checkpoint()
    wrong, expected = spoilt(right, FAULTS[fault]), theirs.run(AFTER)
    for saved in (right, wrong):
        if into == "ours":
            rule = made(next(iter(saved.parameters.values())).rule)
            own, state = samestep.restore(rule, saved, theirs.trajectory.params)
            grads = theirs.trajectory.grads[BEFORE : BEFORE + AFTER]
            found = stepped(rule, own, state, grads)[2]
        else:
            again = theirs.another()
            again.restore(saved, BEFORE)
            found = again.run(AFTER)
        if saved is right:
            alike(case, "float64", found, expected)
            continue
        with pytest.raises(AssertionError, match="differs"):
            alike(case, "float64", found, expected)
