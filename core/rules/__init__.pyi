# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules.
"""The update rules, one file each. Every module here is imported; none is listed by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias
from samestep.groups import Predicate
from samestep.parts.conditional import Conditional
from samestep.rule import Rule
from samestep.wrapper import Wrapper

class _Array(Protocol):
    """A 0-d array of any framework, for values that are traced."""

    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> Any: ...

_Schedule: TypeAlias = Callable[[Any], Any]
"""From the 0-based step to the value."""

_Scalar: TypeAlias = float | _Array | _Schedule
_Whole: TypeAlias = int | _Array | _Schedule
_Groups: TypeAlias = Sequence[tuple[Predicate, Mapping[str, Any]]]
_StateDtype: TypeAlias = Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str]
_Decay: TypeAlias = Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"]
_LrAt: TypeAlias = Literal["outside", "inside"]
_EpsAt: TypeAlias = Literal["outside", "uncorrected", "inside"]
_MomentumForm: TypeAlias = Literal["sum", "mean"]
_MomentumStart: TypeAlias = Literal["zero", "gradient"]

__all__ = [
    "AMSGrad", "Accumulate", "AdEMAMix", "AdaBelief", "AdaDelta", "Adafactor", "Adagrad", "Adam",
    "AdamP", "AdamW", "Adamax", "Adan", "AdaptiveClip", "Average", "Cautious", "Centralize",
    "ClipGlobalNorm", "ClipNorm", "ClipValue", "LAMB", "LARS", "Lion", "Lookahead", "Muon", "NAdam",
    "Prodigy", "RAdam", "RMSprop", "RaLars", "Rprop", "SGD", "SM3", "Scout", "SignSGD", "Signum",
    "SkipNonFinite", "TAdam", "Yogi",
]

class AMSGrad(Rule):
    """AMSGrad: Adam that divides by the largest mean square so far."""
    lr: Any; betas: Any; eps: Any; eps_root: Any; eps_at: Any; bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: Literal[True] = True,
        decay: _Decay = "l2", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "keras", "paper", "labml"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Accumulate(Conditional):
    """Accumulate: the gradients of several calls, of micro-batches, make one step."""
    every: Any; accumulated_dtype: Any
    def __init__(
        self, rule: Rule, *, every: int = 2, accumulated_dtype: _StateDtype = None,
        like: Literal["optax"] | None = None, mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class AdEMAMix(Rule):
    """AdEMAMix: Adam with a second, much slower mean of the gradient beside the first."""
    lr: Any; betas: Any; alpha: Any; slow_start: Any; bias_correction: Any; eps: Any; eps_root: Any
    eps_at: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar, _Scalar] = (0.9, 0.999, 0.9999),
        alpha: _Scalar = 5.0, slow_start: _Whole = 0, eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, bias_correction: bool = True, eps_at: _EpsAt = "outside",
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "holocron", "xlstm"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class AdaBelief(Rule):
    """AdaBelief: Adam that divides by the spread of the gradient around its mean."""
    lr: Any; betas: Any; threshold: Any; below: Any; eps: Any; eps_root: Any; rectify: Any
    eps_at: Any; bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0, eps: _Scalar = 1e-16, eps_root: _Scalar = 1e-16,
        weight_decay: _Scalar = 0.0, *, below: Literal["momentum", "adam", "skip"] = "momentum",
        rectify: bool = False, eps_at: _EpsAt = "outside", bias_correction: bool = True,
        amsgrad: bool = False, decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "holocron", "labml"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class AdaDelta(Rule):
    """AdaDelta: steps in units of the steps before, so that no step size is needed."""
    lr: Any; rho: Any; eps: Any
    def __init__(
        self, lr: _Scalar = 1.0, rho: _Scalar = 0.9, eps: _Scalar = 1e-06,
        weight_decay: _Scalar = 0.0, *, decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Adafactor(Rule):
    """Adafactor: the mean square kept as one vector per row and one per column."""
    lr: Any; eps: Any; decay_rate: Any; clip_threshold: Any; momentum: Any; relative_step: Any
    warmup_init: Any; scale_parameter: Any; eps_at: Any; axes: Any; min_dim: Any
    def __init__(
        self, lr: _Scalar = 0.01, eps: tuple[_Scalar, _Scalar] = (1e-30, 0.001),
        decay_rate: _Scalar = 0.8, clip_threshold: _Scalar = 1.0, momentum: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, relative_step: bool = True, warmup_init: bool = False,
        scale_parameter: bool = True, eps_at: Literal["added", "clamped"] = "added",
        axes: Literal["last", "largest"] = "last", min_dim: int = 1, decay: _Decay = "decoupled",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Adagrad(Rule):
    """Adagrad: the gradient in units of the root of all its squares so far."""
    lr: Any; lr_decay: Any; eps: Any; initial_v: Any; momentum: Any; dampening: Any; nesterov: Any
    eps_root: Any; eps_at: Any; momentum_form: Any; momentum_start: Any; lr_at: Any
    def __init__(
        self, lr: _Scalar = 0.01, lr_decay: _Scalar = 0.0, eps: _Scalar = 1e-10,
        initial_v: _Scalar = 0.0, momentum: _Scalar = 0.0, dampening: _Scalar = 0.0,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        eps_at: _LrAt = "outside", momentum_form: _MomentumForm = "mean",
        momentum_start: _MomentumStart = "zero", lr_at: _LrAt = "outside", decay: _Decay = "l2",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Adam(Rule):
    """Adam: a step along the mean gradient, in units of its root mean square."""
    lr: Any; betas: Any; eps: Any; eps_root: Any; eps_at: Any; bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "l2", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "labml", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class AdamP(Rule):
    """AdamP: Adam without the part that only makes scale-invariant weights grow."""
    lr: Any; betas: Any; eps: Any; delta: Any; wd_ratio: Any; nesterov: Any; layout: Any
    eps_root: Any; eps_at: Any; bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, delta: _Scalar = 0.1, wd_ratio: _Scalar = 0.1,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        layout: Literal["oi", "io"] = "oi", eps_at: _EpsAt = "outside",
        bias_correction: bool = True, amsgrad: bool = False, decay: _Decay = "in_update",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["paper", "holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class AdamW(Rule):
    """Adam with weight decay kept apart from the gradient."""
    lr: Any; betas: Any; eps: Any; eps_root: Any; eps_at: Any; bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.01, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Adamax(Rule):
    """Adamax: Adam with the largest decayed gradient in place of the root mean square."""
    lr: Any; betas: Any; eps: Any; bias_correction: Any; eps_at: Any
    def __init__(
        self, lr: _Scalar = 0.002, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, weight_decay: _Scalar = 0.0, *, bias_correction: bool = True,
        eps_at: Literal["inside", "outside"] = "inside", decay: _Decay = "l2",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Adan(Rule):
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients."""
    lr: Any; betas: Any; bias_correction: Any; start: Any; amsgrad: Any; eps: Any; eps_root: Any
    eps_at: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar, _Scalar] = (0.98, 0.92, 0.99),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        bias_correction: bool = True, start: _MomentumStart = "zero", amsgrad: bool = False,
        eps_at: _EpsAt = "outside", decay: _Decay = "proximal", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class AdaptiveClip(Wrapper):
    """AdaptiveClip: the gradient of every unit no longer than a fraction of the unit's weights."""
    clipping: Any; min_norm: Any; clip_layout: Any
    def __init__(
        self, rule: Rule, clipping: _Scalar = 0.01, min_norm: _Scalar = 0.001, *,
        clip_layout: Literal["oi", "io"] = "oi", like: None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class Average(Wrapper):
    """Average: beside the parameters, their average over the steps taken."""
    average_decay: Any; average_start: Any; averaging: Any; average_dtype: Any
    def __init__(
        self, rule: Rule, average_decay: _Scalar = 0.999, average_start: _Whole = 0, *,
        averaging: Literal["ema", "debiased", "equal"] = "ema", average_dtype: _StateDtype = None,
        like: None = None, mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Cautious(Wrapper):
    """Cautious: no element moves against the sign of its gradient; the others move further."""
    rescale: Any
    def __init__(
        self, rule: Rule, *, rescale: Literal["mean", "count"] = "mean", like: None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Centralize(Wrapper):
    """Centralize: the gradient of every output's weights less its mean."""
    center_layout: Any
    def __init__(
        self, rule: Rule, *, center_layout: Literal["oi", "io"] = "oi",
        like: Literal["optax"] | None = None, mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class ClipGlobalNorm(Wrapper):
    """ClipGlobalNorm: the gradients of all parameters together no longer than a norm."""
    max_norm: Any; norm_eps: Any
    def __init__(
        self, rule: Rule, max_norm: _Scalar = 1.0, norm_eps: _Scalar = 0.0, *,
        like: Literal["torch", "optax"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class ClipNorm(Wrapper):
    """ClipNorm: the gradient of every parameter no longer than a norm, each by itself."""
    clip_norm: Any
    def __init__(
        self, rule: Rule, clip_norm: _Scalar = 1.0, *, like: None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class ClipValue(Wrapper):
    """ClipValue: every element of the gradient no larger than a value."""
    max_value: Any
    def __init__(
        self, rule: Rule, max_value: _Scalar = 1.0, *,
        like: Literal["torch", "optax"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class LAMB(Rule):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm."""
    lr: Any; betas: Any; eps: Any; eps_root: Any; eps_at: Any; bias_correction: Any; amsgrad: Any
    scale_clip: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-06, eps_root: _Scalar = 0.0,
        scale_clip: tuple[_Scalar, _Scalar] = (0.0, float("inf")), weight_decay: _Scalar = 0.0, *,
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "in_update", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "keras", "paper", "holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class LARS(Rule):
    """LARS: momentum whose steps are, for every parameter, a fraction of its own norm."""
    lr: Any; momentum: Any; trust_coefficient: Any; eps: Any; scale_clip: Any; dampening: Any
    nesterov: Any; momentum_form: Any; momentum_start: Any; lr_at: Any
    def __init__(
        self, lr: _Scalar = 1.0, momentum: _Scalar = 0.9, trust_coefficient: _Scalar = 0.001,
        eps: _Scalar = 0.0, scale_clip: tuple[_Scalar, _Scalar] = (0.0, float("inf")),
        dampening: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        momentum_form: _MomentumForm = "sum", momentum_start: _MomentumStart = "zero",
        lr_at: _LrAt = "inside", decay: _Decay = "in_update", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Lion(Rule):
    """Lion: the sign of an interpolation between momentum and gradient."""
    lr: Any; betas: Any
    def __init__(
        self, lr: _Scalar = 0.0001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.99),
        weight_decay: _Scalar = 0.0, *, decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Lookahead(Wrapper):
    """Lookahead: another rule explores, and slow weights follow it every few steps."""
    sync_period: Any; sync_rate: Any
    def __init__(
        self, rule: Rule, sync_period: _Whole = 6, sync_rate: _Scalar = 0.5, *,
        like: Literal["optax", "paper", "holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class Muon(Rule):
    """Muon: momentum, orthogonalised, so that every direction of a matrix moves alike."""
    lr: Any; momentum: Any; nesterov: Any; ns_steps: Any; layout: Any
    def __init__(
        self, lr: _Scalar = 0.02, momentum: _Scalar = 0.95, weight_decay: _Scalar = 0.0, *,
        nesterov: bool = True, ns_steps: int = 5, layout: Literal["oi", "io"] = "oi",
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: None = None, mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class NAdam(Rule):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps."""
    lr: Any; betas: Any; momentum_decay: Any; momentum_schedule: Any; eps: Any; eps_root: Any
    eps_at: Any; bias_correction: Any
    def __init__(
        self, lr: _Scalar = 0.002, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        momentum_decay: _Scalar = 0.004, eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, momentum_schedule: bool = True, eps_at: _EpsAt = "outside",
        bias_correction: bool = True, decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["torch", "optax", "keras"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Prodigy(Rule):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come."""
    lr: Any; betas: Any; beta3: Any; eps: Any; d0: Any; d_coef: Any; growth_rate: Any
    bias_correction: Any; safeguard_warmup: Any
    def __init__(
        self, lr: _Scalar = 1.0, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        beta3: _Scalar | None = None, eps: _Scalar = 1e-08, d0: _Scalar = 1e-06,
        d_coef: _Scalar = 1.0, growth_rate: _Scalar = float("inf"), weight_decay: _Scalar = 0.0, *,
        bias_correction: bool = False, safeguard_warmup: bool = False,
        decay: Literal["l2", "in_update"] = "in_update", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class RAdam(Rule):
    """RAdam: Adam rectified for the variance of its divisor in the first steps."""
    lr: Any; betas: Any; threshold: Any; below: Any; eps: Any; eps_root: Any; eps_at: Any
    bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0, eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, below: Literal["momentum", "adam", "skip"] = "momentum",
        eps_at: _EpsAt = "outside", bias_correction: bool = True, amsgrad: bool = False,
        decay: _Decay = "l2", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "paper", "labml"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class RMSprop(Rule):
    """RMSprop: the gradient in units of its root mean square."""
    lr: Any; alpha: Any; initial_v: Any; momentum: Any; dampening: Any; centered: Any
    bias_correction: Any; eps: Any; eps_root: Any; eps_at: Any; nesterov: Any; momentum_form: Any
    momentum_start: Any; lr_at: Any
    def __init__(
        self, lr: _Scalar = 0.01, alpha: _Scalar = 0.99, initial_v: _Scalar = 0.0,
        momentum: _Scalar = 0.0, dampening: _Scalar = 0.0, eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, centered: bool = False,
        bias_correction: bool = False, eps_at: _LrAt = "outside", nesterov: bool = False,
        momentum_form: _MomentumForm = "sum", momentum_start: _MomentumStart = "zero",
        lr_at: _LrAt = "outside", decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class RaLars(Rule):
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm."""
    lr: Any; betas: Any; threshold: Any; force_adaptive_momentum: Any; scale_clip: Any; eps: Any
    eps_root: Any; eps_at: Any; bias_correction: Any; amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0, scale_clip: tuple[_Scalar, _Scalar] = (0.0, 10.0),
        eps: _Scalar = 1e-08, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        force_adaptive_momentum: bool = False, eps_at: _EpsAt = "outside",
        bias_correction: bool = True, amsgrad: bool = False, decay: _Decay = "in_update",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class Rprop(Rule):
    """Rprop: the sign of the gradient, times a step size that every element finds for itself."""
    lr: Any; etas: Any; step_sizes: Any
    def __init__(
        self, lr: _Scalar = 0.01, etas: tuple[_Scalar, _Scalar] = (0.5, 1.2),
        step_sizes: tuple[_Scalar, _Scalar] = (1e-06, 50.0), weight_decay: _Scalar = 0.0, *,
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["torch", "optax"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class SGD(Rule):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead."""
    lr: Any; momentum: Any; dampening: Any; nesterov: Any; momentum_start: Any; momentum_form: Any
    lr_at: Any
    def __init__(
        self, lr: _Scalar = 0.001, momentum: _Scalar = 0.0, dampening: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, nesterov: bool = False,
        momentum_start: _MomentumStart = "gradient", momentum_form: _MomentumForm = "sum",
        lr_at: _LrAt = "outside", decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "jax-example", "mlx-0.0"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class SM3(Rule):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element."""
    lr: Any; momentum: Any; eps: Any; dampening: Any; eps_root: Any; eps_at: Any
    momentum_form: Any; nesterov: Any; momentum_start: Any; lr_at: Any
    def __init__(
        self, lr: _Scalar = 0.1, momentum: _Scalar = 0.9, eps: _Scalar = 0.0,
        dampening: _Scalar = 0.0, eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *,
        eps_at: Literal["inside", "outside"] = "inside", momentum_form: _MomentumForm = "mean",
        nesterov: bool = False, momentum_start: _MomentumStart = "zero", lr_at: _LrAt = "outside",
        decay: _Decay = "decoupled", maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper", "jax-example"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class Scout(Wrapper):
    """Scout: Lookahead that follows further where the steps of a period disagree."""
    sync_rate: Any; sync_period: Any
    def __init__(
        self, rule: Rule, sync_rate: _Scalar = 0.5, *, sync_period: int = 6,
        like: Literal["holocron"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class SignSGD(Rule):
    """signSGD: the sign of the gradient."""
    lr: Any
    def __init__(
        self, lr: _Scalar = 0.0001, weight_decay: _Scalar = 0.0, *, decay: _Decay = "decoupled",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class Signum(Rule):
    """Signum: the sign of the momentum."""
    lr: Any; momentum: Any; momentum_start: Any
    def __init__(
        self, lr: _Scalar = 0.0001, momentum: _Scalar = 0.9, weight_decay: _Scalar = 0.0, *,
        momentum_start: _MomentumStart = "zero", decay: _Decay = "decoupled",
        maximize: bool = False, state_dtype: _StateDtype = None,
        like: Literal["optax", "paper"] | None = None, mask: Predicate | None = None,
        groups: _Groups = (),
    ) -> None: ...

class SkipNonFinite(Conditional):
    """SkipNonFinite: no step where any gradient of any parameter is NaN or infinite."""
    def __init__(
        self, rule: Rule, *, like: None = None, mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class TAdam(Rule):
    """TAdam: Adam whose mean gradient gives outliers little weight."""
    lr: Any; betas: Any; eps: Any; dof: Any; eps_root: Any; eps_at: Any; bias_correction: Any
    amsgrad: Any
    def __init__(
        self, lr: _Scalar = 0.001, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08, dof: _Scalar | None = None, eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0, *, eps_at: _EpsAt = "outside", bias_correction: bool = True,
        amsgrad: bool = False, decay: _Decay = "l2", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["holocron"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...

class Yogi(Rule):
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step."""
    lr: Any; betas: Any; eps: Any; initial_m: Any; initial_v: Any; bias_correction: Any
    eps_root: Any; eps_at: Any
    def __init__(
        self, lr: _Scalar = 0.01, betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 0.001, initial_m: _Scalar = 0.0, initial_v: _Scalar = 1e-06,
        eps_root: _Scalar = 0.0, weight_decay: _Scalar = 0.0, *, bias_correction: bool = False,
        eps_at: _EpsAt = "outside", decay: _Decay = "decoupled", maximize: bool = False,
        state_dtype: _StateDtype = None, like: Literal["optax", "paper"] | None = None,
        mask: Predicate | None = None, groups: _Groups = (),
    ) -> None: ...
