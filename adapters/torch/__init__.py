"""samestep in PyTorch: every rule as a ``torch.optim.Optimizer``.

    from samestep.torch import Adan
    optimizer = Adan(model.parameters(), lr=1e-3)

Hyperparameters and options are in ``param_groups``, so groups may differ and learning-rate
schedulers work. State is made at a parameter's first gradient, with ``zeros_like``, and kept as
plain tensors in ``state[param]``: the rule's slots by name, and ``step``. State that all parameters
share (Prodigy's ``d``) is in every group. Results are written into the parameter in place;
``.grad`` is never changed. A complex parameter is stepped as its real and imaginary parts. Its
state has the same form, with an axis of two at the end. Inside ``torch.compile`` a step breaks the
graph, as a step of torch.optim does, and computes the same as outside.
"""

from __future__ import annotations

from typing import Any

import torch
from samestep import native
from samestep.rule import Rule

from .creating import create
from .natives import from_state_dict, into_state_dict
from .optimizer import EXECUTIONS, RuleOptimizer, bind
from .recording import recorder

__all__ = [
    "EXECUTIONS",
    "RuleOptimizer",
    "bind",
    "create",
    "from_state_dict",
    "into_state_dict",
    "recorder",
]


KEYWORDS = {
    "execution": "auto",
    "capturable": False,
    "differentiable": False,
    "reduce_over": None,
    "share_work": None,
}
"""Arguments of the classes in addition to the rule's own."""


def _ruled(rule: type[Rule], /, *args: Any, **kwargs: Any) -> Rule:
    for name in {"fused", "foreach"} & {*kwargs} - {*rule.fields()}:
        raise TypeError(
            f"{rule.__name__}({name}={kwargs[name]!r}): there is no {name}; execution= says how a "
            "step is executed: 'auto' (the default), 'compiled', 'packed' or 'reference'"
        )
    return rule(*map(_single, args), **{name: _single(value) for name, value in kwargs.items()})


def _single(value: Any) -> Any:
    """A 0-d view of a tensor of one element: torch.optim takes any shape."""
    return value.squeeze() if isinstance(value, torch.Tensor) else value


__getattr__, __dir__ = native.serve(
    __name__,
    RuleOptimizer,
    before=["params"],
    keywords=KEYWORDS,
    ruled=_ruled,
)
