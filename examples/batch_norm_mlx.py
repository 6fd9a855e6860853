"""Schedule-Free with BatchNorm in MLX: its means and variances are gathered anew at the average.

python examples/batch_norm_mlx.py --steps 200
"""

import argparse

import mlx.core as mx
from mlx import nn
from sklearn.datasets import load_digits

import samestep
from samestep.mlx import ScheduleFreeAdamW

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = mx.array(images / 16, mx.float32), mx.array(labels)
seen, unseen = slice(1500), slice(1500, None)

mx.random.seed(0)
model, evaluated = (
    nn.Sequential(nn.Linear(64, 64), nn.BatchNorm(64), nn.ReLU(), nn.Linear(64, 10))
    for _ in range(2)
)
optimizer = ScheduleFreeAdamW(lr=0.01)
optimizer.init(model.trainable_parameters())


def cross_entropy(model, images, labels):
    """The loss on a batch."""
    return nn.losses.cross_entropy(model(images), labels, reduction="mean")


def at_the_average():
    """The other model, with the averages, and with the statistics that belong to them."""
    params = model.trainable_parameters()
    evaluated.update(samestep.averaged(optimizer.rule, params, optimizer.state))
    evaluated.train()
    for count, start in enumerate(range(0, 1500, 300), 1):
        evaluated.layers[1].momentum = 1 / count  # a plain average of all batches
        evaluated(images[start : start + 300])
    return evaluated.eval()


step = nn.value_and_grad(model, cross_entropy)
for taken in range(1, steps + 1):
    batch = mx.random.randint(0, 1500, (128,))
    _, grads = step(model, images[seen][batch], labels[seen][batch])
    optimizer.update(model, grads)
    mx.eval(model.state, optimizer.state)
    if taken == 1 or taken % max(1, steps // 3) == 0:
        loss = cross_entropy(at_the_average(), images[unseen], labels[unseen])
        print(f"step {taken:4}  loss {loss.item():.4f}")
