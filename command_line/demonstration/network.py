"""The network: handwritten digits and one hidden layer, the same numbers for every framework.

``loss`` is written once against the Array API and differentiated by each library itself. NumPy
differentiates nothing, so its gradient is written out in ``backpropagation``.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

import numpy
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # ships no types
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

__all__ = ["Arrays", "Problem", "accuracy", "backpropagation", "loss", "problem"]

Arrays = dict[str, numpy.ndarray]

INPUTS, HIDDEN, CLASSES = 64, 64, 10
BATCH = 128
TEST_IMAGES = 360


class Problem(NamedTuple):
    """The input of every framework: initial parameters, one batch per step, and a test set."""

    params: Arrays
    batches: list[tuple[numpy.ndarray, numpy.ndarray]]
    """Images and one-hot labels."""
    test: tuple[numpy.ndarray, numpy.ndarray]


def problem(steps: int, seed: int = 0) -> Problem:
    """The digits that ship with scikit-learn, split, shuffled and batched; all in float32."""
    digits = load_digits()
    images = (digits.data / 16).astype(numpy.float32)
    labels = numpy.eye(CLASSES, dtype=numpy.float32)[digits.target]
    images, test_images, labels, test_labels = train_test_split(
        images, labels, test_size=TEST_IMAGES, random_state=seed, stratify=digits.target
    )
    rng = numpy.random.default_rng(seed)
    params = initial_parameters(rng)

    def batches() -> Any:
        while True:
            order = rng.permutation(len(images))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                batch = order[start : start + BATCH]
                yield images[batch], labels[batch]

    return Problem(params, list(islice(batches(), steps)), (test_images, test_labels))


def initial_parameters(rng: numpy.random.Generator) -> Arrays:
    """Normal weights scaled by the number of inputs, and zero biases."""
    params = {}
    for layer, inputs, outputs in (("hidden", INPUTS, HIDDEN), ("output", HIDDEN, CLASSES)):
        weight = rng.standard_normal((inputs, outputs)) * (2 / inputs) ** 0.5
        params[f"{layer}.weight"] = weight.astype(numpy.float32)
        params[f"{layer}.bias"] = numpy.zeros(outputs, numpy.float32)
    return params


def logits(xp: Any, params: Any, images: Any) -> Any:
    """The network's output before softmax."""
    hidden = xp.maximum(xp.matmul(images, params["hidden.weight"]) + params["hidden.bias"], 0.0)
    return xp.matmul(hidden, params["output.weight"]) + params["output.bias"]


def loss(xp: Any, params: Any, images: Any, labels: Any) -> Any:
    """Mean cross-entropy of a batch, in any array library."""
    z = logits(xp, params, images)
    z = z - xp.max(z, axis=-1, keepdims=True)
    log_softmax = z - xp.log(xp.sum(xp.exp(z), axis=-1, keepdims=True))
    return -xp.sum(labels * log_softmax) / images.shape[0]


def backpropagation(
    params: Arrays, images: numpy.ndarray, labels: numpy.ndarray
) -> tuple[float, Arrays]:
    """The loss and its gradient in NumPy, by hand."""
    hidden = numpy.maximum(images @ params["hidden.weight"] + params["hidden.bias"], 0)
    z = hidden @ params["output.weight"] + params["output.bias"]
    exp = numpy.exp(z - z.max(axis=-1, keepdims=True))
    softmax = exp / exp.sum(axis=-1, keepdims=True)
    d_z = (softmax - labels) / numpy.float32(len(images))
    d_hidden = (d_z @ params["output.weight"].T) * (hidden > 0)
    return float(loss(numpy, params, images, labels)), {
        "hidden.weight": images.T @ d_hidden,
        "hidden.bias": d_hidden.sum(axis=0),
        "output.weight": hidden.T @ d_z,
        "output.bias": d_z.sum(axis=0),
    }


def accuracy(params: Arrays, images: numpy.ndarray, labels: numpy.ndarray) -> float:
    """The fraction of images classified correctly, computed in NumPy."""
    predicted = logits(numpy, params, images).argmax(axis=-1)
    return float((predicted == labels.argmax(axis=-1)).mean())
