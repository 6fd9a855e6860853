"""A rule on pieces of parameters, in simulated processes, beside the rule on whole parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy

from samestep import step as stepping
from samestep.counts import Histories, placed
from samestep.kept import kept_by, rule_of
from samestep.parity.backend import Snapshot
from samestep.placement import Cut, Mesh, Placement, chunks
from samestep.rule import Rule
from samestep.step import Entry

from .simulated import SECONDS, Rank, together

__all__ = ["Followed", "cut", "follow", "mesh_of", "on_ranks", "piece"]

Arrays = Mapping[str, Any]


def mesh_of(sizes: Sequence[int], rank: int, key: Any = "simulated") -> Mesh:
    """A mesh of simulated processes, as one of them sees it."""
    at = tuple(int(one) for one in numpy.unravel_index(rank, tuple(sizes)))
    return Mesh(key, tuple(sizes), at)


def cut(shape: Sequence[int], dims: Mapping[Any, Any], mesh: Mesh) -> Placement | None:
    """A placement; ``dims`` has the dimensions of the mesh that cut an axis, in their order.

    The bounds of an axis that is not cut in equal pieces are there, as ``("bounds", axis)``.
    """
    cuts: list[Cut | None] = [None] * len(shape)
    bounds = {key[1]: value for key, value in dims.items() if isinstance(key, tuple)}
    for axis, over in dims.items():
        if isinstance(axis, tuple):
            continue
        every = (over,) if isinstance(over, int) else tuple(over)
        count = int(numpy.prod([mesh.sizes[dim] for dim in every]))
        cuts[axis] = Cut(tuple(bounds.get(axis) or chunks(shape[axis], count)), every)
    return Placement(tuple(shape), tuple(cuts), mesh) if any(cuts) else None


def piece(array: Any, placement: Placement | None) -> Any:
    """The piece of a whole array that a process holds."""
    if placement is None:
        return array
    mesh = placement.mesh
    index = tuple(slice(None) if one is None else slice(*one.piece(mesh)) for one in placement.cuts)
    xp = array_api_compat.array_namespace(array)
    return xp.asarray(array[index], copy=True)


class Followed(NamedTuple):
    """Parameters, slots and shared state after some steps, whole, and what has been exchanged.

    ``counted``: the collectives by name. ``received``: the elements that each rank has got.
    """

    params: dict[str, Any]
    slots: dict[str, dict[str, Any]]
    shared: dict[str, Any]
    counted: Counter[str]
    received: list[int]

    def snapshot(self) -> Snapshot:
        """Parameters and state, as the parity kit names them."""
        found = {("param", path): numpy.asarray(array) for path, array in self.params.items()}
        for path, slots in self.slots.items():
            for name, value in slots.items():
                if isinstance(value, tuple):
                    parts = enumerate(value)
                    found |= {(f"{name}.{at}", path): numpy.asarray(part) for at, part in parts}
                else:
                    found[name, path] = numpy.asarray(value)
        return found | {(name, ""): numpy.asarray(value) for name, value in self.shared.items()}


class _Pieces:
    """The pieces of all parameters in one process."""

    def __init__(
        self,
        xp: Any,
        rule: Rule,
        params: Arrays,
        placements: Mapping[str, Placement | None],
        exchange: Rank | None,
    ) -> None:
        self.xp, self.rule, self.exchange = xp, rule, exchange
        self.placements = {path: placements.get(path) for path in params}
        self.own = {path: rule_of(rule, path, array) for path, array in params.items()}
        self.params = {path: piece(array, self.placements[path]) for path, array in params.items()}
        self.slots = {
            path: stepping.init_slots(self.own[path], xp, array, self.placements[path])
            for path, array in self.params.items()
        }
        self.shared = stepping.init_shared(rule, xp, [*self.params.values()])
        self.calls, self.missed = 0, dict[str, Any]()

    def step(self, grads: Arrays) -> None:
        """One step on whole gradients, of which a process takes its pieces."""
        paths = [*self.params]
        absent = [at for at, path in enumerate(paths) if path not in grads]
        histories = Histories(
            self.rule, range(len(paths)), absent, self.missed, placed(self.rule, paths)
        )
        steps = histories.steps(self.xp, self.calls, self.missed)
        entries = [
            Entry(
                self.own[path],
                steps(at),
                piece(grads[path], self.placements[path]),
                self.params[path],
                self.slots[path],
                kept_by(self.own[path], grads[path].ndim),
                placement=self.placements[path],
            )
            for at, path in enumerate(paths)
            if path in grads
        ]
        results, shared = stepping.run(self.xp, entries, self.shared, exchange=self.exchange)
        for path, (param, slots) in zip([p for p in paths if p in grads], results, strict=True):
            self.params[path], self.slots[path] = param, slots
        counted = self.calls, self.calls + 1
        self.missed = histories.later(self.xp, self.missed, counted, (self.shared, shared))
        self.shared, self.calls = shared, self.calls + 1


def follow(xp: Any, rule: Rule, params: Arrays, grads: Sequence[Arrays]) -> Iterator[Followed]:
    """Whole parameters before the first step and after each."""
    run = _Pieces(xp, rule, params, {}, None)
    for each in (None, *grads):
        with numpy.errstate(all="ignore"):
            if each is not None:
                run.step(each)
        yield Followed({**run.params}, {**run.slots}, run.shared, Counter(), [])


def on_ranks(
    xp: Any,
    rule: Rule,
    params: Arrays,
    grads: Sequence[Arrays],
    sizes: Sequence[int],
    cuts: Mapping[str, Any],
    key: Any = "simulated",
    seconds: float = SECONDS,
    kind: type[Rank] = Rank,
) -> Followed:
    """Parameters after some steps on pieces, put together; all copies have the same bits.

    Args:
        xp: array namespace.
        rule: the rule.
        params: whole parameters by path.
        grads: whole gradients by path, for each step.
        sizes: of the mesh.
        cuts: for each path the ``dims`` of ``cut``.
        key: of the mesh; all that is found about another key is found anew.
        seconds: how long a process waits for the others.
        kind: the class of a process.
    """

    def run(rank: Rank) -> Any:
        mesh = mesh_of(sizes, rank.rank, key)
        placements = {path: cut(params[path].shape, one, mesh) for path, one in cuts.items()}
        own = _Pieces(xp, rule, params, placements, rank)
        with numpy.errstate(all="ignore"):
            for each in grads:
                own.step(each)
        return own

    ranks, group = together(int(numpy.prod(sizes)), run, seconds, kind)
    first = ranks[0]
    found: dict[str, Any] = {}
    slots: dict[str, dict[str, Any]] = {}
    for path in params:
        found[path] = _joined([(r.params[path], r.placements[path]) for r in ranks])
        slots[path] = {}
        for name in first.slots[path]:
            own = first.own[path]
            places = [
                None if r.placements[path] is None else r.placements[path].slot(own, name)
                for r in ranks
            ]
            values = [r.slots[path][name] for r in ranks]
            if isinstance(values[0], tuple):
                several = []
                for at in range(len(values[0])):
                    pairs = [(v[at], p and p[at]) for v, p in zip(values, places, strict=True)]
                    several.append(_joined(pairs))
                slots[path][name] = tuple(several)
            else:
                slots[path][name] = _joined([*zip(values, places, strict=True)])
    shared = {name: _joined([(r.shared[name], None) for r in ranks]) for name in first.shared}
    return Followed(found, slots, shared, group.counted, group.received)


def _joined(pieces: Sequence[tuple[Any, Placement | None]]) -> numpy.ndarray:
    """A whole array of its pieces; copies must have the same bits, and cover all of it."""
    first = pieces[0][1]
    shape = tuple(pieces[0][0].shape) if first is None else first.shape
    one = numpy.asarray(pieces[0][0])
    found, written = numpy.zeros(shape, one.dtype), numpy.zeros(shape, bool)
    for array, placement in pieces:
        index: Any = ...
        if placement is not None:
            index = tuple(
                slice(None) if c is None else slice(*c.piece(placement.mesh))
                for c in placement.cuts
            )
        value = numpy.asarray(array)
        assert value.shape == found[index].shape, (value.shape, found[index].shape)
        before = found[index][written[index]]
        assert before.tobytes() == value[written[index]].tobytes(), "copies differ"
        found[index], written[index] = value, True
    assert written.all()
    return found
