"""Muon for the hidden matrices, AdamW for everything else: one route for PyTorch and JAX."""

import argparse

import jax
import numpy
import optax
import torch
from sklearn.datasets import load_digits

import samestep.jax
import samestep.torch
from samestep import AdamW, Muon, Where

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=60)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = (images / 16).astype("float32"), numpy.eye(10, dtype="float32")[labels]
random, params = numpy.random.default_rng(0), {}
for name, shape in {"hidden.0": (64, 64), "hidden.1": (32, 64), "head": (10, 32)}.items():
    params[f"{name}.weight"] = (random.standard_normal(shape) / 8).astype("float32")
    params[f"{name}.bias"] = numpy.zeros(shape[0], "float32")

rule = samestep.route(
    (Where(path="hidden.*", min_ndim=2), Muon(lr=0.02, weight_decay=0.01)),
    (Where(max_ndim=1), AdamW(lr=0.003, weight_decay=0.0)),
    AdamW(lr=0.003, weight_decay=0.01),
)
print(rule.table(params))


def cross_entropy(xp, params, x, y):
    """The loss, in either library."""
    for name in ("hidden.0", "hidden.1", "head"):
        logits = x @ params[f"{name}.weight"].T + params[f"{name}.bias"]
        x = xp.tanh(logits)
    return -(y * (logits - xp.logsumexp(logits, -1)[:, None])).sum(-1).mean()


tensors = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
in_torch = samestep.torch.bind(rule, tensors.items())
arrays, in_jax = jax.tree.map(jax.numpy.asarray, params), samestep.jax.bind(rule)
state, update = in_jax.init(arrays), jax.jit(in_jax.update)
gradient = jax.jit(jax.value_and_grad(lambda p, x, y: cross_entropy(jax.nn, p, x, y)))
for step in range(1, steps + 1):
    batch = random.integers(len(images), size=128)
    x, y = images[batch], labels[batch]
    loss = cross_entropy(torch, tensors, torch.tensor(x), torch.tensor(y))
    in_torch.zero_grad()
    loss.backward()
    in_torch.step()
    loss_in_jax, grads = gradient(arrays, x, y)
    updates, state = update(grads, state, arrays)
    arrays = optax.apply_updates(arrays, updates)
    if step in (1, steps) or step % 20 == 0:
        print(f"step {step:4}  torch loss {loss.item():.4f}  jax loss {loss_in_jax:.4f}")
