# Written by python -m samestep.conformance.stubs from the declarations of the rules.
"""The update rules, one file each. Every module here is imported; none is listed by hand."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias
from ..rule import Rule, Wrapper

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

__all__ = [
    "Adam",
    "AdamW",
    "Adan",
    "LAMB",
    "Lion",
    "Lookahead",
    "Muon",
    "Prodigy",
    "SGD",
    "SM3",
]

class Adam(AdamW):
    """Adam: a step along the mean gradient, in units of its root mean square.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) grad^2
        m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)
        param = param - lr m_hat / (sqrt(v_hat) + eps)

    Weight decay, if any, is coupled: weight_decay param is added to the gradient first.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980,
        Algorithm 1 (eps added to the root of the corrected v).
    Agrees with: torch.optim.Adam; optax.adam; mlx.optimizers.Adam(bias_correction=True).
    Differs from: mlx.optimizers.Adam by default, which leaves the bias correction out (first step
        3.16 times as long); keras.optimizers.Adam, which adds eps = 1e-7 before the correction.
    Shapes: grad, param, m and v are equal, any shape.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.
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
    ) -> None: ...

class AdamW(Rule):
    """Adam with weight decay kept apart from the gradient.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) grad^2
        m_hat = m / (1 - beta1^t),  v_hat = v / (1 - beta2^t)
        param = (1 - lr weight_decay) param - lr m_hat / (sqrt(v_hat) + eps)

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101,
        Algorithm 2, with the decay multiplied by lr as every library does.
    Agrees with: torch.optim.AdamW; optax.adamw; mlx.optimizers.AdamW(bias_correction=True).
    Differs from: mlx.optimizers.AdamW by default, which leaves the bias correction out;
        keras.optimizers.AdamW, which adds eps before the correction of v. optax and MLX take
        1 - beta^t in float32 (58 ULP of the first update); weight_decay is 1e-4 in optax.
    Shapes: grad, param, m and v are equal, any shape.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: fraction of the parameter removed per step, times lr [1/lr]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.
    """

    lr: Any
    betas: Any
    eps: Any

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
    ) -> None: ...

class Adan(Rule):
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients.

        diff  = grad - prev                            (zero at the first step)
        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) diff
        n     = beta3 n + (1 - beta3) (grad + beta2 diff)^2
        param = (param - lr (m_hat + beta2 v_hat) / (sqrt(n_hat) + eps)) / (1 + lr weight_decay)

    with x_hat = x / (1 - beta^t), each with its own beta.

    Source: Xie, Zhou, Li, Lin and Yan, "Adan: adaptive Nesterov momentum algorithm for faster
        optimizing deep models", arXiv 2208.06677, Algorithm 1, as in the authors' code, whose
        betas are 1 minus the paper's; decay="decoupled" is their no_prox.
    Agrees with: sail-sg/Adan; the copies in timm, pytorch_optimizer and torch-optimi.
    Differs from: optax.adan (0.2.8), which weights diff and v_hat by 1 - beta2 = 0.08 instead of
        beta2 = 0.92 (optax#1715); holocron's Adan, which never stores the previous gradient.
    Shapes: grad, param and every slot are equal, any shape.

    Args:
        lr: step size [parameter]; >= 0.
        betas: decay per step of m, v and n [1/step]; in [0, 1).
        eps: added to the root of n [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.
    """

    lr: Any
    betas: Any
    eps: Any

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
    ) -> None: ...

class LAMB(AdamW):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

        m, v  = as in Adam;  m_hat, v_hat = corrected for their start at zero
        r     = m_hat / (sqrt(v_hat) + eps) + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
        arXiv 1904.00962, Algorithm 2 with phi the identity.
    Agrees with: optax.lamb; mlx-optimizers' Lamb; timm's Lamb with always_adapt and without its
        clipping of the global norm.
    Differs from: pytorch_optimizer's Lamb, which corrects m after the ratio (first step 10 times
        as long); holocron's, which corrects nothing; keras.optimizers.Lamb, which decays outside
        the ratio (here decay="decoupled").
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.

    Args:
        lr: step size, relative to the norm of the parameter [1]; >= 0.
        betas: decay per step of m and v [1/step]; in [0, 1).
        eps: added to the root of v [gradient]; >= 0.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.
    """

    lr: Any
    eps: Any

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
    ) -> None: ...

class Lion(Rule):
    """Lion: the sign of an interpolation between momentum and gradient.

        c     = beta1 m + (1 - beta1) grad
        param = (1 - lr weight_decay) param - lr sign(c)
        m     = beta2 m + (1 - beta2) grad

    Source: Chen et al., "Symbolic discovery of optimization algorithms", arXiv 2302.06675,
        Algorithm 2, as in the authors' code (google/automl, lion).
    Agrees with: lion-pytorch; optax.lion; mlx.optimizers.Lion.
    Differs from: optax.lion in weight_decay by default (1e-3), keras.optimizers.Lion in lr by
        default (1e-3); early MLX, which started m at the first gradient.
    Shapes: grad, param and m are equal, any shape. A NaN stays NaN.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0.
        betas: weight of m in the sign, and decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.
    """

    lr: Any
    betas: Any

    def __init__(
        self,
        lr: _Scalar = 0.0001,
        betas: tuple[_Scalar, _Scalar] = (0.9, 0.99),
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
    ) -> None: ...

class Lookahead(Wrapper):
    """Lookahead: another rule explores, and slow weights follow it every few steps.

        fast  = the wrapped rule's step
        every sync_period steps:  slow = slow + sync_rate (fast - slow),  fast = slow

    Source: Zhang, Lucas, Hinton and Ba, "Lookahead optimizer: k steps forward, 1 step back",
        arXiv 1907.08610, Algorithm 1. The slow weights start at the initial parameters.
    Agrees with: optax.lookahead; holocron's Lookahead.
    Differs from: timm's Lookahead, which starts slow at the first synchronisation, so that the
        first one does nothing.
    Shapes: slow is shaped like param; everything else is the wrapped rule's.

    Args:
        sync_period: steps of the wrapped rule between synchronisations [steps]; >= 1.
        sync_rate: how far slow follows fast [1]; in [0, 1].
    """

    sync_period: Any
    sync_rate: Any

    def __init__(
        self,
        rule: Rule,
        sync_period: _Whole = 6,
        sync_rate: _Scalar = 0.5,
    ) -> None: ...

class Muon(Rule):
    """Muon: momentum, orthogonalised, so that every direction of a matrix moves alike.

        m     = momentum m + (1 - momentum) grad
        look  = momentum m + (1 - momentum) grad             (m itself without nesterov)
        param = (1 - lr weight_decay) param - lr sqrt(max(1, outputs/inputs)) NS(look)

    NS is the Newton-Schulz iteration, in the compute dtype. A convolution kernel counts as a
    matrix of (outputs, everything else).

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, and
        the authors' muon.py (no paper number).
    Agrees with: mlx.optimizers.Muon without decay; optax.contrib.muon(nesterov=False).
    Differs from: the authors' code and torch.optim.Muon, which iterate in bfloat16 (1 % of the
        update); mlx.optimizers.Muon, which decays through the iteration; optax's nesterov, which
        corrects both terms for their start; the authors' and MLX's scale of a convolution kernel,
        taken from kernel height and width there.
    Shapes: two dimensions or more; grad, param and m are equal. ``layout`` names the output axis.

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
    """

    lr: Any
    momentum: Any
    nesterov: Any
    ns_steps: Any
    layout: Any

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
    ) -> None: ...

