"""What a sharded step sends, on paper: ``python -m samestep.benchmarks.communication``.

``N`` ranks hold ``1 / N`` of each parameter. A rank sends, in a step of numbers of ``b`` bytes:

    element         nothing
    sums            K b (N - 1)              K sums of a phase, of each rank to all others
    vectors         2 V b (N - 1) / N        V elements of factors, added by an all-reduce
    owner           2 P b (N - 1) / N^2      to the owners of P elements of matrices, and back
    gather          P b (N - 1) / N          of P elements of matrices, to every rank

In torch the first message of a step begins with a number by which ranks see that they step the
same, which is ``b (N - 1)`` more.

The mean over ranks is meant. The owner of a large matrix sends more of it than its share, so the
busiest rank counts: matrices go to the rank that has the least work so far, longest work first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = [
    "MODELS",
    "Link",
    "Model",
    "first",
    "gathered",
    "iterations",
    "owned",
    "owners",
    "summed",
    "table",
    "vectors",
]

FLOAT32 = 4
Matrix = tuple[int, int]


class Model(NamedTuple):
    """The parameters of a model."""

    hidden: tuple[Matrix, ...]
    """The matrices that Muon steps."""
    others: tuple[tuple[int, ...], ...]
    """Embeddings and norms."""

    @property
    def every(self) -> tuple[tuple[int, ...], ...]:
        """All shapes."""
        return (*self.hidden, *self.others)


def llama(layers: int, width: int, inner: int, keys: int, words: int = 32_000) -> Model:
    """A model of the Llama 2 family."""
    attention = ((width, width), (keys, width), (keys, width), (width, width))
    feedforward = ((inner, width), (inner, width), (width, inner))
    norms = ((width,),) * (2 * layers + 1)
    return Model((*attention, *feedforward) * layers, ((words, width), (words, width), *norms))


MODELS = {
    "7 B": llama(layers=32, width=4_096, inner=11_008, keys=4_096),
    "70 B": llama(layers=80, width=8_192, inner=28_672, keys=1_024),
}


class Link(NamedTuple):
    """What connects the ranks."""

    name: str
    bytes_per_second: float
    """Of one rank, in one direction."""
    seconds: float
    """Until a collective begins, and for each doubling of the ranks."""


NVLINK = Link("NVLink, 450 GB/s, 5 µs", 450e9, 5e-6)
ETHERNET = Link("Ethernet, 50 GB/s (400 Gb/s), 15 µs", 50e9, 15e-6)
IN_A_NODE = 8
FLOPS = 400e12
"""Operations that one device carries out in a second, of products of large matrices."""
ITERATIONS = 5


def summed(sums: int, ranks: int, size: int = FLOAT32) -> float:
    """Bytes that a rank sends so that all have the sums of a phase: one all-gather."""
    return sums * size * (ranks - 1)


def vectors(elements: int, ranks: int, size: int = FLOAT32) -> float:
    """Bytes that a rank sends so that all have the sums of long vectors: one all-reduce."""
    return 2 * elements * size * (ranks - 1) / ranks


def owned(elements: int, ranks: int, size: int = FLOAT32) -> float:
    """Bytes that a rank sends in the mean, to the owners and back: two all-to-alls."""
    return 2 * elements * size * (ranks - 1) / ranks**2


def gathered(elements: int, ranks: int, size: int = FLOAT32) -> float:
    """Bytes that a rank sends so that all have whole matrices: one all-gather."""
    return elements * size * (ranks - 1) / ranks


def first(ranks: int, size: int = FLOAT32) -> float:
    """Bytes that a rank sends by which all see that they step the same."""
    return size * (ranks - 1)


def iterations(shape: Matrix) -> float:
    """Operations of Newton-Schulz on a matrix."""
    short, long = sorted(shape)
    return ITERATIONS * (4 * short**2 * long + 2 * short**3)


def owners(matrices: Sequence[Matrix], ranks: int) -> list[list[Matrix]]:
    """The matrices of each rank: the longest work first, to the rank with the least so far."""
    work = [0.0] * ranks
    found: list[list[Matrix]] = [[] for _ in range(ranks)]
    for matrix in sorted(matrices, key=lambda m: math.prod(m) * min(m), reverse=True):
        rank = work.index(min(work))
        work[rank] += math.prod(matrix) * min(matrix)
        found[rank].append(matrix)
    return found


def busiest(matrices: Sequence[Matrix], ranks: int, size: int = FLOAT32) -> float:
    """Bytes that the rank sends that sends most, to the owners and back."""
    every = sum(map(math.prod, matrices)) / ranks
    own = max(sum(map(math.prod, each)) for each in owners(matrices, ranks))
    # Its part of what others own, and what it owns but its own part.
    return size * (every - own / ranks + own * (ranks - 1) / ranks)


def seconds(sent: float, collectives: int, ranks: int) -> float:
    """How long the collectives take."""
    link = NVLINK if ranks <= IN_A_NODE else ETHERNET
    return sent / link.bytes_per_second + collectives * link.seconds * math.log2(ranks)


def _rows(ranks: Sequence[int]) -> Iterator[list[str]]:
    for name, model in MODELS.items():
        count, matrices = len(model.every), model.hidden
        whole = sum(map(math.prod, matrices))
        columns = sum(shape[-1] for shape in model.every if len(shape) == 2)
        for n in ranks:
            work = max(sum(map(iterations, each)) for each in owners(matrices, n))
            kinds = {
                "LAMB": (summed(2 * count, n), 1),
                "Prodigy": (summed(2, n), 1),
                "Adafactor": (vectors(columns, n) + 2 * summed(count, n), 3),
                "Muon": (busiest(matrices, n), 2),
            }
            kinds = {k: (sent + first(n), count) for k, (sent, count) in kinds.items()}
            cells = [f"{_size(sent)}, {_time(seconds(sent, k, n))}" for sent, k in kinds.values()]
            gather = gathered(whole, n)
            cells.append(f"{_size(gather)}, {_time(seconds(gather, 1, n))}")
            alone = sum(map(iterations, matrices))
            yield [name, str(n), *cells, _time(work / FLOPS), _time(alone / FLOPS)]


def table(ranks: Sequence[int] = (8, 64, 256, 1024)) -> str:
    """Bytes and time of a step of one rank, as a Markdown table."""
    head = ["model", "ranks", "LAMB", "Prodigy", "Adafactor", "Muon, owners"]
    head += ["Muon, gathered", "products, owners", "products, gathered"]
    lines = [head, ["---", "---:", *["---"] * 7], *_rows(ranks)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _size(sent: float) -> str:
    return _scaled(sent, ("B", "kB", "MB", "GB"))


def _time(taken: float) -> str:
    return _scaled(taken * 1e6, ("µs", "ms", "s"))


def _scaled(value: float, units: Sequence[str]) -> str:
    """With the unit, of which each is a thousand times the one before."""
    place = min(int(math.log10(value) / 3), len(units) - 1)
    figure = float(f"{value / 1000**place:.2g}")
    return f"{figure:g} {units[place]}"


def main() -> None:
    """Print the table."""
    print(table())


if __name__ == "__main__":
    main()
