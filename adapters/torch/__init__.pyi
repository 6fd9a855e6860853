# Written by python -m samestep.conformance.stubs from the declarations of the rules.
"""samestep in PyTorch: every rule as a ``torch.optim.Optimizer``.

    from samestep.torch import Adan
    optimizer = Adan(model.parameters(), lr=1e-3)

Hyperparameters and options live in ``param_groups``, so that groups may differ and learning-rate
schedulers work. State is made at a parameter's first gradient, with ``zeros_like``, and kept as
plain tensors in ``state[param]``: the rule's slots by name, and ``step``. What a rule keeps for all
parameters together (Prodigy's ``d``) is in every group. Results are written into the parameter in
place; ``.grad`` is never touched. A complex parameter is stepped as its real and imaginary parts,
and so is its state kept, with an axis of two at the end. Inside ``torch.compile`` a step breaks the
graph, as those of torch.optim do, and is the one that it is outside.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from torch.optim.optimizer import ParamsT
from ..rule import Rule
from ..groups import Predicate
from ..rules import _Scalar, _Whole

from .optimizer import EXECUTIONS as EXECUTIONS
from .optimizer import RuleOptimizer as RuleOptimizer
from .optimizer import bind as bind

__all__ = [
    "EXECUTIONS",
    "RuleOptimizer",
    "bind",
]

class AMSGrad(RuleOptimizer):
    """AMSGrad: Adam that divides by the largest mean square so far.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        amsgrad: take the maximum before the correction of v, or after.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AMSGrad``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        amsgrad: Literal[True, "corrected"] = True,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "keras", "paper", "labml"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Accumulate(RuleOptimizer):
    """Accumulate: the gradients of several calls, of micro-batches, make one step.

    Args:
        every: calls that make one step.
        accumulated_dtype: dtype of accumulated; None is that of the state.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Accumulate``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        *,
        every: int = 2,
        accumulated_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class AdEMAMix(RuleOptimizer):
    """AdEMAMix: Adam with a second, much slower mean of the gradient beside the first.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m1, v and m2 [1/step]; in [0, 1).
        alpha: weight of m2 [1]; >= 0.
        slow_start: step from which alpha's and beta3's schedules count [steps]; >= 0.
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        bias_correction: correct m and v for their start at zero.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AdEMAMix``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar, _Scalar] = (0.9, 0.999, 0.9999),
        alpha: _Scalar = 5.0,
        slow_start: _Whole = 0,
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        bias_correction: bool = True,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper", "holocron", "xlstm"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class AdaBelief(RuleOptimizer):
    """AdaBelief: Adam that divides by the spread of the gradient around its mean.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        threshold: rho from which the divisor is trusted [steps]; >= 4.
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added to v at every step [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        below: the step before that.
        keep_eps: what is added to v stays there, or is added where v is read.
        rectify: rectify as RAdam does.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AdaBelief``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0,
        eps: _Scalar = 1e-16,
        eps_root: _Scalar = 1e-16,
        weight_decay: _Scalar = 0.0,
        *,
        below: Literal["momentum", "adam", "skip"] = "momentum",
        keep_eps: bool = True,
        rectify: bool = False,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper", "labml", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class AdaDelta(RuleOptimizer):
    """AdaDelta: steps in units of the steps before, so that no step size is needed.

    Args:
        lr: multiple of the step [1]; >= 0.
        rho: decay per step of v and u [1/step]; in [0, 1).
        eps: added under both roots [gradient^2]; > 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        accumulate: u is read back; if not, it counts as zero at every step.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AdaDelta``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 1.0,
        rho: _Scalar = 0.9,
        eps: _Scalar = 1e-06,
        weight_decay: _Scalar = 0.0,
        *,
        accumulate: bool = True,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Adafactor(RuleOptimizer):
    """Adafactor: the mean square kept as one vector per row and one per column.

    Args:
        lr: largest step, relative to the parameter [1]; >= 0.
        eps: least v, and least RMS(param) [gradient^2, parameter]; > 0.
        decay_rate: v forgets as 1 - t^-decay_rate [1]; in (0, 1].
        clip_threshold: largest RMS of u [1]; > 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        relative_step: shrink the step as 1 / sqrt(t).
        warmup_init: let the relative step begin at 1e-6 t.
        scale_parameter: multiply the step by RMS(param).
        eps_at: eps1 is added to grad^2, or bounds v.
        scale_at: RMS(param) before decay or after.
        axes: axes that are factored.
        min_dim: least size of both axes for them to be factored.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Adafactor``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.01,
        eps: tuple[_Scalar, _Scalar] = (1e-30, 0.001),
        decay_rate: _Scalar = 0.8,
        clip_threshold: _Scalar = 1.0,
        momentum: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        relative_step: bool = True,
        warmup_init: bool = False,
        scale_parameter: bool = True,
        eps_at: Literal["added", "clamped"] = "added",
        scale_at: Literal["before", "after"] = "before",
        axes: Literal["last", "largest"] = "last",
        min_dim: int = 1,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Adagrad(RuleOptimizer):
    """Adagrad: the gradient in units of the root of all its squares so far.

    Args:
        lr: step size [parameter]; >= 0.
        lr_decay: lr is divided by 1 + (t - 1) lr_decay [1/step]; >= 0.
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        initial_v: v before the first step [gradient^2]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        dampening: part of a step kept out of m [1]; in [0, 1].
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        momentum_form: m is a decaying sum of steps, or their mean.
        nesterov: look one step of momentum ahead.
        momentum_start: m before the first step is zero, or the first step.
        lr_at: lr multiplies m, or what goes into m.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Adagrad``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.01,
        lr_decay: _Scalar = 0.0,
        eps: _Scalar = 1e-10,
        initial_v: _Scalar = 0.0,
        momentum: _Scalar = 0.0,
        dampening: _Scalar = 0.0,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        eps_at: Literal["outside", "inside"] = "outside",
        momentum_form: Literal["sum", "mean"] = "mean",
        nesterov: bool = False,
        momentum_start: Literal["zero", "gradient"] = "zero",
        lr_at: Literal["outside", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0", "jax-example"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Adam(RuleOptimizer):
    """Adam: a step along the mean gradient, in units of its root mean square.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Adam``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0", "jax-example", "labml"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class AdamP(RuleOptimizer):
    """AdamP: Adam without the part that only makes scale-invariant weights grow.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; > 0.
        delta: largest cosine that is taken for a right angle [1]; >= 0.
        wd_ratio: share of the decay where projected [1]; in [0, 1].
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        nesterov: look one step of momentum ahead.
        projection: the authors', or holocron's.
        layout: output axis first ('oi') or last ('io').
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AdamP``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        delta: _Scalar = 0.1,
        wd_ratio: _Scalar = 0.1,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        nesterov: bool = False,
        projection: Literal["channel", "signed"] = "channel",
        layout: Literal["oi", "io"] = "oi",
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["paper", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class AdamW(RuleOptimizer):
    """Adam with weight decay kept apart from the gradient.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: fraction of the parameter removed per step, times lr [1/lr]; >= 0.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AdamW``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.01,
        *,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Adamax(RuleOptimizer):
    """Adamax: Adam with the largest decayed gradient in place of the root mean square.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and u [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        bias_correction: correct m for its start at zero.
        eps_at: eps is added to |grad| inside the maximum, or to u where it is read.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Adamax``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.002,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        weight_decay: _Scalar = 0.0,
        *,
        bias_correction: bool = True,
        eps_at: Literal["inside", "outside"] = "inside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0", "jax-example"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Adan(RuleOptimizer):
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m, v and n [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest n so far.
        difference_weight: weight of diff and v_hat.
        keep_previous: prev is kept; if not, it is zero at every step.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Adan``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar, _Scalar] = (0.98, 0.92, 0.99),
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: bool = False,
        difference_weight: Literal["beta2", "1-beta2"] = "beta2",
        keep_previous: bool = True,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "proximal",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class AdaptiveClip(RuleOptimizer):
    """AdaptiveClip: the gradient of every unit no longer than a fraction of the unit's weights.

    Args:
        clipping: largest norm of a gradient, in norms of its unit [gradient/parameter]; > 0.
        min_norm: least norm that a unit counts with [parameter]; > 0.
        clip_layout: output axis first ('oi') or last ('io').
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.AdaptiveClip``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        clipping: _Scalar = 0.01,
        min_norm: _Scalar = 0.001,
        *,
        clip_layout: Literal["oi", "io"] = "oi",
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Average(RuleOptimizer):
    """Average: beside the parameters, their average over the steps taken.

    Args:
        average_decay: decay per step of average [1/step]; in [0, 1).
        average_start: steps before averaging begins [steps]; >= 0.
        averaging: the weights.
        average_dtype: dtype of average; None is that of the state.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Average``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        average_decay: _Scalar = 0.999,
        average_start: _Whole = 0,
        *,
        averaging: Literal["ema", "debiased", "equal"] = "ema",
        average_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Cautious(RuleOptimizer):
    """Cautious: no element moves against the sign of its gradient; the others move further.

    Args:
        rescale: how far the rest moves: over the mean of the mask, or a count.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Cautious``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        *,
        rescale: Literal["mean", "count"] = "mean",
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Centralize(RuleOptimizer):
    """Centralize: the gradient of every output's weights less its mean.

    Args:
        center_layout: output axis first ('oi') or last ('io').
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Centralize``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        *,
        center_layout: Literal["oi", "io"] = "oi",
        like: Literal["optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class ClipGlobalNorm(RuleOptimizer):
    """ClipGlobalNorm: the gradients of all parameters together no longer than a norm.

    Args:
        max_norm: largest norm of all gradients [gradient]; > 0.
        norm_eps: added to the norm [gradient]; >= 0.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.ClipGlobalNorm``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        max_norm: _Scalar = 1.0,
        norm_eps: _Scalar = 0.0,
        *,
        like: Literal["torch", "optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class ClipNorm(RuleOptimizer):
    """ClipNorm: the gradient of every parameter no longer than a norm, each by itself.

    Args:
        clip_norm: largest norm of a gradient [gradient]; > 0.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.ClipNorm``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        clip_norm: _Scalar = 1.0,
        *,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class ClipValue(RuleOptimizer):
    """ClipValue: every element of the gradient no larger than a value.

    Args:
        max_value: largest absolute value [gradient]; > 0.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.ClipValue``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        max_value: _Scalar = 1.0,
        *,
        like: Literal["torch", "optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class LAMB(RuleOptimizer):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

    Args:
        lr: step size, relative to the norm of the parameter [1]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        scale_clip: bounds of the parameter's norm [parameter]; >= 0 and in ascending order.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.LAMB``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-06,
        eps_root: _Scalar = 0.0,
        scale_clip: tuple[_Scalar, _Scalar] = (0.0, float("inf")),
        weight_decay: _Scalar = 0.0,
        *,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "keras", "paper", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class LARS(RuleOptimizer):
    """LARS: momentum whose steps are, for every parameter, a fraction of its own norm.

    Args:
        lr: step size, in units of the parameter's norm [1/trust_coefficient]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        trust_coefficient: norm of a step over that of the parameter [1]; > 0.
        eps: added to the divisor of the ratio [gradient]; >= 0.
        scale_clip: bounds of the parameter's norm [parameter]; >= 0 and in ascending order.
        dampening: part of a step kept out of m [1]; in [0, 1].
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        ratio_at: the ratio goes into m, or multiplies m.
        lr_at: lr multiplies m, or what goes into m.
        nesterov: look one step of momentum ahead.
        momentum_form: m is a decaying sum of steps, or their mean.
        momentum_start: m before the first step is zero, or the first step.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.LARS``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 1.0,
        momentum: _Scalar = 0.9,
        trust_coefficient: _Scalar = 0.001,
        eps: _Scalar = 0.0,
        scale_clip: tuple[_Scalar, _Scalar] = (0.0, float("inf")),
        dampening: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        ratio_at: Literal["inside", "outside"] = "inside",
        lr_at: Literal["outside", "inside"] = "inside",
        nesterov: bool = False,
        momentum_form: Literal["sum", "mean"] = "sum",
        momentum_start: Literal["zero", "gradient"] = "zero",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Lion(RuleOptimizer):
    """Lion: the sign of an interpolation between momentum and gradient.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0.
        betas: weight of m in the sign, and decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        start: m before the first step.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Lion``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.0001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.99),
        weight_decay: _Scalar = 0.0,
        *,
        start: Literal["zero", "gradient"] = "zero",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "mlx", "keras", "paper", "mlx-0.0"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Lookahead(RuleOptimizer):
    """Lookahead: another rule explores, and slow weights follow it every few steps.

    Args:
        sync_period: steps of the wrapped rule between synchronisations [steps]; >= 1.
        sync_rate: how far slow follows fast [1]; in [0, 1].
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Lookahead``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        sync_period: _Whole = 6,
        sync_rate: _Scalar = 0.5,
        *,
        like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Muon(RuleOptimizer):
    """Muon: momentum, orthogonalised, so that every direction of a matrix moves alike.

    Args:
        lr: step size, in spectral norm per step [parameter]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        nesterov: look one step of momentum ahead.
        ns_steps: Newton-Schulz iterations.
        layout: output axis first ('oi': torch, MLX) or last ('io': Flax).
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Muon``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.02,
        momentum: _Scalar = 0.95,
        weight_decay: _Scalar = 0.0,
        *,
        nesterov: bool = True,
        ns_steps: int = 5,
        layout: Literal["oi", "io"] = "oi",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class NAdam(RuleOptimizer):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        momentum_decay: pace of the momentum's schedule [1/step]; > 0.
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        momentum_schedule: let the momentum grow from beta1 / 2 to beta1.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.NAdam``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.002,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        momentum_decay: _Scalar = 0.004,
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        momentum_schedule: bool = True,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "keras"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Prodigy(RuleOptimizer):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

    Args:
        lr: multiple of the estimated step size [1]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        beta3: decay per step of s; None is sqrt(beta2) [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; > 0.
        d0: first estimate of d [parameter]; > 0.
        d_coef: multiple of the estimate [1]; > 0.
        growth_rate: largest factor of d per step [1]; >= 1.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        bias_correction: correct m and v for their start at zero.
        safeguard_warmup: leave lr out of s, for long warm-ups.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Prodigy``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 1.0,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        beta3: _Scalar | None = None,
        eps: _Scalar = 1e-08,
        d0: _Scalar = 1e-06,
        d_coef: _Scalar = 1.0,
        growth_rate: _Scalar = float("inf"),
        weight_decay: _Scalar = 0.0,
        *,
        bias_correction: bool = False,
        safeguard_warmup: bool = False,
        decay: Literal["l2", "in_update"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class RAdam(RuleOptimizer):
    """RAdam: Adam rectified for the variance of its divisor in the first steps.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        threshold: rho from which the divisor is trusted [steps]; >= 4.
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        below: the step before that.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.RAdam``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0,
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        below: Literal["momentum", "adam", "skip"] = "momentum",
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "paper", "labml"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class RMSprop(RuleOptimizer):
    """RMSprop: the gradient in units of its root mean square.

    Args:
        lr: step size [parameter]; >= 0.
        alpha: decay per step of v and g [1/step]; in [0, 1).
        initial_v: v before the first step [gradient^2]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        dampening: part of a step kept out of m [1]; in [0, 1].
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        centered: divide by the standard deviation, not the root mean square.
        bias_correction: correct v and g for their start.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        nesterov: look one step of momentum ahead.
        momentum_form: m is a decaying sum of steps, or their mean.
        momentum_start: m before the first step is zero, or the first step.
        lr_at: lr multiplies m, or what goes into m.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.RMSprop``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.01,
        alpha: _Scalar = 0.99,
        initial_v: _Scalar = 0.0,
        momentum: _Scalar = 0.0,
        dampening: _Scalar = 0.0,
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        centered: bool = False,
        bias_correction: bool = False,
        eps_at: Literal["outside", "inside"] = "outside",
        nesterov: bool = False,
        momentum_form: Literal["sum", "mean"] = "sum",
        momentum_start: Literal["zero", "gradient"] = "zero",
        lr_at: Literal["outside", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0", "jax-example"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class RaLars(RuleOptimizer):
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        threshold: rho from which the divisor is trusted [steps]; >= 4.
        scale_clip: bounds of the parameter's norm [parameter]; >= 0 and in ascending order.
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        force_adaptive_momentum: Adam's direction until rho exceeds the threshold.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        start: m and v before the first step: zero, or the first gradient and its square.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.RaLars``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        threshold: _Scalar = 4.0,
        scale_clip: tuple[_Scalar, _Scalar] = (0.0, 10.0),
        eps: _Scalar = 1e-08,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        force_adaptive_momentum: bool = False,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        start: Literal["zero", "gradient"] = "zero",
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Rprop(RuleOptimizer):
    """Rprop: the sign of the gradient, times a step size that every element finds for itself.

    Args:
        lr: first step size [parameter]; >= 0.
        etas: factors of the step size: sign changed, sign kept [1]; > 0.
        step_sizes: bounds of size [parameter]; >= 0 and in ascending order.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        lag: apply the update of the step before.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Rprop``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.01,
        etas: tuple[_Scalar, _Scalar] = (0.5, 1.2),
        step_sizes: tuple[_Scalar, _Scalar] = (1e-06, 50.0),
        weight_decay: _Scalar = 0.0,
        *,
        lag: bool = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class SGD(RuleOptimizer):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

    Args:
        lr: step size [parameter/gradient]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        dampening: part of a step kept out of m [1]; in [0, 1].
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        momentum_start: m before the first step is zero, or the first step.
        bare_decay: weight decay applies without momentum too.
        nesterov: look one step of momentum ahead.
        momentum_form: m is a decaying sum of steps, or their mean.
        lr_at: lr multiplies m, or what goes into m.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.SGD``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        momentum: _Scalar = 0.0,
        dampening: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        momentum_start: Literal["zero", "gradient"] = "gradient",
        bare_decay: bool = True,
        nesterov: bool = False,
        momentum_form: Literal["sum", "mean"] = "sum",
        lr_at: Literal["outside", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["torch", "optax", "mlx", "keras", "paper", "mlx-0.0", "jax-example"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class SM3(RuleOptimizer):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

    Args:
        lr: step size [parameter]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        eps: added to the root of nu, or under it [gradient]; >= 0.
        dampening: part of a step kept out of m [1]; in [0, 1].
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        momentum_form: m is a decaying sum of steps, or their mean.
        nesterov: look one step of momentum ahead.
        momentum_start: m before the first step is zero, or the first step.
        lr_at: lr multiplies m, or what goes into m.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.SM3``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.1,
        momentum: _Scalar = 0.9,
        eps: _Scalar = 0.0,
        dampening: _Scalar = 0.0,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        eps_at: Literal["inside", "outside"] = "inside",
        momentum_form: Literal["sum", "mean"] = "mean",
        nesterov: bool = False,
        momentum_start: Literal["zero", "gradient"] = "zero",
        lr_at: Literal["outside", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper", "jax-example"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Scout(RuleOptimizer):
    """Scout: Lookahead that follows further where the steps of a period disagree.

    Args:
        sync_rate: least that slow follows fast [1]; in [0, 1].
        sync_period: steps of the wrapped rule between synchronisations.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Scout``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        sync_rate: _Scalar = 0.5,
        *,
        sync_period: int = 6,
        like: Literal["holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class SignSGD(RuleOptimizer):
    """signSGD: the sign of the gradient.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.SignSGD``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.0001,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Signum(RuleOptimizer):
    """Signum: the sign of the momentum.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        momentum_start: m before the first step is zero, or the first step.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Signum``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.0001,
        momentum: _Scalar = 0.9,
        weight_decay: _Scalar = 0.0,
        *,
        momentum_start: Literal["zero", "gradient"] = "zero",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class SkipNonFinite(RuleOptimizer):
    """SkipNonFinite: no step where any gradient of any parameter is NaN or infinite.

    Args:
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.SkipNonFinite``.
    """

    def __init__(
        self,
        params: ParamsT,
        rule: Rule,
        *,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class TAdam(RuleOptimizer):
    """TAdam: Adam whose mean gradient gives outliers little weight.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; > 0.
        dof: degrees of freedom of the t-distribution [1]; > 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        bias_correction: correct m and v for their start at zero.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.TAdam``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        dof: _Scalar | None = None,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        bias_correction: bool = True,
        amsgrad: Literal[False, True, "corrected"] = False,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...

class Yogi(RuleOptimizer):
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v, where eps_at says [gradient]; >= 0.
        initial_m: m before the first step [gradient]; of any size.
        initial_v: v before the first step [gradient^2]; >= 0.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        bias_correction: correct m and v for their start at zero.
        eps_at: eps is added to the root, to the root before its correction, or under it.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state, or of single slots; None is the parameter's.
        like: a library whose numbers to give; what it sets goes behind what is given here.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies.
        groups: pairs of such a predicate and the hyperparameters that are different there.

    Equations, source and kin: ``samestep.Yogi``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: _Scalar = 0.01,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 0.001,
        initial_m: _Scalar = 0.0,
        initial_v: _Scalar = 1e-06,
        eps_root: _Scalar = 0.0,
        weight_decay: _Scalar = 0.0,
        *,
        bias_correction: bool = False,
        eps_at: Literal["outside", "uncorrected", "inside"] = "outside",
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
        execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...
