"""Equinox: a module with functions among its leaves, ``eqx.filter_jit``, saved to a file.

Run it with ``python equinox_training.py``; the digits come with scikit-learn.
"""

import argparse
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from samestep.jax import Adan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)


def cross_entropy(model, images, labels):
    """The loss on a batch."""
    logits = jax.vmap(model)(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@eqx.filter_jit
def train(model, state, batch):
    """One step."""
    loss, grads = eqx.filter_value_and_grad(cross_entropy)(model, images[batch], labels[batch])
    updates, state = optimizer.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, loss


model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))
optimizer = Adan(lr=0.01, weight_decay=0.02, mask=lambda parameter: parameter.ndim > 1)
state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
for step, key in enumerate(jax.random.split(jax.random.key(1), steps), 1):
    batch = jax.random.randint(key, (128,), 0, len(images))
    model, state, loss = train(model, state, batch)
    if step in (1, steps) or step % 20 == 0:
        print(f"step {step:4}  loss {loss:.4f}")

with tempfile.TemporaryDirectory() as folder:
    eqx.tree_serialise_leaves(Path(folder) / "training.eqx", (model, state))
    model, state = eqx.tree_deserialise_leaves(Path(folder) / "training.eqx", (model, state))
