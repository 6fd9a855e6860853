"""All pairs of optimizers of one name in different libraries, and of each with our dialect."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from multiprocessing import get_context

from samestep.parity import Comparison, SubjectError, compared
from samestep.parity.environment import environment

from . import peers
from .account import Account
from .peers import Group, Peer

__all__ = ["Cell", "Column", "Matrix", "Watch", "compare_all", "compare_pair"]

Watch = Callable[[int, str], None]
"""A function of the number of pairs and the title of a finished pair."""

PACKAGES = ("samestep", "numpy", "torch", "jax", "optax", "mlx", "keras")


@dataclass(frozen=True)
class Cell:
    """How two optimizers compare."""

    a: str
    b: str
    verdict: str
    """``agree``, ``differ``, or ``failed``."""
    options: tuple[str, ...] = ()
    """The options in which they differ; in float32, if they agree in float64."""
    sides: tuple[tuple[str, str, str], ...] = ()
    """The options, each with what either side does."""
    explained: bool = False
    sentences: tuple[str, ...] = ()
    """The differences in words; or why the two could not be compared."""
    dtype: str = ""
    ulp: float = 0.0
    """How far the parameters are apart at most, in ULP of the dtype."""
    distance: float = 0.0
    """The largest relative difference."""
    narrow: float | None = None
    """ULP of float32 at the step at which they part, if they agree in float64 only."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Column:
    """All of one name: how each pair compares, and how each compares with its dialect here."""

    name: str
    peers: tuple[Peer, ...]
    others: tuple[Peer, ...]
    cells: dict[tuple[str, str], Cell]
    """By the titles of the two."""
    dialects: tuple[Cell, ...]
    refused: tuple[str, ...] = ()
    """Optimizers that could not be stepped, and why."""

    @property
    def ours(self) -> str | None:
        """The title of our rule, if we have one."""
        return next((p.title for p in self.peers if p.library == peers.OURS), None)


@dataclass
class Matrix:
    """All names."""

    columns: list[Column]
    versions: dict[str, str]
    made: str
    """The day."""
    command: list[str]
    seconds: float = 0.0
    """The time of all comparisons, without imports."""
    modules: Sequence[str] = field(default_factory=tuple)
    """More that was compared with ours."""


def compare_all(
    only: Sequence[str] = (),
    others: Sequence[str] = (),
    command: Sequence[str] = (),
    watch: Watch = lambda count, title: None,
    processes: int | None = None,
) -> Matrix:
    """Compare every pair of every name, in two processes if there are two cores.

    Args:
        only: names to keep; all if empty.
        others: modules whose optimizers are compared with ours.
        command: the words that ask for this, for the record.
        watch: is called for every finished pair.
        processes: number of processes; at most 2 by default.

    Raises:
        SubjectError: a module does not exist, or there is nothing to compare.
    """
    count = processes or min(2, os.cpu_count() or 1)
    with _workers(count) as pool:
        found: list[Group] = pool.submit(peers.groups, others, only).result()
        if not found:
            names = f" called {', '.join(only)}" if only else ""
            raise SubjectError(f"no two libraries that are installed have an optimizer{names}")
        [*(f.result() for f in [pool.submit(_warm, others) for _ in range(count)])]
        before = time.perf_counter()
        asked = {pair: pool.submit(compare_pair, *pair) for pair in _pairs(found)}
        _watch(asked, watch)
        cells = {pair: future.result() for pair, future in asked.items()}
        seconds = time.perf_counter() - before
    columns = [_column(group, cells) for group in found]
    if not cells:
        reasons = " ".join(text for column in columns for text in column.refused)
        raise SubjectError(f"there is no pair that can be compared. {reasons}")
    roots = (module.partition(".")[0] for module in others)
    packages = dict.fromkeys([*PACKAGES, *map(_distribution, roots)])
    about = environment(packages)
    return Matrix(columns, about, date.today().isoformat(), [*command], seconds, tuple(others))


def _distribution(root: str) -> str:
    """The name under which a package is installed."""
    from importlib.metadata import packages_distributions  # noqa: PLC0415  (slow)

    return packages_distributions().get(root, [root])[0]


def _pairs(found: Iterable[Group]) -> Iterator[tuple[Peer, Peer]]:
    for group in found:
        yield from group.pairs
        yield from group.dialects


def _column(group: Group, cells: dict[tuple[Peer, Peer], Cell]) -> Column:
    inner = {(a.title, b.title): cells[a, b] for a, b in group.pairs}
    dialects = tuple(cells[pair] for pair in group.dialects)
    return Column(group.name, group.peers, group.others, inner, dialects, group.refused)


def _watch(asked: dict[tuple[Peer, Peer], Future[Cell]], watch: Watch) -> None:
    titles = {future: f"{a.title}, {b.title}" for (a, b), future in asked.items()}
    for future in as_completed(titles):
        watch(len(asked), titles[future])


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that import the libraries once; on an error, waiting work is dropped."""
    pool = ProcessPoolExecutor(count, get_context("spawn"), _begin)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """One thread, nothing on stdout, no warnings; an interrupt is for the parent."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")


@cache
def _warm(others: Sequence[str]) -> None:
    """Import all libraries, so that the import is not timed."""
    peers.groups(tuple(others))
    time.sleep(0.5)  # so that every process gets one of these


def compare_pair(a: Peer, b: Peer) -> Cell:
    """Compare two, and never fail."""
    before = time.perf_counter()
    try:
        found = compared(peers.made(a), peers.made(b))
    except SubjectError as error:
        return Cell(a.title, b.title, "failed", sentences=(str(error),))
    except Exception as error:
        text = f"the comparison failed with {type(error).__name__}: {error}"
        return Cell(a.title, b.title, "failed", sentences=(text,))
    return _cell(found, time.perf_counter() - before)


def _cell(found: Comparison, seconds: float) -> Cell:
    narrow = found.narrow if found.narrow is not None and found.narrow.first else None
    sides = Account(narrow or found).sides
    return Cell(
        found.a.name,
        found.b.name,
        found.verdict,
        tuple(side.option for side in sides),
        tuple((side.option, side.a, side.b) for side in sides),
        found.explained if narrow is None else narrow.explained,
        tuple(found.sentences),
        found.dtype,
        max(found.ulps),
        found.distance,
        narrow.ulps[narrow.first[0]] if narrow is not None and narrow.first else None,
        round(seconds, 2),
    )
