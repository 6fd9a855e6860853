# Written by python -m samestep.conformance.stubs from the declarations of the rules.
"""samestep in MLX: every rule as an ``mlx.optimizers.Optimizer``.

    from samestep.mlx import Adan
    optimizer = Adan(lr=1e-3)
    optimizer.update(model, grads)

``state`` is MLX's: ``step``, ``learning_rate``, and under every parameter's path a dict of the
rule's slots; what a rule keeps for all parameters together is under ``shared_state``. State is made
from the parameters, never from gradients. Other hyperparameters are attributes, such as
``optimizer.betas``, and as with MLX's own they are constants inside ``mx.compile``.

Outside ``mx.compile`` the step is known and scalars are computed on the host in float64. In a
training step compiled with ``inputs=state, outputs=state`` they are traced, in a form without
cancellation.
"""

from typing import Literal
from ..rule import Rule
from ..rules import _Scalar, _Whole

from .optimizer import EXECUTIONS as EXECUTIONS
from .optimizer import RuleOptimizer as RuleOptimizer
from .optimizer import bind as bind

__all__ = [
    "EXECUTIONS",
    "RuleOptimizer",
    "bind",
]

class Adam(RuleOptimizer):
    """Adam: a step along the mean gradient, in units of its root mean square.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.Adam``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class AdamW(RuleOptimizer):
    """Adam with weight decay kept apart from the gradient.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: fraction of the parameter removed per step, times lr [1/lr]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.AdamW``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        weight_decay: _Scalar = 0.01,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class Adan(RuleOptimizer):
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m, v and n [1/step]; in [0, 1).
        eps: added to the root of n [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.Adan``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar, _Scalar] = (0.98, 0.92, 0.99),
        eps: _Scalar = 1e-08,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "proximal",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class LAMB(RuleOptimizer):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

    Args:
        lr: step size, relative to the norm of the parameter [1]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.LAMB``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-06,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class Lion(RuleOptimizer):
    """Lion: the sign of an interpolation between momentum and gradient.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0.
        betas: weight of m in the sign, and decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.Lion``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.0001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.99),
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class Lookahead(RuleOptimizer):
    """Lookahead: another rule explores, and slow weights follow it every few steps.

    Args:
        sync_period: steps of the wrapped rule between synchronisations [steps]; >= 1.
        sync_rate: how far slow follows fast [1]; in [0, 1].

    Equations, source and kin: ``samestep.Lookahead``.
    """

    def __init__(
        self,
        rule: Rule,
        sync_period: _Whole = 6,
        sync_rate: _Scalar = 0.5,
        *,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class Muon(RuleOptimizer):
    """Muon: momentum, orthogonalised, so that every direction of a matrix moves alike.

    Args:
        lr: step size, in spectral norm per step [parameter]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        nesterov: look one step of momentum ahead.
        ns_steps: Newton-Schulz iterations.
        layout: output axis first ('oi': torch, MLX) or last ('io': Flax).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.Muon``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.02,
        momentum: _Scalar = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        layout: Literal["oi", "io"] = "oi",
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class Prodigy(RuleOptimizer):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

    Args:
        lr: multiple of the estimated step size [1]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        beta3: decay per step of s; None is sqrt(beta2) [1/step]; in [0, 1).
        d0: first estimate of d [parameter]; > 0.
        d_coef: multiple of the estimate [1]; > 0.
        growth_rate: largest factor of d per step [1]; >= 1.
        bias_correction: correct m and v for their start at zero.
        safeguard_warmup: leave lr out of s, for long warm-ups.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.Prodigy``.
    """

    def __init__(
        self,
        lr: _Scalar = 1.0,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.999),
        eps: _Scalar = 1e-08,
        weight_decay: _Scalar = 0.0,
        beta3: _Scalar | None = None,
        d0: _Scalar = 1e-06,
        d_coef: _Scalar = 1.0,
        growth_rate: _Scalar = float("inf"),
        bias_correction: bool = False,
        safeguard_warmup: bool = False,
        *,
        decay: Literal["l2", "in_update"] = "in_update",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class SGD(RuleOptimizer):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

    Args:
        lr: step size [parameter/gradient]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        dampening: part of the gradient kept out of m [1]; in [0, 1].
        nesterov: step along grad + momentum m.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.SGD``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.001,
        momentum: _Scalar = 0.0,
        dampening: _Scalar = 0.0,
        nesterov: bool = False,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "l2",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...

class SM3(RuleOptimizer):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

    Args:
        lr: step size [parameter]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.

    Equations, source and kin: ``samestep.SM3``.
    """

    def __init__(
        self,
        lr: _Scalar = 0.1,
        momentum: _Scalar = 0.9,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
        execution: Literal["reference", "compiled"] = "reference",
    ) -> None: ...
