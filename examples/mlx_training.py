"""A training loop in MLX: handwritten digits, Adan on a schedule, the whole step compiled.

python examples/mlx_training.py --steps 300
"""

import argparse
from functools import partial

import mlx.core as mx
from mlx import nn
from mlx.optimizers import clip_grad_norm
from sklearn.datasets import load_digits

from samestep.mlx import Adan
from samestep.schedules import warmup_cosine


def main(steps):
    """Train a small network, and print its accuracy on images that it has not seen."""
    mx.random.seed(0)
    images, labels = load_digits(return_X_y=True)
    images, labels = mx.array(images / 16, mx.float32), mx.array(labels)
    seen, unseen = slice(1500), slice(1500, None)

    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 10))
    schedule = warmup_cosine(peak=1e-2, warmup_steps=steps // 10, steps=steps)
    optimizer = Adan(lr=schedule, weight_decay=0.02, mask=lambda parameter: parameter.ndim > 1)
    optimizer.init(model.trainable_parameters())

    def loss(images, labels):
        return nn.losses.cross_entropy(model(images), labels, reduction="mean")

    state = [model.state, optimizer.state, mx.random.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(images, labels):
        value, grads = nn.value_and_grad(model, loss)(images, labels)
        grads, _ = clip_grad_norm(grads, 1.0)
        optimizer.update(model, grads)
        return value

    for taken in range(1, steps + 1):
        chosen = mx.random.randint(0, 1500, (128,))
        value = step(images[seen][chosen], labels[seen][chosen])
        mx.eval(value, state)
        if taken % max(1, steps // 5) == 0:
            right = mx.argmax(model(images[unseen]), axis=1) == labels[unseen]
            rate = optimizer.learning_rate.item()
            print(f"step {taken:4}  lr {rate:.5f}  loss {value.item():.3f}", end="  ")
            print(f"accuracy {right.mean().item():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
