"""Flax NNX: a network with normalisation and dropout, ``nnx.Optimizer``, ``nnx.jit``.

Run it with ``python flax_nnx.py``; the digits come with scikit-learn.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from samestep.jax import Adan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)


class Network(nnx.Module):
    """One hidden layer."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.norm = nnx.BatchNorm(64, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def cross_entropy(model, images, labels):
    """The loss on a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def train(model, optimizer, batch):
    """One step, in place."""
    loss, grads = nnx.value_and_grad(cross_entropy)(model, images[batch], labels[batch])
    optimizer.update(model, grads)
    return loss


model = Network(nnx.Rngs(0))
adan = Adan(lr=0.005, weight_decay=0.02, mask=lambda parameter: parameter.ndim > 1)
optimizer = nnx.Optimizer(model, adan, wrt=nnx.Param)
for step, key in enumerate(jax.random.split(jax.random.key(0), steps), 1):
    loss = train(model, optimizer, jax.random.randint(key, (128,), 0, len(images)))
    if step in (1, steps) or step % 20 == 0:
        print(f"step {step:4}  loss {loss:.4f}")
