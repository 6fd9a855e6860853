# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules.
"""samestep in PyTorch: every rule as a ``torch.optim.Optimizer``."""

from torch.optim.optimizer import ParamsT
from typing import Literal
from samestep.groups import Predicate
from samestep.rule import Rule
from samestep.rules import (
    _Decay, _EpsAt, _Groups, _LrAt, _MomentumForm, _MomentumStart, _Scalar, _StateDtype, _Whole,
)

from .natives import from_state_dict as from_state_dict, into_state_dict as into_state_dict
from .optimizer import EXECUTIONS as EXECUTIONS, RuleOptimizer as RuleOptimizer, bind as bind
from .recording import recorder as recorder

__all__ = ["EXECUTIONS", "RuleOptimizer", "bind", "from_state_dict", "into_state_dict", "recorder"]

class AMSGrad(RuleOptimizer):
    """AMSGrad: Adam that divides by the largest mean square so far."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: Literal[True] = True,
        decay: _Decay = "l2", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "keras", "paper", "labml"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Accumulate(RuleOptimizer):
    """Accumulate: the gradients of several calls, of micro-batches, make one step."""
    def __init__(
        self, params: ParamsT, rule: Rule, *, every: int = 2, accumulated_dtype: _StateDtype = None,
        like: Literal["optax"] | None = None, mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class AdEMAMix(RuleOptimizer):
    """AdEMAMix: Adam with a second, much slower mean of the gradient beside the first."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar, _Scalar] = (0.9, 0.999, 0.9999), alpha: _Scalar = 5.0,
        slow_start: _Whole = 0, eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, bias_correction: bool = True, eps_at: _EpsAt = "outside",
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "holocron", "xlstm"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class AdaBelief(RuleOptimizer):
    """AdaBelief: Adam that divides by the spread of the gradient around its mean."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0, eps: _Scalar = 1e-16, eps_root: _Scalar = 1e-16,
        weight_decay: _Scalar = 0.0, *, below: Literal["momentum", "adam", "skip"] = "momentum",
        rectify: bool = False, eps_at: _EpsAt = "outside", bias_correction: bool = True,
        amsgrad: bool = False, decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "holocron", "labml"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class AdaDelta(RuleOptimizer):
    """AdaDelta: steps in units of the steps before, so that no step size is needed."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 1.0, rho: _Scalar = 0.9, eps: _Scalar = 1e-06,
        weight_decay: _Scalar = 0.0, *, decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Adafactor(RuleOptimizer):
    """Adafactor: the mean square kept as one vector per row and one per column."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.01, eps: tuple[_Scalar, _Scalar] = (1e-30, 0.001),
        decay_rate: _Scalar = 0.8, clip_threshold: _Scalar = 1.0, momentum: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, relative_step: bool = True, warmup_init: bool = False,
        scale_parameter: bool = True, eps_at: Literal["added", "clamped"] = "added",
        axes: Literal["last", "largest"] = "last", min_dim: int = 1, decay: _Decay = "decoupled",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Adagrad(RuleOptimizer):
    """Adagrad: the gradient in units of the root of all its squares so far."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.01, lr_decay: _Scalar = 0.0, eps: _Scalar = 1e-10,
        initial_v: _Scalar = 0.0, momentum: _Scalar = 0.0, dampening: _Scalar = 0.0,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        eps_at: _LrAt = "outside", momentum_form: _MomentumForm = "mean",
        momentum_start: _MomentumStart = "zero", lr_at: _LrAt = "outside", decay: _Decay = "l2",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Adam(RuleOptimizer):
    """Adam: a step along the mean gradient, in units of its root mean square."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "l2", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "labml", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class AdamP(RuleOptimizer):
    """AdamP: Adam without the part that only makes scale-invariant weights grow."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, delta: _Scalar = 0.1, wd_ratio: _Scalar = 0.1,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        layout: Literal["oi", "io"] = "oi", eps_at: _EpsAt = "outside",
        bias_correction: bool = True, amsgrad: bool = False, decay: _Decay = "in_update",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["paper", "holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class AdamW(RuleOptimizer):
    """Adam with weight decay kept apart from the gradient."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.01, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Adamax(RuleOptimizer):
    """Adamax: Adam with the largest decayed gradient in place of the root mean square."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.002, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, weight_decay: _Scalar = 0.0, *, bias_correction: bool = True,
        eps_at: Literal["inside", "outside"] = "inside", decay: _Decay = "l2",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Adan(RuleOptimizer):
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar, _Scalar] = (0.98, 0.92, 0.99), eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, bias_correction: bool = True,
        start: _MomentumStart = "zero", amsgrad: bool = False, eps_at: _EpsAt = "outside",
        decay: _Decay = "proximal", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class AdaptiveClip(RuleOptimizer):
    """AdaptiveClip: the gradient of every unit no longer than a fraction of the unit's weights."""
    def __init__(
        self, params: ParamsT, rule: Rule, clipping: _Scalar = 0.01, min_norm: _Scalar = 0.001, *,
        clip_layout: Literal["oi", "io"] = "oi", like: None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Average(RuleOptimizer):
    """Average: beside the parameters, their average over the steps taken."""
    def __init__(
        self, params: ParamsT, rule: Rule, average_decay: _Scalar = 0.999,
        average_start: _Whole = 0, *, averaging: Literal["ema", "debiased", "equal"] = "ema",
        average_dtype: _StateDtype = None, like: None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Cautious(RuleOptimizer):
    """Cautious: no element moves against the sign of its gradient; the others move further."""
    def __init__(
        self, params: ParamsT, rule: Rule, *, rescale: Literal["mean", "count"] = "mean",
        like: None = None, mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Centralize(RuleOptimizer):
    """Centralize: the gradient of every output's weights less its mean."""
    def __init__(
        self, params: ParamsT, rule: Rule, *, center_layout: Literal["oi", "io"] = "oi",
        like: Literal["optax"] | None = None, mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class ClipGlobalNorm(RuleOptimizer):
    """ClipGlobalNorm: the gradients of all parameters together no longer than a norm."""
    def __init__(
        self, params: ParamsT, rule: Rule, max_norm: _Scalar = 1.0, norm_eps: _Scalar = 0.0, *,
        like: Literal["torch", "optax"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class ClipNorm(RuleOptimizer):
    """ClipNorm: the gradient of every parameter no longer than a norm, each by itself."""
    def __init__(
        self, params: ParamsT, rule: Rule, clip_norm: _Scalar = 1.0, *, like: None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class ClipValue(RuleOptimizer):
    """ClipValue: every element of the gradient no larger than a value."""
    def __init__(
        self, params: ParamsT, rule: Rule, max_value: _Scalar = 1.0, *,
        like: Literal["torch", "optax"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class LAMB(RuleOptimizer):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-06, eps_root: _Scalar = 0.0,
        scale_clip: tuple[_Scalar, _Scalar] = (0.0, float("inf")), weight_decay: _Scalar = 0.0, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "in_update", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "keras", "paper", "holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class LARS(RuleOptimizer):
    """LARS: momentum whose steps are, for every parameter, a fraction of its own norm."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 1.0, momentum: _Scalar = 0.9,
        trust_coefficient: _Scalar = 0.001, eps: _Scalar = 0.0,
        scale_clip: tuple[_Scalar, _Scalar] = (0.0, float("inf")), dampening: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        momentum_form: _MomentumForm = "sum", momentum_start: _MomentumStart = "zero",
        lr_at: _LrAt = "inside", decay: _Decay = "in_update", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Lion(RuleOptimizer):
    """Lion: the sign of an interpolation between momentum and gradient."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.0001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.99),
        weight_decay: _Scalar = 0.0, *, decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Lookahead(RuleOptimizer):
    """Lookahead: another rule explores, and slow weights follow it every few steps."""
    def __init__(
        self, params: ParamsT, rule: Rule, sync_period: _Whole = 6, sync_rate: _Scalar = 0.5, *,
        like: Literal["optax", "paper", "holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Muon(RuleOptimizer):
    """Muon: momentum, orthogonalised, so that every direction of a matrix moves alike."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.02, momentum: _Scalar = 0.95,
        weight_decay: _Scalar = 0.0, *, nesterov: bool = True, ns_steps: int = 5,
        layout: Literal["oi", "io"] = "oi", decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None, like: None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class NAdam(RuleOptimizer):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.002, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        momentum_decay: _Scalar = 0.004, eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, momentum_schedule: bool = True, eps_at: _EpsAt = "outside",
        bias_correction: bool = True, decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["torch", "optax", "keras"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Prodigy(RuleOptimizer):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 1.0, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        beta3: _Scalar | None = None, eps: _Scalar = 1e-08, d0: _Scalar = 1e-06,
        d_coef: _Scalar = 1.0, growth_rate: _Scalar = float("inf"), weight_decay: _Scalar = 0.0, *,
        bias_correction: bool = False, safeguard_warmup: bool = False,
        decay: Literal["l2", "in_update"] = "in_update", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class RAdam(RuleOptimizer):
    """RAdam: Adam rectified for the variance of its divisor in the first steps."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0, eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, below: Literal["momentum", "adam", "skip"] = "momentum",
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "l2", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "paper", "labml"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class RMSprop(RuleOptimizer):
    """RMSprop: the gradient in units of its root mean square."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.01, alpha: _Scalar = 0.99, initial_v: _Scalar = 0.0,
        momentum: _Scalar = 0.0, dampening: _Scalar = 0.0, eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, centered: bool = False,
        bias_correction: bool = False, eps_at: _LrAt = "outside", nesterov: bool = False,
        momentum_form: _MomentumForm = "sum", momentum_start: _MomentumStart = "zero",
        lr_at: _LrAt = "outside", decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class RaLars(RuleOptimizer):
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0, scale_clip: tuple[_Scalar, _Scalar] = (0.0, 10.0),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        force_adaptive_momentum: bool = False, eps_at: _EpsAt = "outside",
        bias_correction: bool = True, amsgrad: bool = False, decay: _Decay = "in_update",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Rprop(RuleOptimizer):
    """Rprop: the sign of the gradient, times a step size that every element finds for itself."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.01, etas: tuple[_Scalar, _Scalar] = (0.5, 1.2),
        step_sizes: tuple[_Scalar, _Scalar] = (1e-06, 50.0), weight_decay: _Scalar = 0.0, *,
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class SGD(RuleOptimizer):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, momentum: _Scalar = 0.0,
        dampening: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        momentum_start: _MomentumStart = "gradient", momentum_form: _MomentumForm = "sum",
        lr_at: _LrAt = "outside", decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class SM3(RuleOptimizer):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.1, momentum: _Scalar = 0.9, eps: _Scalar = 0.0,
        dampening: _Scalar = 0.0, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        eps_at: Literal["inside", "outside"] = "inside", momentum_form: _MomentumForm = "mean",
        nesterov: bool = False, momentum_start: _MomentumStart = "zero", lr_at: _LrAt = "outside",
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "jax-example"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Scout(RuleOptimizer):
    """Scout: Lookahead that follows further where the steps of a period disagree."""
    def __init__(
        self, params: ParamsT, rule: Rule, sync_rate: _Scalar = 0.5, *, sync_period: int = 6,
        like: Literal["holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class SignSGD(RuleOptimizer):
    """signSGD: the sign of the gradient."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.0001, weight_decay: _Scalar = 0.0, *,
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Signum(RuleOptimizer):
    """Signum: the sign of the momentum."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.0001, momentum: _Scalar = 0.9,
        weight_decay: _Scalar = 0.0, *, momentum_start: _MomentumStart = "zero",
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class SkipNonFinite(RuleOptimizer):
    """SkipNonFinite: no step where any gradient of any parameter is NaN or infinite."""
    def __init__(
        self, params: ParamsT, rule: Rule, *, like: None = None, mask: Predicate | None = None,
        groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class TAdam(RuleOptimizer):
    """TAdam: Adam whose mean gradient gives outliers little weight."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, dof: _Scalar | None = None, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, eps_at: _EpsAt = "outside", bias_correction: bool = True,
        amsgrad: bool = False, decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...

class Yogi(RuleOptimizer):
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step."""
    def __init__(
        self, params: ParamsT, lr: _Scalar = 0.01, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 0.001, initial_m: _Scalar = 0.0, initial_v: _Scalar = 1e-06,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, bias_correction: bool = False,
        eps_at: _EpsAt = "outside", decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax", "paper"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False, differentiable: bool = False,
    ) -> None: ...
