"""The modules of FSDP2, which hold gathered copies of parameters after a forward alone.

Nothing leads from a parameter to its module, and the modules are looked for among all that refer to
their classes. That takes some hundredths of a second, where there is such a class at all.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from .kernels import is_fake
from .pieces import piece

if TYPE_CHECKING:
    from .optimizer import RuleOptimizer

__all__ = ["refuse_freed", "refuse_gathered", "reshard"]

WAY_OUT = (
    "the gathered copy that FSDP2 holds after a forward; what is stepped are the pieces. Call "
    "model.reshard() before the optimizer is made"
)


def _modules() -> list[Any]:
    """The modules of ``fully_shard``."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    kinds = {*_below(fsdp.FSDPModule)} if hasattr(fsdp, "FSDPModule") else set()
    return [one for one in gc.get_referrers(*kinds) if type(one) in kinds] if kinds else []


def _below(kind: type) -> Iterator[type]:
    one: type
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def reshard() -> None:
    """Drop gathered copies, so that the next forward gathers what is written into the pieces."""
    for module in _modules():
        module.reshard()


def refuse_gathered(optimizer: RuleOptimizer) -> None:
    """Refuse a parameter that is no piece, and that FSDP2 will put another in the place of."""
    modules = _modules()
    before = {id(param) for module in modules for param in module.parameters()}
    if before.isdisjoint(map(id, optimizer._params())):
        return
    for module in modules:
        module.reshard()
    gone = before - {id(param) for module in modules for param in module.parameters()}
    for name, param in _named(optimizer):
        if id(param) in gone:
            raise ValueError(f"{optimizer.rule.name}: parameter {name!r} is {WAY_OUT}")


def refuse_freed(optimizer: RuleOptimizer) -> None:
    """Refuse a parameter whose memory has been freed, as a backward of FSDP2 does it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for name, param in _named(optimizer):
        local = piece(param.detach())
        if local.numel() and not (
            local.is_meta or is_fake(local) or local.untyped_storage().size()
        ):
            raise ValueError(
                f"{optimizer.rule.name}: parameter {name!r} has no memory; it may be {WAY_OUT}"
            )


def _named(optimizer: RuleOptimizer) -> Iterator[tuple[str, torch.Tensor]]:
    for group in optimizer.param_groups:
        yield from optimizer._named(group)
