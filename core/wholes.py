"""What is done with whole arrays: a function of one matrix, or the step of a parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .adding import Item
from .arrays import cast as cast_to
from .arrays import map_parts, parts, widest
from .bringing import brought
from .exchanges import Request, called
from .once import once
from .owners import Task
from .placement import Cut, Mesh, Part, Placement
from .shaping import EXCHANGED, seen, stacked

if TYPE_CHECKING:
    from .step import Entry

__all__ = ["Job", "answers", "is_local", "of_request", "of_step", "returned"]

Array = Any
Slots = dict[str, Any]


class Job(NamedTuple):
    """What an entry needs whole arrays for.

    Args:
        place, at: the places of the entry, and of the request in its plan.
        mesh: the processes.
        tasks: a task for each of stacked parameters.
        arrays: the pieces of their inputs that are here.
        perform: the outputs of a task.
        answer: makes of the pieces of all outputs what is put beside the slots.
        like: arrays of all dtypes that are sent.
        terms: where a whole function is executed, the terms of sums that it has returned.
    """

    place: int
    at: int
    mesh: Mesh
    tasks: tuple[Task, ...]
    arrays: list[list[Array]]
    perform: Callable[[int, list[Array]], list[Array]]
    answer: Callable[[list[list[Array]]], tuple[Array, ...]]
    like: list[Array]
    terms: Slots | None = None
    everywhere: bool = False


def answers(xp: Any, exchange: Any, jobs: Sequence[Job]) -> list[tuple[Array, ...]]:
    """What is put beside the slots of the entries of jobs, from two collectives for each mesh."""
    found: list[tuple[Array, ...]] = [()] * len(jobs)
    meshes: dict[Mesh, list[int]] = {}
    for place, job in enumerate(jobs):
        meshes.setdefault(job.mesh, []).append(place)
    for mesh, places in meshes.items():
        own = [jobs[place] for place in places]
        every = [(job, at) for job in own for at in range(len(job.tasks))]
        like = [array for job in own for array in job.like]
        wide = cast_to(xp, xp.reshape(like[0], (-1,))[:0], widest(xp, like))

        def perform(at: int, inputs: list[Array], every: Any = every) -> list[Array]:
            job, task = every[at]
            return cast("list[Array]", job.perform(task, inputs))

        pieces = iter(
            brought(
                xp,
                exchange,
                mesh,
                tuple(job.tasks[at] for job, at in every),
                [job.arrays[at] for job, at in every],
                perform,
                wide,
                any(job.everywhere for job in own),
            )
        )
        for place, job in zip(places, own, strict=True):
            found[place] = job.answer([next(pieces) for _ in job.tasks])
    return found


# A function of one whole array.


@lru_cache(maxsize=1024)
def _tasks(
    request: Request, cuts: tuple[tuple[int, Cut | None], ...], stack: int
) -> tuple[Task, ...]:
    """A task for each of the parameters that are stacked along axes of these sizes and cuts."""
    box, shape = request.parts, [math.prod(part.size for part in axis) for axis in request.axes]
    cost = math.prod(shape) * min(shape)
    places = product(range(stack), *(range(size) for size, _ in cuts))
    return tuple(
        Task(
            (box,),
            (box,),
            cost,
            tuple((cut, at) for at, (_, cut) in zip(place, cuts, strict=True) if cut is not None),
        )
        for _, *place in places
    )


def of_request(xp: Any, item: Item) -> Job:
    """The job of a request for a function of a whole array."""
    entry, request, piece = item.entry, item.request, item.partial
    placement: Any = entry.placement
    mesh, shape = placement.mesh, tuple(math.prod(p.size for p in a) for a in request.axes)
    batch = tuple((placement.shape[axis], placement.cuts[axis]) for axis in entry.kept.batch)
    stack = entry.param.shape[0] if entry.stacked else 1
    tasks = _tasks(request, batch, stack)
    here = [task.holds(mesh, mesh.at) for task in tasks]
    sizes = tuple(part.length(mesh) for part in request.parts)
    local = xp.reshape(piece, (sum(here), *sizes))
    held = iter(range(sum(here)))
    arrays = [[local[next(held), ...]] if one else [] for one in here]

    def perform(at: int, inputs: list[Array]) -> list[Array]:
        matrix = cast_to(xp, xp.reshape(inputs[0], shape), piece.dtype)
        return [xp.reshape(called(xp, request.call, matrix), inputs[0].shape)]

    def answer(outputs: list[list[Array]]) -> tuple[Array, ...]:
        found = [output[0] for output in outputs if output]
        if not found:
            return (piece,)
        return (cast_to(xp, xp.reshape(xp.stack(found), piece.shape), piece.dtype),)

    return Job(item.place, int(item.name), mesh, tasks, arrays, perform, answer, [piece])


# The step of a parameter.


def of_step(
    xp: Any,
    place: int,
    function: Callable[..., Any],
    entry: Entry,
    common: Mapping[str, Any],
    s: Any,
    vmap: Callable[..., Any] | None,
) -> Job:
    """The job of executing a function of an entry on whole arrays."""
    placement: Any = entry.placement
    local = is_local(function)
    slots = {n: v for n, v in entry.slots.items() if n != EXCHANGED and (local or n != "moved")}
    rest = {n: v for n, v in entry.slots.items() if n not in slots and n != EXCHANGED}
    places: list[Placement] = [placement, placement]
    olds: list[Array] = [entry.grad, entry.param]
    for name, value in (slots | rest).items():
        known = placement.slot(entry.rule, name) if name in entry.rule.slots() else placement
        places += known if isinstance(known, tuple) else [known] * len(parts(value))
        olds += parts(value)
    several = (Part(entry.param.shape[0]),) if entry.stacked else ()
    boxes = tuple((*several, *(part for axis in one.axes for part in axis)) for one in places)
    wholes = [(*(part.size for part in several), *one.shape) for one in places]
    count = sum(len(parts(value)) for value in slots.values())
    outputs = boxes[2 : 2 + count] if local else boxes[1 : 2 + count]
    like = olds[2 : 2 + count] if local else olds[1 : 2 + count]
    task = Task(boxes, outputs, math.prod(placement.shape) * min(placement.shape))
    sizes = [tuple(part.length(placement.mesh) for part in box) for box in boxes]
    arrays = [xp.reshape(old, size) for old, size in zip(olds, sizes, strict=True)]
    terms: Slots = {}

    def perform(at: int, inputs: list[Array]) -> list[Array]:
        given = iter(
            [
                cast_to(xp, xp.reshape(array, shape), old.dtype)
                for array, shape, old in zip(inputs, wholes, olds, strict=True)
            ]
        )
        grad, param = next(given), next(given)
        state = {n: map_parts(lambda _: next(given), v) for n, v in (slots | rest).items()}
        whole = seen(function, entry.kept, vmap)
        whole = stacked(whole, vmap) if entry.stacked else whole
        first, second = whole(xp, entry.rule.bare, grad, param, state, common, s)
        if local:
            terms.update(second)
        new = first if local else second
        results = [part for name in slots for part in parts(new.get(name, state[name]))]
        results = results if local else [first, *results]
        return [
            xp.reshape(result, tuple(part.size for part in box))
            for result, box in zip(results, outputs, strict=True)
        ]

    def answer(found: list[list[Array]]) -> tuple[Array, ...]:
        pieces = zip(found[0], like, strict=True)
        return tuple(cast_to(xp, xp.reshape(new, old.shape), old.dtype) for new, old in pieces)

    return Job(
        place, 0, placement.mesh, (task,), [arrays], perform, answer, olds, terms, everywhere=local
    )


@once
def returned(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes its results from what has been answered."""
    return partial(_returned, is_local(function))


def _returned(
    local: bool,
    xp: Any,
    rule: Any,
    grad: Array,
    param: Array,
    slots: Slots,
    common: Slots,
    s: Any,
) -> Any:
    found = iter(slots[EXCHANGED])
    first = None if local else next(found)
    new = {
        name: map_parts(lambda _: next(found), value)
        for name, value in slots.items()
        if name != EXCHANGED and (local or name != "moved")
    }
    new[EXCHANGED] = slots[EXCHANGED]
    return (new, {}) if local else (first, new)


def is_local(function: Callable[..., Any]) -> bool:
    """Whether a function is ``local``, which ``step`` gives its phase, and not a step."""
    return isinstance(function, partial)
