"""The names of parameters: without what wrappers of models add, and where there are none."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ADDED", "Place", "is_around", "unwrapped"]

ADDED = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_original_module",
)
"""What torch.compile, FSDP, activation checkpointing and Lightning's Fabric add to a name."""
AROUND = "module."
"""What DDP, DataParallel and AveragedModel add in front of every name."""


class Place(str):
    """The place of a parameter among all, which stands in messages for the name that it lacks."""

    __slots__ = ()


def unwrapped(names: Sequence[str], around: bool | None = None) -> list[str]:
    """The names of a model's parameters, without what wrappers have added.

    Args:
        names: the names.
        around: whether they are in a module of DDP, whose ``module.`` is dropped. By default they
            are if all names begin with it; so they do too if it is a model's only attribute.
    """
    own = [".".join(part for part in name.split(".") if part not in ADDED) for name in names]
    around = all(name.startswith(AROUND) for name in own) if around is None else around
    return [name.removeprefix(AROUND) for name in own] if around else own


def is_around(names: Sequence[str]) -> bool:
    """Whether a module of DDP, or one that names its model alike, is around all of a model."""
    return bool(names) and unwrapped(names) != unwrapped(names, around=False)
