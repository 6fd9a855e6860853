"""State dtypes by slot."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import samestep
from samestep import AdamW, AdEMAMix, Lookahead
from samestep.conformance.harness.refusals import refusals
from samestep.conformance.rules.test_groups import SHAPES, TRAJECTORY, run
from tests.core.test_groups import torch_params, torch_train, tree

narrow = pytest.mark.only(where=lambda backend: "bfloat16" in backend.dtypes)


def dtypes(running):
    """The dtypes of every slot, of all its parameters."""
    return {
        slot: {str(value.dtype).rpartition(".")[2] for value in by_path.values()}
        for slot, by_path in running.slots().items()
    }


@narrow
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_slot_keeps_its_own_dtype_and_others_the_parameter_s(backend, wrapped):
    rule = AdamW(state_dtype={"m": "bfloat16"})
    rule = Lookahead(rule) if wrapped else rule
    rest = {"v": {"float32"}, **({"slow": {"float32"}} if wrapped else {})}
    running = backend.start(rule, TRAJECTORY.rounded("float32").params, "float32")
    assert dtypes(running) == {"m": {"bfloat16"}, **rest}
    for grads in TRAJECTORY.rounded("float32").grads:
        running.step(grads)
        assert dtypes(running) == {"m": {"bfloat16"}, **rest}


@narrow
def test_a_narrow_slot_is_rounded_once_a_step_and_no_other_is(backend):
    """Against float32 throughout: m differs by half a unit of bfloat16, v not at all."""
    wide, narrow = (
        run(AdamW(state_dtype=kind), backend, TRAJECTORY) for kind in (None, {"m": "bfloat16"})
    )
    for ours, theirs in zip(narrow[:2], wide, strict=False):
        for path in SHAPES:
            np.testing.assert_array_equal(ours["v", path], theirs["v", path])
            np.testing.assert_array_equal(ours["param", path], theirs["param", path])
            np.testing.assert_allclose(ours["m", path], theirs["m", path], rtol=2**-8)
    assert any((narrow[1]["m", path] != wide[1]["m", path]).any() for path in SHAPES)


@refusals(
    """
    >>> AdamW(state_dtype={'m': 'bfloat16', 'q': 'bfloat16'})
    ValueError: AdamW(state_dtype={'m': 'bfloat16', 'q': 'bfloat16'}): there is no slot q; AdamW
    keeps m, v
    >>> AdamW(state_dtype={'m': 'int8'})
    ValueError: AdamW(state_dtype={'m': 'int8'}): the dtype of slot m must be one of None
    >>> AdamW(state_dtype='')
    ValueError: AdamW(state_dtype=''): state_dtype must be one of None
    >>> AdamW(state_dtype=[])
    ValueError: AdamW(state_dtype=[]): state_dtype must be one of None
    >>> AdamW(state_dtype='half')
    ValueError: AdamW(state_dtype='half'): state_dtype must be one of None
    >>> SignSGD(state_dtype={'m': 'float32'})
    ValueError: SignSGD(state_dtype={'m': 'float32'}): there is no slot m; SignSGD keeps none
    >>> Lookahead(AdamW()).replace(state_dtype={'p': 'float32'})
    ValueError: no slot p
    """
)
def test_an_unknown_slot_or_dtype_is_refused_by_name(refusal):
    assert refusal.message in refusal.said(vars(samestep))


def test_slots_that_are_switched_off_may_have_a_dtype():
    rule = AdamW(state_dtype={"v_max": "float32"})
    assert rule.replace(amsgrad=True).storage("v_max") == "float32" and rule.storage("m") is None


def test_a_dtype_by_slot_survives_torch_s_checkpoint():
    torch = pytest.importorskip("torch")
    named = torch_params(torch, SHAPES)
    optimizer = samestep.torch.AdamW(named, state_dtype={"m": "bfloat16"})
    torch_train(torch, optimizer, named)
    other = samestep.torch.AdamW(torch_params(torch, SHAPES), state_dtype={"m": "bfloat16"})
    other.load_state_dict(optimizer.state_dict())
    for state in other.state.values():
        assert (state["m"].dtype, state["v"].dtype) == (torch.bfloat16, torch.float32)


def test_ademamix_keeps_its_dtypes_under_scan():
    jax = pytest.importorskip("jax")
    rule = AdEMAMix(state_dtype={"m1": "bfloat16", "m2": "bfloat16"})
    optimizer, params = samestep.jax.bind(rule), tree(jax.numpy.asarray)
    state = optimizer.init(params)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(params, state, params)
        return (jax.tree.map(jax.numpy.add, params, updates), state), None

    (moved, last), _ = jax.lax.scan(step, (params, state), None, length=4)
    kinds = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, str(leaf.dtype)))
    assert kinds(last) == kinds(state) and kinds(moved) == kinds(params)
    slots = {name: {str(a.dtype) for a in jax.tree.leaves(v)} for name, v in last.slots.items()}
    assert slots == {"m1": {"bfloat16"}, "m2": {"bfloat16"}, "v": {"float32"}}
    assert int(last.step) == 4


@pytest.mark.parametrize("rule", [samestep.Prodigy(), samestep.DAdaptAdam()])
def test_values_that_float16_does_not_have_are_kept_in_float32(rule):
    """Products with the first estimate of a step size, 1e-6, and their squares."""
    found = []
    for own in (rule, rule.replace(state_dtype="float32"), rule.replace(state_dtype="float16")):
        param = np.full(3, 0.125, "float16")
        state = own.init(param)
        for _ in range(3):
            param, state = own.update(np.full(3, 0.5, "float16"), param, state)
        found.append([*param, *state.slots["m"], *state.slots["s"]])
    assert found[0] == found[2] == pytest.approx(found[1], rel=1e-3)
