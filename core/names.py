"""The names of parameters: without what wrappers of models add, and where there are none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

__all__ = ["ADDED", "AROUND", "Place", "around", "counterparts", "dotted", "unwrapped"]

ADDED = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_original_module",
)
"""What torch.compile, FSDP, activation checkpointing and Lightning's Fabric add to a name."""
AROUND = "module"
"""What DDP, DataParallel and AveragedModel add in front of every name of what is in them."""


class Place(str):
    """The place of a parameter among all, which stands in messages for the name that it lacks."""

    __slots__ = ()


def dotted(path: Iterable[object]) -> str:
    """The names of a path joined by dots; the places in lists alone are no name."""
    keys = [*path]
    joined = ".".join(map(str, keys))
    return Place(joined) if keys and all(type(key) is int for key in keys) else joined


def unwrapped(names: Sequence[str], within: Collection[str] | None = None) -> list[str]:
    """The names of a model's parameters, without what wrappers have added.

    Args:
        names: the names.
        within: in front of which ``module`` it stands for DDP; by default ``around(names)``.
    """
    within = around(names) if within is None else within
    found = []
    for name in names:
        parts = _own(name)
        ends = [".".join(parts[:at]) for at in range(len(parts))]
        kept = [
            part
            for part, end in zip(parts, ends, strict=True)
            if part != AROUND or end not in within
        ]
        found.append(name if len(kept) == name.count(".") + 1 else ".".join(kept))
    return found


def around(names: Sequence[str]) -> frozenset[str]:
    """The paths of the modules of DDP: all names that begin with one go on with ``module``.

    So they do where ``module`` is the only attribute of a module that is not DDP's.
    """
    found: dict[str, bool] = {}
    every = [_own(name) for name in names]
    for parts in every:
        for at, part in enumerate(parts[:-1]):
            if part == AROUND:
                found[".".join(parts[:at])] = True
    for parts in every if found else ():
        for at, part in enumerate(parts):
            end = ".".join(parts[:at])
            if end in found and (part != AROUND or at == len(parts) - 1):
                found[end] = False
    return frozenset(end for end, alike in found.items() if alike)


def counterparts(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """The other name of each name that differs in what wrappers add alone; the rest is left out.

    Whether ``module`` is a wrapper's cannot be seen where some parameters of a model are not among
    the names. So names without it are one, where no name is the same and no second one is alike.
    """
    own, theirs = [*names], [*others]
    left = _by_rest(set(own) - set(theirs)), _by_rest(set(theirs) - set(own))
    return {left[0][rest]: left[1][rest] for rest in left[0].keys() & left[1].keys()}


def _by_rest(names: Iterable[str]) -> dict[str, str]:
    """Names by what is left of them without wrappers, those that are alike left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        *above, leaf = _own(name) or [name]
        found.setdefault(".".join((*(p for p in above if p != AROUND), leaf)), []).append(name)
    return {rest: several[0] for rest, several in found.items() if len(several) == 1}


def _own(name: str) -> list[str]:
    return [part for part in name.split(".") if part not in ADDED]
