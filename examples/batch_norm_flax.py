"""Schedule-Free with BatchNorm in Flax NNX: statistics are gathered anew at the average.

Run it with ``python batch_norm_flax.py``; the digits come with scikit-learn.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from samestep.jax import ScheduleFreeAdamW, averaged

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)
seen, unseen = slice(1500), slice(1500, None)

rngs = nnx.Rngs(0)
norm = nnx.BatchNorm(64, rngs=rngs)
model = nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), norm, nnx.relu, nnx.Linear(64, 10, rngs=rngs))
schedule_free = ScheduleFreeAdamW(lr=0.01)
optimizer = nnx.Optimizer(model, schedule_free, wrt=nnx.Param)


def cross_entropy(model, images, labels):
    """The loss on a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
def train(model, optimizer, batch):
    """One step, in place."""
    optimizer.update(model, nnx.grad(cross_entropy)(model, images[batch], labels[batch]))


def at_the_average():
    """A copy with the averages, and with the statistics that belong to them."""
    evaluated, params = nnx.clone(model), nnx.as_pure(nnx.state(model, nnx.Param))
    averages = averaged(schedule_free.rule, params, nnx.as_pure(optimizer.opt_state))
    nnx.update(evaluated, averages)
    evaluated.train()
    for count, start in enumerate(range(0, 1500, 300), 1):
        evaluated.layers[1].momentum = 1 - 1 / count  # a plain average of all batches
        evaluated(images[start : start + 300])
    evaluated.eval()
    return evaluated


for step, key in enumerate(jax.random.split(jax.random.key(0), steps), 1):
    train(model, optimizer, jax.random.randint(key, (128,), 0, 1500))
    if step == 1 or step % max(1, steps // 3) == 0:
        loss = cross_entropy(at_the_average(), images[unseen], labels[unseen])
        print(f"step {step:4}  loss {loss:.4f}")
