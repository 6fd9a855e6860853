"""Training and evaluation: which point of a rule is in the parameters.

While a model is evaluated, the parameters at which gradients are taken are in the state, as
``trained``. Coming back is exact, of a state that was saved and loaded too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep.arrays import listed
from samestep.averaging import evaluated
from samestep.kept import rule_of

from .counting import now
from .entries import slots_in
from .groups import GroupedOptimizer
from .kernels import real
from .pieces import is_spread
from .resharding import reshard

__all__ = ["EVALUATION", "POINT", "TRAINED", "Evaluating", "refuse_evaluating"]

TRAINED = "trained"
"""The entry of a parameter's state that has the parameter while a model is evaluated."""
POINT = "point"
"""The entry of all groups that says so, where a rule evaluates elsewhere than at the parameters."""
TRAINING, EVALUATION = "training", "evaluation"


class Evaluating(GroupedOptimizer):
    """An optimizer that puts the point of evaluation into the parameters, and takes it out."""

    @torch.no_grad()
    def eval(self) -> None:
        """Put the averages, or wherever else the rule evaluates, into the parameters.

        ``state_dict()`` has the mode, and training goes on exactly from it. No step is taken until
        ``train()``. Once the parameters are those of evaluation, nothing happens.

        Raises:
            ValueError: the rule evaluates at the parameters.
        """
        if not self.rule.has_point:
            raise ValueError(
                f"{self.rule!r}: a model is evaluated at its parameters, there is nothing else to "
                f"put into them; Average({self.rule.name}(...)) keeps an average, say"
            )
        found = [
            (param, state, evaluated(rule, xp, real(param), slots))
            for rule, param, state, slots in _averaged(self)
        ]
        self._reshard()
        for param, state, point in found:
            state[TRAINED] = param.detach().clone()
            real(param).copy_(point)
        for group in self.param_groups:
            group[POINT] = EVALUATION

    @torch.no_grad()
    def train(self) -> None:
        """Put the parameters at which gradients are taken back, exactly."""
        self._reshard()
        for group in self.param_groups:
            if POINT in group:
                group[POINT] = TRAINING
            for param in group["params"]:
                state = self.state.get(param) or {}
                if TRAINED in state:
                    param.copy_(state.pop(TRAINED))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; it says whether the model is evaluated, as the others do."""
        super().add_param_group(param_group)
        first = self.param_groups[0].get(POINT, TRAINING)
        for group in self.param_groups if self.rule.has_point else ():
            group.setdefault(POINT, first)

    def _reshard(self) -> None:
        """Let FSDP2 gather again what is written here: after a forward alone it has a copy."""
        if any(map(is_spread, self._params())):
            reshard()


def refuse_evaluating(optimizer: Evaluating) -> None:
    """Raise, since the parameters are those of evaluation."""
    raise RuntimeError(
        f"{optimizer.rule.name}: the model is being evaluated, and its parameters are not those at "
        "which gradients are to be taken; call optimizer.train() before the loss of a step is "
        "computed"
    )


def refuse_half_evaluated(optimizer: Evaluating, groups: list[Any], state: Any) -> None:
    """Refuse a state of evaluation that lacks the parameters at which gradients are taken.

    Of a flattened state, torch loads the entries of the optimizer's own states.
    """
    for group in groups if groups and groups[0].get(POINT) == EVALUATION else ():
        rule, lacking = optimizer._rule_of(group), []
        for name, param in zip(optimizer._named(group), group["params"], strict=True):
            own, one = rule_of(rule, name[0], param), state.get(param) or {}
            if own.has_point and TRAINED not in one and own.slots().keys() <= slots_in(one).keys():
                lacking.append(repr(str(name[0])))
        if lacking:
            raise ValueError(
                f"{optimizer.rule.name}: the state dict was saved while the model was evaluated, "
                f"and has no {TRAINED!r} of {listed(lacking)}, to go on from; nothing has been "
                "loaded. Save after optimizer.train(), or without flatten_optimizer_state_dict"
            )


def _averaged(optimizer: Any) -> Iterator[tuple[Any, torch.Tensor, Any, Any]]:
    """Of each parameter with a state and another point: rule, parameter, state and slots."""
    for group in optimizer.param_groups:
        rule = now(optimizer, optimizer._rule_of(group))
        for name, param in optimizer._named(group):
            own = rule_of(rule, name, param)
            state = optimizer.state.get(param) or {}
            slots = slots_in(state)
            if own.has_point and TRAINED not in state and own.slots().keys() <= slots.keys():
                yield own, param, state, {slot: slots[slot] for slot in own.slots()}
