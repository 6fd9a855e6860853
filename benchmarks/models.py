"""The shapes that are stepped: two networks, derived from their architecture, and plain lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "IMPORT",
    "MODELS",
    "QUICK",
    "SHARDED",
    "Model",
    "Shape",
    "elements",
    "gpt2_small",
    "llama",
    "resnet50",
]

Shape = tuple[int, ...]

IMPORT = "import"
"""The name, among the models, for importing samestep.torch and torch."""
SHARDED = "sharded"
"""The name, among the models, for DTensors on ranks of gloo."""
QUICK = "quick"


@dataclass(frozen=True)
class Model:
    """Lists of shapes, of one size or of growing sizes."""

    title: str
    sizes: Sequence[Sequence[Shape]]
    narrow: bool = False
    """Whether the model times the machinery, so that one rule in one dtype is enough."""
    rules: Sequence[str] = ()
    """The rules that are timed with it; all if empty."""
    device: str = ""
    """The kind of device that has room for it; empty for any."""


def elements(shapes: Sequence[Shape]) -> int:
    """The number of elements."""
    return sum(map(math.prod, shapes))


def gpt2_small(
    width: int = 768, layers: int = 12, vocabulary: int = 50257, context: int = 1024
) -> list[Shape]:
    """The parameters of GPT-2, whose output layer is the embedding."""

    def linear(inputs: int, outputs: int) -> list[Shape]:
        return [(inputs, outputs), (outputs,)]

    norm = [(width,), (width,)]
    attention = linear(width, 3 * width) + linear(width, width)
    perceptron = linear(width, 4 * width) + linear(4 * width, width)
    block = norm + attention + norm + perceptron
    return [(vocabulary, width), (context, width), *block * layers, *norm]


def resnet50(blocks: Sequence[int] = (3, 4, 6, 3), classes: int = 1000) -> list[Shape]:
    """The parameters of a ResNet of bottleneck blocks, 50 layers deep."""

    def convolution(inputs: int, outputs: int, kernel: int) -> list[Shape]:
        return [(outputs, inputs, kernel, kernel), (outputs,), (outputs,)]  # with its norm

    inputs = 64
    found = convolution(3, inputs, 7)
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for block in range(count):
            found += convolution(inputs, width, 1) + convolution(width, width, 3)
            found += convolution(width, 4 * width, 1)
            found += convolution(inputs, 4 * width, 1) if block == 0 else []
            inputs = 4 * width
    return [*found, (classes, inputs), (classes,)]


def llama(
    width: int = 4096, layers: int = 32, inner: int = 11008, vocabulary: int = 32000
) -> list[Shape]:
    """The parameters of LLaMA, 7 billion with these sizes."""
    attention = [(width, width)] * 4
    perceptron = [(inner, width), (inner, width), (width, inner)]
    block = [(width,), *attention, (width,), *perceptron]
    return [(vocabulary, width), *block * layers, (width,), (vocabulary, width)]


STREAMED = ("AdamW", "Adan", "Lion", "AdEMAMix", "AdaBelief", "LAMB")
"""Rules whose speed on a large model should be limited by memory only."""

MODELS = {
    "gpt2": Model("GPT-2 small", [gpt2_small()], rules=STREAMED),
    "llama7b": Model("LLaMA 7 B", [llama()], rules=("AdamW",), device="gpu"),
    "resnet50": Model("ResNet-50", [resnet50()]),
    "small": Model("600 x (32x32)", [[(32, 32)] * 600]),
    "mixed": Model("12 x (512x512), 100 x (32x32)", [[(512, 512)] * 12 + [(32, 32)] * 100]),
    "large": Model("one of 50 M", [[(50_000_000,)]], rules=("AdamW", "Lion")),
    "tensors": Model(
        "n x (32x32)", [[(32, 32)] * n for n in (10, 30, 100, 300, 1000, 3000)], narrow=True
    ),
    "elements": Model("one of n", [[(10**n,)] for n in (4, 5, 6, 7, 8)], narrow=True),
    "tiny": Model("3,000 x 4", [[(4,)] * 3000], narrow=True),
    IMPORT: Model("import", [], narrow=True),
    SHARDED: Model("100 x (64x64) on 2 ranks", [], narrow=True),
    QUICK: Model("20 x (32x32)", [[(32, 32)] * 20]),
}
"""By the name that ``--models`` takes; all but the last are timed by default."""
