"""A small GPT on the text of Python's documentation, with four rules, in PyTorch, JAX and MLX.

Every rule is written once, and so is the model: the losses of the three frameworks lie on top of
one another. ``python examples/gpt.py --picture losses.png`` draws them.
"""

import argparse
from functools import partial
from pydoc_data.topics import topics

import jax
import mlx.core as mx
import numpy
import optax
import torch
from matplotlib.figure import Figure

import samestep.jax
import samestep.mlx
import samestep.torch
from samestep import AdamW, Muon, NorMuon, ScheduleFreeAdamW, recipes

WIDTH, LAYERS, HEADS, LENGTH, BATCH = 64, 2, 4, 64, 16

text = "".join(topics.values())
letters = sorted({*text})
tokens = numpy.searchsorted(letters, [*text])


def parameters(random):
    """Matrices of (outputs, inputs), by name."""
    shapes = {"embed.letters": (len(letters), WIDTH), "embed.places": (LENGTH, WIDTH)}
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "o")}
        shapes |= {f"{block}.up.weight": (4 * WIDTH, WIDTH)}
        shapes |= {f"{block}.down.weight": (WIDTH, 4 * WIDTH)}
        shapes |= {f"{block}.{name}.scale": (WIDTH,) for name in ("before", "between")}
    shapes |= {"last.scale": (WIDTH,), "head.weight": (len(letters), WIDTH)}
    return {
        name: numpy.ones(shape, "float32")
        if len(shape) == 1
        else random.standard_normal(shape, "float32") / numpy.float32(shape[1] ** 0.5)
        for name, shape in shapes.items()
    }


def loss_of(xp, params, context, answers, past):
    """The cross entropy of the next letter; ``xp`` has softmax, logsumexp and sigmoid."""

    def normal(x, name):
        return x / ((x * x).mean(-1) + 1e-6)[..., None] ** 0.5 * params[f"{name}.scale"]

    def linear(x, name):
        return x @ params[f"{name}.weight"].T

    def heads(x):
        return x.reshape(BATCH, LENGTH, HEADS, WIDTH // HEADS).swapaxes(1, 2)

    x = params["embed.letters"][context] + params["embed.places"]
    for layer in range(LAYERS):
        block = f"blocks.{layer}"
        h = normal(x, f"{block}.before")
        q, k, v = (heads(linear(h, f"{block}.{name}")) for name in "qkv")
        attended = xp.softmax(q @ k.swapaxes(2, 3) * (WIDTH // HEADS) ** -0.5 + past, -1) @ v
        x = x + linear(attended.swapaxes(1, 2).reshape(BATCH, LENGTH, WIDTH), f"{block}.o")
        h = linear(normal(x, f"{block}.between"), f"{block}.up")
        x = x + linear(h * xp.sigmoid(1.702 * h), f"{block}.down")
    logits = linear(normal(x, "last"), "head")
    return (xp.logsumexp(logits, -1) - (logits * answers).sum(-1)).mean()


def batches(steps):
    """The same contexts and one-hot answers for every run."""
    random = numpy.random.default_rng(1)
    for _ in range(steps):
        where = random.integers(len(tokens) - LENGTH, size=(BATCH, 1)) + numpy.arange(LENGTH)
        yield tokens[where], numpy.eye(len(letters), dtype="float32")[tokens[where + 1]]


PAST = numpy.triu(numpy.full((LENGTH, LENGTH), -1e9, "float32"), 1)


def in_torch(rule, params, steps):
    """Train in PyTorch, and yield the losses."""
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in params.items()}
    optimizer = samestep.torch.bind(rule, tensors.items())
    for batch in batches(steps):
        loss = loss_of(torch, tensors, *map(torch.tensor, (*batch, PAST)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def in_jax(rule, params, steps):
    """Train in JAX, and yield the losses."""
    arrays = jax.tree.map(jax.numpy.asarray, params)
    optimizer = samestep.jax.bind(rule)
    state = optimizer.init(arrays)

    @jax.jit
    def step(arrays, state, *batch):
        loss, grads = jax.value_and_grad(partial(loss_of, jax.nn))(arrays, *batch)
        updates, state = optimizer.update(grads, state, arrays)
        return loss, optax.apply_updates(arrays, updates), state

    for batch in batches(steps):
        loss, arrays, state = step(arrays, state, *batch, PAST)
        yield loss.item()


def in_mlx(rule, params, steps):
    """Train in MLX, and yield the losses."""
    arrays = {name: mx.array(array) for name, array in params.items()}
    optimizer = samestep.mlx.bind(rule)
    for batch in batches(steps):
        loss, grads = mx.value_and_grad(partial(loss_of, mx))(
            arrays, *map(mx.array, (*batch, PAST))
        )
        arrays = optimizer.apply_gradients(grads, arrays)
        mx.eval(loss, arrays, optimizer.state)
        yield loss.item()


WEIGHTS = parameters(numpy.random.default_rng(0))
ADAMW = AdamW(lr=3e-3, weight_decay=0.1)
RULES = {
    "AdamW": ADAMW,
    "Muon": recipes.muon(WEIGHTS, Muon(lr=0.02, layout="oi"), ADAMW),
    "NorMuon": recipes.muon(WEIGHTS, NorMuon(lr=0.02, layout="oi"), ADAMW, show=False),
    "Schedule-Free": ScheduleFreeAdamW(lr=1e-2, weight_decay=0.1, warmup_steps=10),
}
FRAMEWORKS = {"torch": in_torch, "jax": in_jax, "mlx": in_mlx}


def draw(found, path):
    """A panel for each rule, and in it a line for each framework, the first one widest."""
    figure = Figure(figsize=(4 * len(RULES), 3.2), layout="constrained")
    panels = figure.subplots(1, len(RULES), sharey=True, squeeze=False)[0]
    for panel, (rule, losses) in zip(panels, found.items(), strict=True):
        styles = zip(FRAMEWORKS, (6, 3, 1), ("#fdba74", "#a78bfa", "#064e3b"), strict=True)
        for own, (name, width, colour) in zip(zip(*losses, strict=True), styles, strict=True):
            panel.plot(range(1, len(own) + 1), own, color=colour, linewidth=width, label=name)
        panel.set(title=rule, xlabel="step")
    panels[0].set_ylabel("loss, nats a letter")
    panels[-1].legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--picture", help="a file for a picture of the losses")
    given = parser.parse_args()
    found = {}
    for name, rule in RULES.items():
        runs = [train(rule, WEIGHTS, given.steps) for train in FRAMEWORKS.values()]
        for step, losses in enumerate(zip(*runs, strict=True), 1):
            found.setdefault(name, []).append(losses)
            if step in (1, given.steps) or step % 10 == 0:
                each = "  ".join(
                    f"{f} loss {x:.4f}" for f, x in zip(FRAMEWORKS, losses, strict=True)
                )
                print(f"{name:14} step {step:4}  {each}", flush=True)
        apart = max(max(losses) - min(losses) for losses in found[name])
        print(f"{name:14} the frameworks' losses are at most {apart:.1e} apart")
    if given.picture:
        draw(found, given.picture)
