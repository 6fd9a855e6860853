"""What faults show in the placement of the torch adapter: rules on DTensors, in four processes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import samestep
import samestep.torch as adapter
from samestep.checkpoints import read
from samestep.conformance.harness.ranks import RankError, Ranks
from samestep.conformance.harness.torch_training import gradient
from samestep.torch import exchange, pieces, placement, plan, sharded, slices

from .mechanical import faults_in
from .mutation import Fault, functions_of, planted
from .placement import named_fault as named

__all__ = ["WORLD", "faults_of_people", "mechanical", "shown"]

WORLD, STEPS, SECONDS = 4, 2, 20
MODULES = ("exchange", "pieces", "placement", "sharded", "shards", "slices")
RULES = ("LAMB", "Muon", "NAdam", "AdamW")
"""Sums, whole matrices, a slot that is a number, and nothing but elements."""
WAYS = {
    "rows": ((7, 5), 0, None),
    "empty": ((3, 4), 0, None),
    "columns": ((4, 6), 1, None),
    "turned": ((6, 4), 0, (2, 0, 3, 1)),
    "turned too": ((8, 4), 0, (2, 0, 3, 1)),
    "turned alone": ((6, 5), 0, (1, 3, 0, 2)),
    "copies": ((5, 4), 0, (2, 2)),
    "twice": ((7, 3), 0, "strided"),
}
"""Of a parameter the shape, the axis that is cut, and a mesh that is not a row of all processes."""


def _cut_by_hand(rank: int, way: str) -> tuple[Any, Any, Callable[[torch.Tensor], torch.Tensor]]:
    """A mesh, placements, and the piece of a whole tensor, as torch defines it."""
    from torch.distributed.device_mesh import DeviceMesh  # noqa: PLC0415  (in the ranks only)
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415
    from torch.distributed.tensor.placement_types import _StridedShard  # noqa: PLC0415

    _, axis, kind = WAYS[way]

    def chunk(whole: torch.Tensor, of: int, at: int) -> torch.Tensor:
        parts = whole.chunk(of, axis)
        return (parts[at] if at < len(parts) else whole.narrow(axis, 0, 0)).clone()

    square = [[0, 1], [2, 3]]
    if kind == (2, 2):
        own: Any = [Replicate(), Shard(axis)]
        return DeviceMesh("cpu", square), own, lambda whole: chunk(whole, 2, rank % 2)
    if kind == "strided":  # the second dimension has cut before the first
        own = [_StridedShard(axis, split_factor=2), Shard(axis)]
        mesh = DeviceMesh("cpu", square)
        return mesh, own, lambda whole: chunk(chunk(whole, 2, rank % 2), 2, rank // 2)
    order = [*(kind or range(WORLD))]
    mesh = DeviceMesh("cpu", order)
    return mesh, [Shard(axis)], lambda whole: chunk(whole, WORLD, order.index(rank))


class _Beside:
    """Pieces of parameters, and the whole ones of one process."""

    def __init__(self, rank: int, name: str) -> None:
        noise = torch.Generator().manual_seed(1)
        self.cuts = {way: _cut_by_hand(rank, way) for way in WAYS}
        kept: Any = {"dtype": torch.float64, "generator": noise}
        values = {way: torch.randn(shape, **kept) for way, (shape, *_) in WAYS.items()}
        self.wholes: dict[str, Any] = {
            way: torch.nn.Parameter(value) for way, value in values.items()
        }
        self.params = {
            way: torch.nn.Parameter(self.placed(way, value)) for way, value in values.items()
        }
        rule = getattr(samestep, name)()
        self.alone = adapter.bind(rule, self.wholes.items())
        self.own = adapter.bind(rule, self.params.items())

    def placed(self, way: str, whole: torch.Tensor) -> Any:
        """A DTensor of the pieces."""
        from torch.distributed.tensor import DTensor  # noqa: PLC0415

        mesh, placements, piece = self.cuts[way]
        form: Any = {"shape": whole.shape, "stride": whole.stride()}
        return DTensor.from_local(piece(whole), mesh, placements, run_check=False, **form)

    def step(self, at: int) -> None:
        """One step of both; a gradient is still to be added up, or placed otherwise."""
        from torch.distributed.tensor import DTensor, Partial  # noqa: PLC0415

        for place, (way, param) in enumerate(self.wholes.items()):
            param.grad = gradient(at, place, param)
            self.params[way].grad = self.placed(way, param.grad)
        mesh = self.cuts["rows"][0]
        share = self.wholes["rows"].grad / WORLD  # exact
        self.params["rows"].grad = DTensor.from_local(share, mesh, [Partial()])
        self.alone.step()
        self.own.step()

    def check(self, folder: Path) -> list[torch.Tensor]:
        """Compare values, state and a file of them with those of one process; all that is here."""
        found = []
        for way, param in self.params.items():
            piece, state = self.cuts[way][2], self.own.state[param]
            pairs: dict[str, Any] = {"": (param.detach(), self.wholes[way].detach())}
            pairs |= {n: (state[n], v) for n, v in self.alone.state[self.wholes[way]].items()}
            for name, (value, whole) in pairs.items():
                assert value.shape == whole.shape, (way, name)
                local = value.to_local() if value.ndim else value
                found.append(local.clone())
                torch.testing.assert_close(local, piece(whole) if whole.ndim else whole)
        samestep.save(folder / "own", self.own, self.params)
        samestep.load(folder / "own", self.own, self.params)
        if torch.distributed.get_rank() == 0:
            for path, saved in read(folder / "own").parameters.items():
                assert saved.value is not None
                value = torch.from_numpy(saved.value.values())
                torch.testing.assert_close(value, self.wholes[path].detach())
        return found

    def miss(self, rank: int) -> None:
        """A gradient that one process lacks is missed by all."""
        for way, param in self.wholes.items():
            lacks = (rank, way) == (1, "rows")
            self.params[way].grad = None if lacks else self.placed(way, param.grad)
        try:
            self.own.step()
        except ValueError as error:
            assert "step different parameters: 'rows' of shape (7, 5)" in str(error), error
        else:
            raise AssertionError("nothing is said of a gradient that one process lacks")


def _plain(rank: int, folder: Path) -> list[torch.Tensor]:
    """Slices of each process, and copies that share the work, beside one process."""
    group, found = torch.distributed.group.WORLD, []
    wholes: list[Any] = [torch.nn.Parameter(torch.linspace(-1, 1, 63, dtype=torch.float64))]
    cut = (23, 0, 30, 10)
    own = [torch.nn.Parameter(param.detach().split(cut)[rank].clone()) for param in wholes]
    matrices = [torch.randn(6, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    copies, others = ([torch.nn.Parameter(m.clone()) for m in matrices] for _ in range(2))
    optimizers = (
        adapter.Prodigy(wholes),
        adapter.Prodigy(own, reduce_over=group),
        adapter.Muon(copies, share_work=group),
        adapter.Muon(others),
    )
    for step in range(STEPS):
        wholes[0].grad = gradient(step, 0, wholes[0])
        own[0].grad = wholes[0].grad.split(cut)[rank].clone()
        for place, (one, other) in enumerate(zip(copies, others, strict=True)):
            one.grad, other.grad = (gradient(step, place, one) for _ in range(2))
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(own[0].detach(), wholes[0].detach().split(cut)[rank])
    for one, other in zip(copies, others, strict=True):
        torch.testing.assert_close(one, other)
        found.append(one.detach().clone())
    return [own[0].detach().clone(), *found]


def trial(rank: int) -> list[torch.Tensor]:
    """What a process has after some steps in all ways; an assertion fails where one is wrong."""
    found: list[torch.Tensor] = []
    said = [tempfile.mkdtemp() if rank == 0 else None]
    torch.distributed.broadcast_object_list(said, 0)
    folder = Path(str(said[0]))
    for name in RULES:
        run = _Beside(rank, name)
        for at in range(STEPS):
            run.step(at)
        found += run.check(folder)
        if name in ("LAMB", "Muon"):
            run.miss(rank)
    return found + _plain(rank, folder)


@cache
def _right(rank: int) -> list[torch.Tensor]:
    return trial(rank)


def _warm(rank: int) -> None:
    """Step without a fault, which takes longer the first time."""
    _right(rank)


def _shows(rank: int, make: str, at: int) -> str:
    """What a process sees of a fault that all have."""
    right, fault = _right(rank), getattr(sys.modules[__name__], make)()[at]
    for function in (sharded._boxes, sharded._group):
        function.cache_clear()
    try:
        with planted(fault):
            found = trial(rank)
    except Exception as error:  # a test of the suite that raises anything fails
        return f"caught: {type(error).__name__}: {error}"
    finally:
        sharded._boxes.cache_clear()
    same = len(found) == len(right) and all(map(torch.equal, found, right))
    return "equivalent" if same else "rounding"


def shown(ranks: Ranks, make: str, at: int) -> str:
    """What four processes see of a fault: the worst; one that waits for ever has seen it."""
    ranks.run(_warm)
    try:
        found: str = min(ranks.run(_shows, make, at, seconds=SECONDS))
    except RankError as error:
        return f"caught: {error}"
    return found


@cache
def mechanical() -> list[Fault]:
    """Every single fault of the mechanical kinds in the functions of placement."""
    modules = [import_module(f"samestep.torch.{name}") for name in MODULES]
    return [*faults_in([function for module in modules for function in functions_of(module)])]


@cache
def faults_of_people() -> list[Fault]:
    """The faults that people make when they place parameters."""
    return [*_of_people()]


def _of_people() -> Iterator[Fault]:
    group: Any = exchange._Group
    yield named(
        "a reduction is forgotten",
        group.gathered,
        "distributed.all_gather_single(A, B, **K) => A.copy_(B.repeat(len(self.order)))",
    )
    yield named(
        "a copy is taken for a piece",
        placement._cut,
        "getattr(P, 'dim', None) == A => getattr(P, 'dim', 0) == A",
    )
    yield named(
        "copies are pieces of a mesh of all", placement.everywhere, "tuple(M.shape) => (4,)"
    )
    yield named("the results of another owner", group.swapped, "self.order.index(P) => P")
    yield named("rows in the order of the group", group.gathered, "T[self.order] => T")
    yield named(
        "padding is kept",
        pieces.placed,
        "DTensor.from_local(A, M, P, **K) => DTensor.from_local(A, M, P, run_check=False)",
    )
    yield named(
        "a stale count of an empty piece",
        plan.Plan.__init__,
        "S.placements[id(M.param)] => S.placements[id(M.param)] if len(part) else None",
    )
    yield named(
        "what has cut before is forgotten",
        placement._cut,
        "getattr(P, 'split_factor', 1) => 1",
    )
    yield named(
        "everyone has the first piece", placement.everywhere, "M.get_coordinate() => (0,) * M.ndim"
    )
    yield named("a gradient is not added up", pieces.apart, "A.redistribute(M, P) => A")
    yield named("a slice is the whole", slices.sliced, "bounds[-1] => param.shape[0]")
    yield named("a file has one piece", sharded._boxes, "C.piece(M, P) => C.piece(M)")
    yield named("a mesh is not compared", exchange.Exchange._told, "G.differ(A if C else N) => C")
