"""Owners of whole arrays: balanced, the same for every process, and each piece goes once."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest

from samestep import owners
from samestep.owners import Task, buckets, elements, scheduled
from samestep.placement import Cut, Mesh, Part, chunks


def test_the_largest_task_goes_to_the_process_with_least_work():
    assert owners.owners([1, 8, 3, 5, 4], 2) == [1, 0, 0, 1, 1]  # 8 + 3 and 5 + 4 + 1
    assert owners.owners([2, 2, 2, 2], 4) == [0, 1, 2, 3]
    assert owners.owners([], 3) == []


def test_work_is_within_a_fifth_of_its_share():
    """The matrices of 12 layers of a transformer among 4 processes."""
    shapes = [(768, 768)] * 4 + [(768, 3072), (3072, 768)]
    costs = [m * n * min(m, n) for m, n in shapes * 12]
    owned = owners.owners(costs, 4)
    loads = [sum(c for c, own in zip(costs, owned, strict=True) if own == r) for r in range(4)]
    assert max(loads) <= 1.2 * sum(costs) / 4


def test_a_bucket_has_a_parameter_for_each_process(monkeypatch):
    monkeypatch.setattr(owners, "LIMIT", 10)
    work = [(cost, 15) for cost in (1, 9, 5, 7, 3)]
    assert buckets(work, 2) == [[1, 3], [2, 4], [0]]
    assert buckets([(1, 1)] * 30, 2) == [[*range(20)], [*range(20, 30)]]


BOXES = {
    "rows": (Part(7, Cut(chunks(7, 4), (0, 1))), Part(5)),
    "columns, copied": (Part(6), Part(8, Cut(chunks(8, 2), (1,)))),
    "both": (Part(5, Cut(chunks(5, 2), (1,))), Part(4, Cut((0, 4, 4), (0,)))),
    "whole": (Part(3), Part(2)),
    "stacked": (Part(4), Part(6, Cut(chunks(6, 2), (1,)))),
}
TASKS = tuple(
    Task((box,), (box,), math.prod(p.size for p in box), among)
    for name, box in BOXES.items()
    for among in ([((Cut((0, 2, 3), (0,)), at),) for at in range(3)] if name == "stacked" else [()])
)


@pytest.mark.parametrize("everywhere", [False, True])
def test_every_piece_goes_once_and_covers_the_array(everywhere):
    """What one process sends is what the other expects; all of a matrix comes to its owner."""
    meshes = [Mesh("m", (2, 2), at) for at in itertools.product(range(2), range(2))]
    plans = [scheduled(mesh, TASKS, everywhere) for mesh in meshes]
    for (one, sender), (two, getter) in itertools.product(enumerate(plans), enumerate(plans)):
        if not everywhere:
            assert sender.sent[two] == getter.received[one]
            assert sender.returned[two] == getter.back[one]
    owned = sorted(task for plan in plans for task in plan.owned)
    assert owned == sorted([*range(len(TASKS))] * (4 if everywhere else 1))
    for plan, mesh in zip(plans, meshes, strict=True):
        for task in plan.owned:
            (box,) = TASKS[task].inputs
            count = numpy.zeros([part.size for part in box], int)
            for rank, pieces in enumerate(plan.received):
                for place, _, own in pieces:
                    if place == task and TASKS[task].counts(box, meshes[rank].at, mesh.at):
                        count[tuple(slice(*bounds) for bounds in own)] += 1
            assert (count == 1).all()
            parts = [own for pieces in plan.returned for at, _, own in pieces if at == task]
            holders = sum(TASKS[task].holds(each, each.at) for each in meshes)
            assert len(parts) == holders and sum(map(elements, parts)) >= count.size
