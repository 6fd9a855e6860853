"""A training that goes from torch to JAX, to MLX and back is torch's all along.

In JAX a rule's ``update`` gives the parameters, with the bits of other frameworks. Where updates
are added, the change of a decayed parameter is rounded, and not the factor 1 - lr weight_decay.
"""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep import Map, Where, route
from samestep.parity import ulps
from tests.checkpoint.trained import STEPS, arrays, gradients

RULES = {
    "AdamW": lambda layout: samestep.AdamW(lr=1e-2, weight_decay=0.1),
    "Adafactor": lambda layout: samestep.Adafactor(weight_decay=0.1, axes="largest", momentum=0.9),
    "SM3": lambda layout: samestep.SM3(weight_decay=0.1),
    "LAMB": lambda layout: samestep.LAMB(lr=1e-2, weight_decay=0.1),
    "AdamP": lambda layout: samestep.AdamP(lr=1e-2, weight_decay=0.1, layout=layout),
    "TAdam": lambda layout: samestep.TAdam(lr=1e-2, weight_decay=0.1),
    "Muon": lambda layout: route(
        (Where(min_ndim=2), samestep.Muon(weight_decay=0.1, layout=layout)),
        samestep.NAdam(lr=1e-2),
    ),
    "around": lambda layout: samestep.ClipGlobalNorm(
        samestep.Lookahead(samestep.Adafactor(axes="largest", weight_decay=0.1)), max_norm=1.0
    ),
}
SIZES = {"conv2d.weight": (6, 3, 2, 5), "fc.weight": (5, 4), "fc.bias": (5,), "norm.weight": (4,)}
AXES = {
    "torch": {},
    "jax": {"conv2d.weight": (2, 3, 1, 0), "fc.weight": (1, 0)},
    "mlx": {"conv2d.weight": (0, 2, 3, 1)},
}
FLAX = {"conv2d.weight": "conv2d.kernel", "fc.weight": "fc.kernel", "norm.weight": "norm.scale"}


def laid_out(tree, framework):
    """By hand, from torch's names and shapes."""
    names, axes = FLAX if framework == "jax" else {}, AXES[framework]
    return {
        names.get(path, path): numpy.ascontiguousarray(
            array.transpose(axes.get(path, range(array.ndim))), dtype="float32"
        )
        for path, array in tree.items()
    }


def trained(framework, rule, params, start=None, steps=STEPS):
    """The checkpoint after some steps, from the start or from a checkpoint."""
    first = 0 if start is None else start.step
    given = [laid_out(gradients(params, step), framework) for step in range(first, first + steps)]
    tree = laid_out(params, framework)
    if framework == "torch":
        torch = pytest.importorskip("torch")
        named = {path: torch.nn.Parameter(torch.tensor(array)) for path, array in tree.items()}
        optimizer = samestep.torch.bind(rule, named.items())
        if start is not None:
            samestep.restore(optimizer, start, named)
        for grads in given:
            for path, grad in grads.items():
                named[path].grad = torch.tensor(grad)
            optimizer.step()
        return samestep.checkpoint(optimizer, named)
    if framework == "jax":
        jax = pytest.importorskip("jax")
        optimizer = samestep.jax.bind(rule)
        tree, state = samestep.restore(optimizer, start, jax.tree.map(jax.numpy.asarray, tree))
        for grads in given:
            tree, state = rule.update(jax.tree.map(jax.numpy.asarray, grads), tree, state)
        return samestep.checkpoint(optimizer, tree, state)
    mx = pytest.importorskip("mlx.core")
    optimizer = samestep.mlx.bind(rule)
    tree = samestep.restore(optimizer, start, {path: mx.array(a) for path, a in tree.items()})
    for grads in given:
        tree = optimizer.apply_gradients({path: mx.array(g) for path, g in grads.items()}, tree)
    return samestep.checkpoint(optimizer, tree)


@pytest.mark.parametrize("name", RULES)
def test_torch_then_jax_then_mlx_then_torch_is_torch_all_along(name):
    params, make = arrays(SIZES), RULES[name]
    begun = trained("torch", make("oi"), params)
    alone = trained("torch", make("oi"), params, steps=4 * STEPS)
    in_jax = trained("jax", make("io"), params, begun.mapped(Map.between("torch", "nnx")))
    in_mlx = trained("mlx", make("oi"), params, in_jax.mapped(Map.between("nnx", "mlx")))
    ended = trained("torch", make("oi"), params, in_mlx.mapped(Map.between("mlx", "torch")))
    assert ended.step == alone.step == 4 * STEPS
    for path, own in ended.parameters.items():
        wanted, found = alone.parameters[path].value.values(), own.value.values()
        scale = max(numpy.abs(wanted).max(), numpy.abs(params[path]).max())
        assert ulps(found, wanted, numpy.full(wanted.shape, scale), "float32").max() <= 8, path
