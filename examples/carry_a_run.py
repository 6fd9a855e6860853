"""One run in torch, JAX, MLX and torch again, and the same run in torch only."""

import argparse
import tempfile

import jax
import mlx.core as mx
import numpy
import optax
import torch

import samestep.jax
import samestep.mlx
import samestep.torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=100, help="in each of the four parts")
steps = parser.parse_args().steps

rule, random = samestep.Adan(lr=0.01, weight_decay=0.02), numpy.random.default_rng(0)
sizes = {"hidden": (8, 32), "bias": (32,), "output": (32, 1)}
start = {name: random.normal(0, 0.3, size).astype("float32") for name, size in sizes.items()}
inputs = random.normal(size=(4 * steps, 128, 8)).astype("float32")
batches = list(zip(inputs, numpy.sin(inputs[..., :1]) + inputs[..., 1:2], strict=True))
file = f"{tempfile.mkdtemp()}/run.safetensors"


def error(xp, params, x, y):
    """The mean squared error of a network with one hidden layer, in any library."""
    hidden = xp.tanh(x @ params["hidden"] + params["bias"])
    return ((hidden @ params["output"] - y) ** 2).mean()


def in_torch(first, last):
    """Train from one step to another; the state is in the file, unless it is the first step."""
    params = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    optimizer = samestep.torch.bind(rule, params.items())
    if first:
        samestep.load(file, optimizer, params)
    for step, (x, y) in enumerate(batches[first:last], first + 1):
        optimizer.zero_grad()
        loss = error(torch, params, torch.from_numpy(x), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        if step in (1, last):
            print(f"step {step:4}  torch loss {loss.item():.4f}")
    samestep.save(file, optimizer, params)
    return params


alone = in_torch(0, 4 * steps)
in_torch(0, steps)

optimizer = samestep.jax.bind(rule)
params, state = samestep.load(file, optimizer, jax.tree.map(jax.numpy.asarray, start))
gradient = jax.jit(jax.value_and_grad(lambda *given: error(jax.numpy, *given)))
for x, y in batches[steps : 2 * steps]:
    loss, grads = gradient(params, x, y)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)
samestep.save(file, optimizer, params, state)
print(f"step {2 * steps:4}  JAX   loss {loss:.4f}")

optimizer = samestep.mlx.bind(rule)
params = samestep.load(file, optimizer, {name: mx.array(value) for name, value in start.items()})
gradient = mx.value_and_grad(lambda *given: error(mx, *given))
for x, y in batches[2 * steps : 3 * steps]:
    loss, grads = gradient(params, mx.array(x), mx.array(y))
    params = optimizer.apply_gradients(grads, params)
    mx.eval(params, optimizer.state)
samestep.save(file, optimizer, params)
print(f"step {3 * steps:4}  MLX   loss {loss.item():.4f}")

carried = in_torch(3 * steps, 4 * steps)
apart = max((carried[name] - alone[name]).abs().max().item() for name in alone)
print(f"parameters are at most {apart:.1e} apart from those of torch alone")
