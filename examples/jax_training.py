"""A training loop in JAX: digits, a chain of optax with a schedule, one compiled step.

Run it with ``python jax_training.py``; the digits come with scikit-learn.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from samestep.jax import Adan
from samestep.schedules import CosineDecay

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)

hidden, output, batches = jax.random.split(jax.random.key(0), 3)
params = {
    "hidden": {"w": jax.random.normal(hidden, (64, 64)) * (2 / 64) ** 0.5, "b": jnp.zeros(64)},
    "output": {"w": jax.random.normal(output, (64, 10)) * (2 / 64) ** 0.5, "b": jnp.zeros(10)},
}
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    Adan(lr=CosineDecay(0.01, steps), weight_decay=0.02, mask=lambda p: p.ndim > 1),
)


def cross_entropy(params, images, labels):
    """The loss of a network with one hidden layer."""
    hidden = jax.nn.relu(images @ params["hidden"]["w"] + params["hidden"]["b"])
    logits = hidden @ params["output"]["w"] + params["output"]["b"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@jax.jit
def train(params, state, batch):
    """One step."""
    loss, grads = jax.value_and_grad(cross_entropy)(params, images[batch], labels[batch])
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


state = optimizer.init(params)
for step, key in enumerate(jax.random.split(batches, steps), 1):
    batch = jax.random.randint(key, (128,), 0, len(images))
    params, state, loss = train(params, state, batch)
    if step in (1, steps) or step % 20 == 0:
        print(f"step {step:4}  loss {loss:.4f}")
