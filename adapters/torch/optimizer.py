"""A rule as a ``torch.optim.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain, repeat
from operator import attrgetter, setitem
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep import step as stepping
from samestep.checkpoints.processes import Processes
from samestep.checkpoints.state import Checkpoint
from samestep.execution import EXECUTIONS, Execution, checked, say
from samestep.products import float32_products, multiplies
from samestep.rule import Rule
from samestep.spread import spread_of
from torch._compile import _disable_dynamo

from . import checkpoint as checkpoints
from . import kernels
from .aged import RECORD, unpickled, written_by
from .capture import Captured, capturing, refuse_uncounted, refuse_unplanned, warn_of_memory
from .checkpoint import Params
from .coefficients import Coefficients, conditional, scalars
from .counting import CALLS, calls_of, note
from .differentiating import advance_in_graph
from .members import check, members_of, shared_of, state_of
from .memory import release
from .modes import EVALUATION, POINT, Evaluating, refuse_evaluating
from .pieces import apart, is_spread, pieces
from .plan import Plan
from .resharding import refuse_freed, refuse_gathered
from .scaling import unscaled
from .sharded import processes_of
from .shards import Shards
from .slices import checked_group, refuse_parts, refuse_slices, warn_of_replaced
from .state_dict import as_mapping, is_called_by, loaded, settled
from .trial import totals, tried

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind"]

_EXECUTORS: dict[str, dict[str, Any]] = {
    "reference": {"kernel": kernels.reference, "enter": stepping.Record},
    "packed": {"kernel": kernels.packed, "enter": stepping.Record},
    "compiled": {"kernel": kernels.compiled},
}

_device = attrgetter("device")


class RuleOptimizer(Evaluating):
    """A rule as a ``torch.optim.Optimizer``; see ``bind``."""

    _calls: Any = None
    """The calls of ``step``, which schedules count; ``None`` is the most steps of a parameter."""
    _captured: Captured | None = None
    _plan: Plan | None
    reduce_over: Any = None
    share_work: Any = None
    _shards: Shards | None = None
    """The DTensors, of which the pieces of this process are stepped."""
    _tried: set[Any]
    _resolved: str | None

    def __init__(
        self,
        rule: Rule,
        params: Any,
        *,
        execution: Execution = "auto",
        capturable: bool = False,
        differentiable: bool = False,
        reduce_over: Any = None,
        share_work: Any = None,
    ) -> None:
        self.execution = checked(rule, execution)
        self.rule = rule
        self.capturable = capturable
        self.differentiable = differentiable
        self.reduce_over = checked_group(rule, "reduce_over", reduce_over)
        self.share_work = checked_group(rule, "share_work", share_work)
        refuse_parts(rule)
        if differentiable and execution not in ("auto", "reference"):
            raise ValueError(
                f"{rule.name}(differentiable=True, execution={execution!r}): gradients flow "
                "through the rule's own operations; execution must be 'auto' or 'reference'"
            )
        self._forget()
        first, *others = (branch.hypers for branch in self._branches)
        defaults = {n: v for n, v in first.items() if all(n in other for other in others)}
        super().__init__(self._listed(params), {**defaults, "differentiable": differentiable})
        self._warn_unmatched()
        refuse_slices(self)
        refuse_gathered(self)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. A ``closure`` evaluates the model again; its loss is returned."""
        loss = None
        if not (torch.compiler.is_compiling() or self.state) and is_called_by("_init_optim_state"):
            return self.init_state()  # of zeros, with rates that a rule may have more of
        advance = partial(advance_in_graph, self) if self.differentiable else self._advance_in_place
        if self._multiplies:
            advance = partial(_precisely, advance)
        if self._shards is not None:
            self._shards.exchange.opens = True
        try:
            if self.param_groups and self.param_groups[0].get(POINT) == EVALUATION:
                refuse_evaluating(self)
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            if torch._C._is_any_autocast_enabled():  # which is for the model around the step
                with torch._C._DisableAutocast():
                    advance()
            else:
                advance()
        except Exception as error:
            if (shards := self._sharded()) is not None:
                shards.failed(self, error)
            raise
        return loss

    def init_state(self) -> None:
        """Make the state of every trainable parameter now, not at its first gradient.

        Call this before ``torch.distributed.checkpoint`` saves. Where its functions of state dicts
        take a step with zero gradients, so that there is a state, this is called instead.
        """
        with torch.no_grad():
            states = {}
            for group in self.param_groups:
                rule = self._rule_of(group)
                for name, param in self._named(group):
                    own = check(rule, name, param, differentiable=self.differentiable)
                    if isinstance(param, torch.nn.Parameter) and not param.requires_grad:
                        continue
                    states[param] = state_of(self, own, param)
            common = shared_of(self, [*states])
            self.state.update(states)
            self._share(common)

    @_disable_dynamo
    @torch.no_grad()
    def _advance_in_place(self) -> None:
        """One step outside the graph of a surrounding torch.compile, as with torch.optim.

        Its own kernels are compiled if the execution says so.
        """
        rules = self._rules_of_groups()
        own, grads, where = self._with_gradients()
        params, grads = (own, grads) if self._shards is None else apart(self, own, grads)
        common = shared_of(self, params) if self._sums else {}
        plan = self._plan
        calls = calls_of(self, params) if self.capturable or self._calls is None else self._calls
        state = self.state
        values = None if plan is None else plan.values(rules, own, params, grads, where, state)
        if plan is None or values is None:
            params, grads = self._begun(own, params, grads)
            plan, values = self._planned(rules, common, grads)
        scaled = hasattr(self, "grad_scale") or hasattr(self, "found_inf")
        taken = unscaled(self, grads) if scaled else None
        try:
            entries = plan.entries(rules, params, grads, values, calls)
        except (RuntimeError, UserWarning):  # torch warns of a resized result
            if plan is not self._plan:
                raise
            plan, values = self._planned(rules, common, grads)  # which names another shape
            entries = plan.entries(rules, params, grads, values, calls)
        if plan.captures and capturing():
            refuse_uncounted(self)
            vars(self)["_captured"] = Captured([held.numbers for held in self._held])
        if plan is not self._plan:
            self._tried |= tried(entries, common, self._tried)
        executor = _EXECUTORS[self._resolved or self._chosen()]
        if "enter" not in executor:
            executor = {**executor, "enter": Coefficients(self.capturable)}
        if taken is not None:
            executor = {**executor, "enter": conditional(taken, executor["enter"])}
        before = common
        vmap = None if self._resolved == "reference" else torch.vmap
        spread = spread_of(xp, params, common, _device, rules) if plan.spread else None
        exchange = plan.shards and plan.shards.begun(rules, calls, plan.expected)
        more: dict[str, Any] = {
            "vmap": vmap,
            "spread": spread,
            "exchange": exchange,
            "totals": totals,  # and coefficients, which may have tensors in them
            "scalars": scalars if self.capturable or plan.spread or common else stepping.scalars,
        }
        results, common = stepping.run(xp, entries, common, **executor, **more)
        if plan is not self._plan:
            plan.enter(self.state, own, params, grads, where)
            self._plan = plan
        plan.finish(results, params, values, taken)
        if taken is not None:
            common = {n: torch.where(taken.to(v.device), common[n], v) for n, v in before.items()}
        if type(calls) is int and taken is None and not common:
            vars(self)["_calls"] = calls + 1
            [*map(setitem, self.param_groups, repeat(CALLS), repeat(calls + 1))]
        else:
            note(self, own, before, common, taken)
        if common:
            self._share(common)

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether ``torch.amp.GradScaler`` leaves unscaling and skipping to the step.

        It does with ``capturable``, where the step reads nothing from the device.
        """
        plain = (
            type(param.detach()) is torch.Tensor
            for group in self.param_groups
            for param in group["params"]
        )
        return self.capturable and not self.differentiable and all(plain)

    def _begun(self, own: list[Any], params: list[Any], grads: list[Any]) -> Any:
        """Parameters and gradients, in pieces from now on if other processes have some."""
        shards = None if self._shards is not None else self._sharded()
        return (params, grads) if shards is None else apart(self, own, grads)

    def _sharded(self) -> Shards | None:
        """The DTensors of this optimizer, and the processes that have slices or copies, if any."""
        groups = self.reduce_over, self.share_work
        if self._shards is None and (any(groups) or any(map(is_spread, self._params()))):
            vars(self)["_shards"] = Shards(self.rule.name, checks=not self.capturable)
        return self._shards

    def _planned(
        self, rules: list[Rule], common: dict[str, Any], grads: list[Any]
    ) -> tuple[Plan, list[Any]]:
        """A new plan, and all values in the states of its parameters."""
        refuse_unplanned(self)
        refuse_slices(self)
        refuse_freed(self)
        if self._captured is not None:
            warn_of_memory(self)
            vars(self)["_captured"] = None
        members, given = members_of(self, rules)
        warn_of_replaced(self.rule, members)
        if self._shards is None:
            grads = given
        else:
            self._shards.placed(self, rules)
        left = [] if self._plan is None else self._plan.left()
        self._plan = None  # other memory may have its addresses from here on
        try:
            more = self._chosen(), self.capturable, self._shards
            plan = Plan(rules, members, grads, common, *more)
        finally:
            release(left)
        values = [*chain.from_iterable(map(dict.values, plan.states))]
        return plan, values if self._shards is None else pieces(values)

    def _chosen(self) -> str:
        """The execution; ``auto`` is resolved at the first step, and logged."""
        if self._resolved is None:
            self._resolved, reason = kernels.chosen(self._params())
            say(self.rule.name, self._resolved, reason)
        return self._resolved

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients, or set them to 0; see ``torch.optim.Optimizer.zero_grad``."""
        if self._captured is not None:
            self._captured.warn_of_changes(self)
        super().zero_grad(set_to_none)

    def _renewed(self) -> list[Rule]:
        """The rule of every group, whose numbers have changed."""
        if self._captured is not None:
            self._captured.warn_of_changes(self)
        return super()._renewed()

    def state_dict(self) -> dict[str, Any]:
        """The state, with the value at the last step for each schedule."""
        if self._captured is not None:
            self._captured.warn_of_changes(self)
        is_form = is_called_by("_load_optim_state_dict")
        handle = self.register_state_dict_post_hook(
            lambda _, saved: settled(self, saved, is_form), prepend=True
        )
        try:
            return super().state_dict()
        finally:
            handle.remove()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; it keeps its dtype (torch.optim casts it to the parameter's).

        If both sides have names of the parameters, state is found by name, and the order may
        differ. Schedules are not part of a state: this optimizer keeps its own.

        Raises:
            ValueError: the groups or the state are of another rule or of other parameters. Nothing
                has been loaded.
        """
        state_dict = dict(as_mapping(self, "a state dict of an optimizer", state_dict))
        for change in self._optimizer_load_state_dict_pre_hooks.values():
            changed = change(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self.__setstate__(loaded(self, state_dict))
        for see in self._optimizer_load_state_dict_post_hooks.values():
            see(self)

    def checkpoint(self, params: Params | None = None) -> Checkpoint:
        """The state, and the parameters if a model is given, without copies.

        ``samestep.checkpoint`` makes a checkpoint that later steps do not change.
        """
        return checkpoints.taken(self, params)

    def restore(self, checkpoint: Checkpoint, params: Params | None = None) -> None:
        """Take the state of a checkpoint, in place; see ``samestep.restore``."""
        checkpoints.restore(self, checkpoint, params)

    def _processes(self, params: Params | None) -> Processes | None:
        """Those who have parts of the parameters, or of the model's other tensors."""
        return processes_of(checkpoints.everything(self.param_groups, params))

    def __getstate__(self) -> dict[str, Any]:
        own = ("rule", "execution", "capturable", "differentiable", "_within", "_calls", "_common")
        if self.reduce_over is not None or self.share_work is not None:
            raise TypeError(
                f"{self.rule.name}: a process group cannot be pickled or copied; make another "
                "optimizer with it, and load this one's state_dict()"
            )
        records = [written_by(self, group) for group in self.param_groups]
        kept = {name: getattr(self, name) for name in own}
        return {**super().__getstate__(), **kept, RECORD: records}

    def __setstate__(self, state: dict[str, Any]) -> None:
        records = state.pop(RECORD, [])
        super().__setstate__(state)
        self._forget()
        if "rule" in state:  # pickled, and not loaded
            self.param_groups = unpickled(self, self.param_groups, records)

    def _forget(self) -> None:
        """Drop everything derived from the rule, the groups and the state."""
        self._plan, self._tried = None, set()
        self._resolved = None if self.execution == "auto" else self.execution
        self._held, self._rules = [], []
        self._branches = self.rule.branches
        self._sums = bool(self.rule.shared())
        self._multiplies = multiplies(self.rule)


def bind(
    rule: Rule,
    params: Iterable[Any],
    *,
    execution: Execution = "auto",
    capturable: bool = False,
    differentiable: bool = False,
    reduce_over: Any = None,
    share_work: Any = None,
) -> RuleOptimizer:
    """A rule object as a ``torch.optim.Optimizer``.

    Args:
        rule: any rule: one of the package, one of a user, or a wrapped rule.
        params: parameters, named parameters or parameter groups, as for ``torch.optim``.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            parameters and on the CPU cuts large ones, ``"compiled"`` gathers them for a kernel of
            PyTorch's compiler; ``"auto"`` chooses by the number of elements and the available
            compiler.
        capturable: whether steps are counted and coefficients computed on the parameters' device
            (in the compute dtype), so that a CUDA graph of a step can be replayed. A learning rate
            that changes between replays must be a tensor on that device. The step then unscales
            and skips for ``torch.amp.GradScaler``.
        differentiable: whether gradients flow through a step, to parameters, gradients, state and
            hyperparameters that require them. Parameters are then not leaves.
        reduce_over: the process group whose processes each have a slice of every parameter, as
            FSDP1 and DeepSpeed make them. Rules that read elements, and sums over all parameters,
            then take the step of the whole parameters; others are refused.
        share_work: the process group whose processes each have all parameters and the same
            gradients, as with ``DistributedDataParallel``. They divide the work with whole
            matrices, and take the same step as without it.
    """
    return RuleOptimizer(
        rule,
        params,
        execution=execution,
        capturable=capturable,
        differentiable=differentiable,
        reduce_over=reduce_over,
        share_work=share_work,
    )


@_disable_dynamo
def _precisely(advance: Callable[[], None]) -> None:
    """A step whose products of matrices are in float32, whatever torch is told for the model."""
    with float32_products(torch):
        advance()