class Prodigy(Adam):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

        m, v  = as in Adam, but of d grad;  s = beta3 s + (d/d0) d lr grad
        d     = max(d, d_coef (beta3 numerator + sum of (d/d0) d lr grad (p0 - param)) / ||s||_1)
        param = param - lr d (m / (sqrt(v) + d eps) + weight_decay param)      (eps: the new d)

    Source: Mishchenko and Defazio, arXiv 2306.06101, the Adam version, as in prodigyopt 1.1.2.
    Agrees with: prodigyopt; optax.contrib.prodigy with bias_correction=True.
    Differs from: prodigyopt's slice_p, not offered; optax, which always corrects the bias.
    Shapes: grad, param and slots are equal; d, d_max and numerator are 0-d, for all parameters.

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
    """

    lr: Any
    beta3: Any
    d0: Any
    d_coef: Any
    growth_rate: Any
    bias_correction: Any
    safeguard_warmup: Any

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
    ) -> None: ...

class SGD(Rule):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

        m     = momentum m + (1 - dampening) grad      (m = grad at the first step)
        param = param - lr m                           (nesterov: lr (grad + momentum m))

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
        in deep learning", ICML 2013, in the form that torch.optim.SGD gives it.
    Agrees with: torch.optim.SGD; optax.sgd and mlx.optimizers.SGD without dampening.
    Differs from: mlx.optimizers.SGD with dampening, which starts m at zero and so dampens the
        first gradient too; keras.optimizers.SGD, which keeps lr inside m.
    Shapes: grad, param and m are equal, any shape. m exists only with momentum.

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
    """

    lr: Any
    momentum: Any
    dampening: Any
    nesterov: Any

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
    ) -> None: ...

class SM3(Rule):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

        nu    = min over axes of mu + grad^2
        mu    = for every axis, the maximum of nu along all the others
        m     = momentum m + (1 - momentum) grad / sqrt(nu)      (0 where nu is 0)
        param = param - lr m

    Source: Anil, Gupta, Koren and Singer, "Memory-efficient adaptive optimization",
        arXiv 1901.11150, Algorithm SM3-II, with the momentum of the authors' code.
    Agrees with: jax.example_libraries.optimizers.sm3; pytorch_optimizer's SM3(momentum=0.9).
    Differs from: optax.sm3, which adds eps = 1e-8 inside the root and has one accumulator per
        element for vectors as here; jax.example_libraries, which refuses 0-d parameters.
    Shapes: grad, param and m are equal; mu holds for each axis one array of size 1 along all
        the others, and one of the parameter's own shape below two dimensions.

    Args:
        lr: step size [parameter]; >= 0.
        momentum: decay per step of m [1/step]; in [0, 1).
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0.
        decay: how weight decay enters.
        maximize: ascend instead of descend.
        state_dtype: dtype of the state; None is the parameter's.
    """

    lr: Any
    momentum: Any

    def __init__(
        self,
        lr: _Scalar = 0.1,
        momentum: _Scalar = 0.9,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "proximal", "in_update"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
    ) -> None: ...
