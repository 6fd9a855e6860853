"""Steps inside ``jax.shard_map``, and the same steps of whole arrays."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import samestep
import samestep.jax as adapter
from samestep import Where
from samestep.rule import Rule
from samestep.vocabulary import hyper

from . import collectives
from .jax_trees import stepper

__all__ = ["apart", "assert_agreement", "each_need", "few_agree", "refused"]

SPEC: Any = jax.P
ONE = {"w": SPEC("x"), "u": SPEC(None, "x"), "n": SPEC(), "b": SPEC("x"), "c": SPEC()}
TWO = {
    "w": SPEC("x", "y"),
    "u": SPEC(None, ("y", "x")),
    "n": SPEC("y"),
    "b": SPEC(("x", "y")),
    "c": SPEC(),
}
SHAPES: dict[str, tuple[int, ...]] = {"w": (8, 12), "u": (4, 8), "n": (4, 3), "b": (8,), "c": (3,)}
RELATIVE = {"float32": 1e-6, "float64": 1e-14}
"""After twenty steps, of the largest value of an array."""


def arrays(rule: Rule, seed: int, dtype: str) -> dict[str, jax.Array]:
    """Arrays of either sign over four decades, a tenth of them zero."""
    random, found = np.random.default_rng(seed), {}
    for name, shape in SHAPES.items():
        values = random.standard_normal(shape) * 10.0 ** random.integers(-3, 1, shape)
        if len(shape) >= rule.min_ndim:
            found[name] = jnp.asarray(values * (random.random(shape) > 0.1), dtype)
    return found


def meshes() -> list[tuple[Any, dict[str, Any]]]:
    """A mesh of one axis and one of two, and specs of parameters there."""
    auto, devices = jax.sharding.AxisType.Auto, jax.devices()[:4]
    one = jax.make_mesh((4,), ("x",), axis_types=(auto,), devices=devices)
    two = jax.make_mesh((2, 2), ("x", "y"), axis_types=(auto, auto), devices=devices)
    return [(one, ONE), (two, TWO)]


def in_pieces(rule: Rule, mesh: Any, specs: Any, given: Any = None, check: bool = True) -> Any:
    """``init`` and a step inside ``shard_map``; ``given``: ``axis_name``, ``specs`` by default."""
    optimizer = adapter.bind(rule, axis_name=specs if given is None else given)
    params = arrays(rule, 0, "float32")
    state = adapter.bind(rule, axis_name=specs).specs(params)
    mapped = partial(jax.shard_map, mesh=mesh, check_vma=check)
    step = mapped(stepper(optimizer), in_specs=(specs, state, specs), out_specs=(specs, state))
    return jax.jit(mapped(optimizer.init, in_specs=(specs,), out_specs=state)), jax.jit(step)


def apart(one: Any, other: Any) -> float:
    """The largest difference, relative to the largest value of its array."""
    found = [0.0]
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        wide = [np.asarray(x, np.float64) for x in (a, b)]
        found.append(np.abs(wide[0] - wide[1]).max() / max(np.abs(wide[1]).max(), 1e-30))
    return max(found)


def assert_agreement(
    rule: Rule, dtype: str = "float64", steps: int = 20, check: bool = True, some: int = 2
) -> None:
    """Assert that steps in pieces are those of whole arrays; of an element rule to a rounding.

    XLA compiles each shape anew, and may take another instruction for a root or a quotient.
    """
    for mesh, every in meshes()[-some:]:
        whole = arrays(rule, 0, dtype)
        specs = {name: every[name] for name in whole}
        init, step = in_pieces(rule, mesh, specs, check=check)
        optimizer = adapter.bind(rule)
        alone, state = jax.jit(stepper(optimizer)), optimizer.init(whole)
        params, own = whole, init(whole)
        assert apart(own, state) == 0, rule
        for t in range(steps):
            grads = arrays(rule, 1 + t, dtype)
            whole, state = alone(whole, state, grads)
            params, own = step(params, own, grads)
        off = apart((params, own), (whole, state))
        rounding = float(np.finfo(dtype).eps)
        assert off <= (rounding if rule.needs == "element" else RELATIVE[dtype]), (rule, off)


class Multiplied(Rule, register=False):
    """A rule of somebody that writes a product of matrices as an operator."""

    needs, min_ndim, max_ndim = "matrix", 2, 2

    lr = hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        return grad @ xp.matrix_transpose(param) @ param, {}


def each_need() -> Rule:
    """A rule of parameters that need everything that can be needed."""
    return samestep.ClipGlobalNorm(
        samestep.route(
            (Where(path="w"), samestep.Muon(lr=0.02, layout="io", weight_decay=0.1)),
            (Where(path="u"), samestep.Adafactor(lr=0.01, momentum=0.9)),
            (Where(path="n"), samestep.SM3(lr=0.01)),
            (Where(path="b"), samestep.Cautious(samestep.LAMB(lr=0.01))),
            samestep.TAdam(lr=0.01),
        )
    )


def few_agree(folder: Path, _: Any) -> None:
    """Every need, on a mesh of two axes, and an element rule, which exchanges nothing."""
    assert_agreement(each_need(), steps=3, some=1)
    (mesh, specs), _ = meshes()
    rule = samestep.AdamW(lr=0.01, weight_decay=0.1)
    init, step = in_pieces(rule, mesh, specs)
    params = arrays(rule, 0, "float32")
    program = step.lower(params, init(params), params).compile()
    assert collectives.compiled(program) == []


def refused(folder: Path, _: Any) -> None:
    """What cannot be known is refused, and what is a whole on every device is not."""
    (one, specs), (two, _) = meshes()
    lamb, muon = samestep.LAMB(lr=0.01), samestep.Muon(lr=0.01, layout="io")

    def refuses(words: str, rule: Rule, given: Any, mesh: Any = one, check: bool = True) -> None:
        params = arrays(rule, 0, "float32")
        own = {name: specs[name] for name in params}
        optimizer = adapter.bind(rule, axis_name=given)
        state = adapter.bind(rule).init(params)
        mapped = jax.shard_map(
            lambda p: optimizer.update(p, state, p)[0],
            mesh=mesh,
            in_specs=(own,),
            out_specs=own,
            check_vma=check,
        )
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(mapped, params)

    refuses(r"LAMB: parameter 'b' is sharded over x inside jax.shard_map.*axis_name=", lamb, None)
    refuses(r"Muon: parameter 'u' is sharded over x.*along which.*in_specs", muon, "x")
    refuses(r"may be sharded or not.*check_vma=False.*in_specs", lamb, "x", check=False)
    refuses(r"'z', and z is no axis of jax.shard_map here; these are x", lamb, "z")
    refuses(r"no prefix of the parameters'", lamb, {"other": SPEC("x")})
    refuses(r"is sharded over x too", lamb, "y", mesh=two)
    for either in (samestep.AdamW(), lamb):  # slots may begin with the values of a parameter
        little = {**specs, "b": SPEC()}
        refuses(
            r"parameter 'b' is sharded over x too, which its .*P.* does not say", either, little
        )
    words = r"Multiplied: xp.matmul of a piece .* not brought together while a rule is executed"
    matrices = {name: specs[name] for name in arrays(muon, 0, "float32")}
    refuses(words, Multiplied(layout="io"), matrices)
    with pytest.raises(ValueError, match=r"LAMB\(axis_name='x'\).*in_specs of the parameters"):
        adapter.bind(lamb, axis_name="x").specs(arrays(lamb, 0, "float32"))
    params = arrays(lamb, 0, "float32")
    for rule, given in ((lamb, "x"), (samestep.Prodigy(), ("x",))):  # a name is enough for sums
        ends = []
        for said in (specs, given):
            init, step = in_pieces(rule, one, specs, said)
            ends.append(step(params, init(params), params))
        assert apart(*ends) == 0
    optimizer = adapter.bind(lamb)
    everywhere = jax.shard_map(
        lambda p: optimizer.update(p, optimizer.init(p), p)[0],
        mesh=one,
        in_specs=SPEC(),
        out_specs=SPEC(),
    )
    jax.eval_shape(everywhere, params)
