"""Which collectives are run, and how many bytes each makes a rank send.

    with collectives.counted() as found:  # torch.distributed, DTensor, functional collectives
        optimizer.step()
    found = collectives.compiled(jax.jit(step).lower(*arguments).compile())  # XLA
    collectives.sent(found), collectives.names(found)

Bytes are those of a ring, of one rank: an all-gather of ``n`` bytes in all sends ``n (N - 1) / N``,
a reduce-scatter too, an all-reduce sends twice as many, and an all-to-all sends all but the rank's
own part.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

__all__ = ["Collective", "compiled", "counted", "names", "sent"]


class Collective(NamedTuple):
    """One that was run, or that a compiled program has."""

    name: str
    """``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all``, ``broadcast``, ..."""
    world: int
    """The number of ranks that take part."""
    sent: float
    """Bytes that one rank sends."""


def names(found: Iterable[Collective]) -> dict[str, int]:
    """How many there are of each name."""
    return dict(Counter(each.name for each in found))


def sent(found: Iterable[Collective]) -> float:
    """Bytes that one rank sends in all of them."""
    return sum(each.sent for each in found)


# torch

SPELLINGS = {
    "all_reduce": ("allreduce", "all_reduce"),
    "reduce_scatter": ("reduce_scatter",),
    "all_gather": ("allgather", "all_gather"),
    "all_to_all": ("alltoall", "all_to_all"),
}
"""How torch writes a name; others are called as torch calls them."""
FREE = ("wait_tensor", "_wrap_tensor_autograd", "check_for_nan")


@contextmanager
def counted() -> Iterator[list[Collective]]:
    """The collectives that this rank of torch runs."""
    from torch.distributed.tensor import DTensor  # noqa: PLC0415  (torch may not be there)
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC0415

    found: list[Collective] = []

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self,
            func: Any,
            types: Sequence[type],
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> Any:
            if any(issubclass(each, DTensor) for each in types):
                return NotImplemented  # it comes again, with the pieces
            if func.namespace in ("c10d", "_c10d_functional"):
                _note(found, func, args, kwargs or {})
            return func(*args, **(kwargs or {}))

    with Counting():  # type: ignore[no-untyped-call]
        yield found


def _note(
    found: list[Collective], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    own: str = func.overloadpacket.__name__
    if own in FREE:
        return
    given = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)}
    given |= kwargs
    name = next((n for n, texts in SPELLINGS.items() if any(t in own for t in texts)), own)
    rank, world = _group(given)
    read = _bytes(given.get("input_tensors", given.get("input_tensor", given.get("input"))))
    if name == "all_reduce":
        read = read or _bytes(given.get("tensors", given.get("inputs")))
        bytes_sent = 2 * read * (world - 1) / world
    elif name == "all_gather":
        bytes_sent = (read or _bytes(given.get("inputs"))) * (world - 1)
    elif name == "reduce_scatter":
        bytes_sent = (read or _bytes(given.get("inputs"))) * (world - 1) / world
    elif name == "all_to_all":
        splits = given.get("input_split_sizes")
        own_part = splits[rank] / sum(splits) if splits and sum(splits) else 1 / world
        bytes_sent = read * (1 - own_part)
    else:
        bytes_sent = read or _bytes(given.get("tensors"))
    found.append(Collective(name.strip("_"), world, bytes_sent))


def _group(given: dict[str, Any]) -> tuple[int, int]:
    """This rank in the group of a collective, and how many there are."""
    from torch.distributed import ProcessGroup, distributed_c10d  # noqa: PLC0415

    group: Any = given.get("process_group", given.get("group_name"))
    if isinstance(group, str):
        resolve: Any = getattr(distributed_c10d, "_resolve_process_group")  # noqa: B009 (untyped)
        group = resolve(group)
    elif not isinstance(group, ProcessGroup):
        group = ProcessGroup.unbox(group)
    return group.rank(), group.size()


def _bytes(value: torch.Tensor | Sequence[Any] | None) -> int:
    """Of a tensor, or of all in lists."""
    if value is None:
        return 0
    if isinstance(value, (list, tuple)):
        return sum(_bytes(each) for each in value)
    size: int = value.numel() * value.element_size()  # type: ignore[union-attr]
    return size


# XLA

OPERATION = re.compile(
    r"= (?P<type>.+?) (?P<name>all-reduce|all-gather|reduce-scatter|all-to-all"
    r"|collective-permute|collective-broadcast|ragged-all-to-all)(?:-start)?\((?P<rest>.*)"
)
ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")
GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\]|mesh\[(.*?)\] \{(.*?)\})")
AXIS = re.compile(r"'(\w+)'(?:=(\d+)|:\(\d+\)(\d+))?")


def compiled(program: Any) -> list[Collective]:
    """The collectives of what XLA has compiled; one in a loop counts once."""
    text = program if isinstance(program, str) else program.as_text()
    found = []
    for line in text.splitlines():
        operation = OPERATION.search(line)
        if operation is None:
            continue
        name, result = operation["name"].replace("-", "_"), operation["type"]
        if "-start(" in line and result.startswith("("):  # operands, then results
            arrays = ARRAY.findall(result)
            result = " ".join(f"{kind}[{shape}]" for kind, shape in arrays[len(arrays) // 2 :])
        size = sum(_size(kind, shape) for kind, shape in ARRAY.findall(result))
        world = 2 if name == "collective_permute" else _world(line)
        if world == 1:
            continue
        factor = {"all_reduce": 2 * (world - 1) / world, "reduce_scatter": world - 1.0}
        usual = 1.0 if name.startswith("collective") else (world - 1) / world
        found.append(Collective(name, world, size * factor.get(name, usual)))
    return found


def _world(line: str) -> int:
    """How many take part in each group of a collective of XLA."""
    groups = GROUPS.search(line)
    if groups is None:
        raise ValueError(f"the groups of this collective are written in an unknown way: {line}")
    listed, columns, axes, taken = groups.groups()
    if listed or columns:
        return len(listed.split(",")) if listed else int(columns)
    sizes = {name: int(size) for name, size, _ in AXIS.findall(axes)}
    return math.prod(int(part or sizes[name]) for name, _, part in AXIS.findall(taken))


def _size(kind: str, shape: str) -> float:
    """Bytes of an array, as XLA writes its type."""
    bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind) or 8)
    return bits / 8 * math.prod(int(side) for side in shape.split(",") if side)
