# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules.
"""The update rules, one file each. Every module here is imported; none is listed by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias
from ..rule import Rule
from ..wrapper import Wrapper
from ..groups import Predicate
from ..parts.conditional import Conditional
from ..parts.layerwise import Layerwise
from ..parts.moments import Moments, Rooted
from ..parts.momentum import Momentum

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
    "AMSGrad",
    "Accumulate",
    "AdEMAMix",
    "AdaBelief",
    "AdaDelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamP",
    "AdamW",
    "Adamax",
    "Adan",
    "AdaptiveClip",
    "Average",
    "Cautious",
    "Centralize",
    "ClipGlobalNorm",
    "ClipNorm",
    "ClipValue",
    "LAMB",
    "LARS",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "RaLars",
    "Rprop",
    "SGD",
    "SM3",
    "Scout",
    "SignSGD",
    "Signum",
    "SkipNonFinite",
    "TAdam",
    "Yogi",
]

class AMSGrad(Adam):
    """AMSGrad: Adam that divides by the largest mean square so far.

        v_max = max(v_max, v)
        param = param - lr m_hat / (sqrt(v_max_hat) + eps)

    with m, v and the corrections (of v_max by 1 - beta2^t) as in Adam. amsgrad="corrected" takes
    the maximum of the corrected v instead; then v_max needs no correction.

    Source: Reddi, Kale and Kumar, "On the convergence of Adam and beyond", arXiv 1904.09237,
        Algorithm 2, with Adam's bias correction, which the paper leaves out.
    Agrees with: torch.optim.Adam(amsgrad=True); optax.amsgrad with amsgrad="corrected".
    Differs from: optax.amsgrad, which takes the other reading (optax#1389); keras and labml in the
        place and size of eps.
    Shapes: grad, param, m, v and v_max are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        amsgrad: take the maximum before the correction of v, or after; True by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Adam(amsgrad=True); the defaults.
        optax: optax.amsgrad; amsgrad='corrected'.
        keras: keras.optimizers.Adam(amsgrad=True); eps=1e-07, eps_at='uncorrected',
            decay='decoupled'.
        paper: Algorithm 2; no bias correction; bias_correction=False.
        labml: labml_nn.optimizers.AMSGrad; eps=1e-16, eps_at='uncorrected', decay='decoupled'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    amsgrad: Any

    def __init__(
        self,
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
    ) -> None: ...

class Accumulate(Conditional):
    """Accumulate: the gradients of several calls, of micro-batches, make one step.

        accumulated = mean of the gradients since the last step
        every ``every`` calls:  the wrapped rule's step with it;  else nothing moves

    In between parameters and the wrapped rule's state stay as they are, to the last bit. Its steps
    alone are what its schedules and bias corrections count; schedules of wrappers around this one
    count calls. A mean in bfloat16 loses gradients: accumulated_dtype="float32".

    Give every parameter a gradient in every call, zeros where it has none. One that is missing is
    no zero: in NumPy, JAX and MLX the others weigh more, and if it is the last of a step, they are
    lost; torch, which counts the calls of each parameter, takes that parameter's step in another.
    Accumulate(SkipNonFinite(rule)) leaves out a step whose mean is NaN or infinite; the other way
    round a call that is skipped counts all the same, and if it is the last, the others are lost.

    Source: none; the running mean of Welford (1962), which does not grow with ``every``.
    Agrees with: optax.MultiSteps; in torch the sum of the gradients of losses divided by ``every``.
    Differs from: optax.MultiSteps in that ``every`` is fixed.
    Shapes: accumulated is shaped like param; everything else is the wrapped rule's.

    Args:
        rule: the rule inside.
        every: calls that make one step; a whole number >= 1; 2 by default.
        accumulated_dtype: dtype of accumulated; None is that of the state; one of None, 'float32',
            'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.MultiSteps; the defaults.

    State:
        accumulated: mean of the gradients since the last step.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    every: Any
    accumulated_dtype: Any

    def __init__(
        self,
        rule: Rule,
        *,
        every: int = 2,
        accumulated_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class AdEMAMix(Rooted):
    """AdEMAMix: Adam with a second, much slower mean of the gradient beside the first.

        m1    = beta1 m1 + (1 - beta1) grad
        m2    = beta3 m2 + (1 - beta3) grad
        v     = beta2 v + (1 - beta2) grad^2
        param = (1 - lr weight_decay) param - lr (m1_hat + alpha m2) / (sqrt(v_hat) + eps)

    The paper raises alpha and beta3 over T steps: alpha=schedules.Linear(0, 5, T) and
    betas=(0.9, 0.999, schedules.HalfLife(0.9, 0.9999, T)). They count from step slow_start, for
    a run that took so many steps before an m2 of zeros was added to its state.

    Source: Pagliardini, Ablin and Grangier, "The AdEMAMix optimizer: better, faster, older",
        arXiv 2409.03137, Algorithm 1 (m2 is not corrected).
    Agrees with: apple/ml-ademamix (both versions); optax.contrib.ademamix; pytorch_optimizer's.
    Differs from: holocron's, which couples the decay, and whose text averages (grad - m)^2; apple's
        torch version in alpha by default (2); optax's, whose mu_dtype holds for one step only.
    Shapes: grad, param and every slot are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m1, v and m2 [1/step]; in [0, 1); (0.9, 0.999, 0.9999) by default.
        alpha: weight of m2 [1]; >= 0; 5.0 by default.
        slow_start: step from which alpha's and beta3's schedules count [steps]; >= 0; 0 by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        bias_correction: correct m and v for their start at zero; True by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.contrib.ademamix; decay='in_update'.
        paper: what the paper prints; the defaults.
        holocron: holocron.optim.AdEMAMix; decay='l2'.
        xlstm: xlstm_jax.trainer.optimizer.ademamix; decay='in_update'.

    State:
        m1: fast mean of the gradient.
        m2: slow mean of the gradient.
        v: mean of the squared gradient.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    betas: Any
    alpha: Any
    slow_start: Any
    bias_correction: Any

    def __init__(
        self,
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
    ) -> None: ...

class AdaBelief(RAdam):
    """AdaBelief: Adam that divides by the spread of the gradient around its mean.

        m     = beta1 m + (1 - beta1) grad
        v     = beta2 v + (1 - beta2) (grad - m)^2 + eps_root
        param = param - lr m_hat / (sqrt(v_hat) + eps)       (rectify: as in RAdam)

    Source: Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed
        gradients", arXiv 2010.07468, Algorithm 2 (one eps for both, 1e-16 in the authors' code).
    Agrees with: optax.adabelief; adabelief-pytorch with rectify=False.
    Differs from: adabelief-pytorch and timm, which rectify by default; holocron's, which adds
        nothing to v and couples the decay; labml's, whose constructor passes its arguments one
        place on, so that it always takes the largest v and stands still until it rectifies.
    Shapes: grad, param, m and v are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        threshold: rho from which the divisor is trusted [steps]; >= 4; 4.0 by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-16 by default.
        eps_root: added to v at every step [gradient^2]; >= 0; 1e-16 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        below: the step before that; one of 'momentum', 'adam', 'skip'; 'momentum' by default.
        keep_eps: what is added to v stays there, or is added where v is read; True by default.
        rectify: rectify as RAdam does; False by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.adabelief; the defaults.
        paper: what the paper prints; the defaults.
        labml: labml_nn.optimizers.AdaBelief; amsgrad always, no step until rectified;
            keep_eps=False, amsgrad=True, rectify=True, threshold=5.0, below='skip'.
        holocron: holocron.optim.AdaBelief; eps=1e-08, eps_root=0.0, decay='l2'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    eps: Any
    eps_root: Any
    keep_eps: Any
    rectify: Any

    def __init__(
        self,
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
    ) -> None: ...

class AdaDelta(Rule):
    """AdaDelta: steps in units of the steps before, so that no step size is needed.

        v     = rho v + (1 - rho) grad^2
        delta = sqrt(u + eps) / sqrt(v + eps) grad
        u     = rho u + (1 - rho) delta^2
        param = param - lr delta

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", arXiv 1212.5701, Algorithm 1.
    Agrees with: torch.optim.Adadelta; optax.adadelta; mlx.optimizers.AdaDelta.
    Differs from: keras.optimizers.Adadelta, whose lr is 1e-3; MLX 0.0, which never read u back.
    Shapes: grad, param, v and u are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: multiple of the step [1]; >= 0; 1.0 by default.
        rho: decay per step of v and u [1/step]; in [0, 1); 0.9 by default.
        eps: added under both roots [gradient^2]; > 0; 1e-06 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        accumulate: u is read back; if not, it counts as zero at every step; True by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Adadelta; the defaults.
        optax: optax.adadelta; ascends if no learning rate is given; the defaults.
        mlx: mlx.optimizers.AdaDelta; the defaults.
        keras: keras.optimizers.Adadelta; lr=0.001, rho=0.95, eps=1e-07, decay='decoupled'.
        paper: Algorithm 1; rho=0.95.
        mlx-0.0: mlx.optimizers.AdaDelta of December 2023; u is never read back; accumulate=False.

    State:
        v: mean of the squared gradient.
        u: mean of the squared step.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    rho: Any
    eps: Any
    accumulate: Any

    def __init__(
        self,
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
    ) -> None: ...

class Adafactor(Momentum):
    """Adafactor: the mean square kept as one vector per row and one per column.

        rho   = min(lr, 1 / sqrt(t)),  scale = max(eps2, RMS(param)),  beta = 1 - t^-decay_rate
        row   = beta row + (1 - beta) mean over columns of (grad^2 + eps1);  col = likewise
        u     = grad / sqrt(row col / mean(row));  u = u / max(1, RMS(u) / clip_threshold)
        param = (1 - lr weight_decay) param - scale rho u

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost",
        arXiv 1804.04235, Algorithms 4 and 5.
    Agrees with: torch.optim.Adafactor but for eps1; mlx.optimizers.Adafactor.
    Differs from: torch, which bounds v from below by eps1^2 instead; optax.adafactor, which factors
        the two largest axes, of 128 at least, has no relative step, and decays without lr; MLX,
        which decays by the scaled step; keras, which keeps the whole v as well.
    Shapes: grad and param are equal; v is (row, col), with size 1 along one axis each, or (v,).

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: largest step, relative to the parameter [1]; >= 0; 0.01 by default.
        eps: least v, and least RMS(param) [gradient^2, parameter]; > 0; (1e-30, 0.001) by default.
        decay_rate: v forgets as 1 - t^-decay_rate [1]; in (0, 1]; 0.8 by default.
        clip_threshold: largest RMS of u [1]; > 0; 1.0 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        relative_step: shrink the step as 1 / sqrt(t); True by default.
        warmup_init: let the relative step begin at 1e-6 t; False by default.
        scale_parameter: multiply the step by RMS(param); True by default.
        eps_at: eps1 is added to grad^2, or bounds v; one of 'added', 'clamped'; 'added' by default.
        scale_at: RMS(param) before decay or after; one of 'before', 'after'; 'before' by default.
        axes: axes that are factored; one of 'last', 'largest'; 'last' by default.
        min_dim: least size of both axes for them to be factored; a whole number >= 1; 1 by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Adafactor; eps=(1.1920928955078125e-07, 0.001), eps_at='clamped'.
        optax: optax.adafactor; lr=1.0, relative_step=False, axes='largest', min_dim=128,
            decay='absolute'.
        mlx: mlx.optimizers.Adafactor; ignores lr; decay='in_update'.
        keras: keras.optimizers.Adafactor; lr=0.001, scale_at='after'.
        paper: Algorithms 4 and 5; the defaults.

    State:
        m: momentum; kept with momentum.
        v: mean squared gradient: per row and per column, or per element.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    eps: Any
    decay_rate: Any
    clip_threshold: Any
    relative_step: Any
    warmup_init: Any
    scale_parameter: Any
    eps_at: Any
    scale_at: Any
    axes: Any
    min_dim: Any

    def __init__(
        self,
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
    ) -> None: ...

class Adagrad(Rooted, Momentum):
    """Adagrad: the gradient in units of the root of all its squares so far.

        v     = v + grad^2
        param = param - lr / (1 + (t - 1) lr_decay) grad / (sqrt(v) + eps)

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods", JMLR 12, 2011, Figure 1.
    Agrees with: torch.optim.Adagrad; mlx.optimizers.Adagrad.
    Differs from: optax.adagrad and keras's, which start v at 0.1 and add eps under the root.
    Shapes: grad, param and every slot are equal, any shape. A quotient 0/0 counts as 0.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.01 by default.
        lr_decay: lr is divided by 1 + (t - 1) lr_decay [1/step]; >= 0; 0.0 by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-10 by default.
        initial_v: v before the first step [gradient^2]; >= 0; 0.0 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.0 by default.
        dampening: part of a step kept out of m [1]; in [0, 1]; 0.0 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'inside'; 'outside' by default.
        momentum_form: m is a decaying sum of steps, or their mean; one of 'sum', 'mean'; 'mean' by
            default.
        nesterov: look one step of momentum ahead; False by default.
        momentum_start: m before the first step is zero, or the first step; one of 'zero',
            'gradient'; 'zero' by default.
        lr_at: lr multiplies m, or what goes into m; one of 'outside', 'inside'; 'outside' by
            default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Adagrad; the defaults.
        optax: optax.adagrad; eps=1e-07, eps_at='inside', initial_v=0.1.
        mlx: mlx.optimizers.Adagrad; eps=1e-08.
        keras: keras.optimizers.Adagrad; lr=0.001, eps=1e-07, eps_at='inside', initial_v=0.1,
            decay='decoupled'.
        paper: Figure 1; the defaults.
        mlx-0.0: mlx.optimizers.Adagrad of December 2023; eps=1e-08.
        jax-example: jax.example_libraries.optimizers.adagrad; no eps; eps=0.0, momentum=0.9.

    State:
        m: momentum; kept with momentum.
        v: sum of the squared gradients.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    lr_decay: Any
    eps: Any
    initial_v: Any
    eps_at: Any
    momentum_form: Any

    def __init__(
        self,
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
    ) -> None: ...

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
        3.16 times as long); keras.optimizers.Adam, which adds eps = 1e-7 before the correction;
        labml's Adam, where optimized_update=True adds 1e-16 there (False: eps_at="outside"), and
        whose text has 1 - beta2^t where its root is meant. MLX 0.0 says it follows the paper,
        which corrects the bias and starts at zero.
    Shapes: grad, param, m and v are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Adam; the defaults.
        optax: optax.adam; the defaults.
        mlx: mlx.optimizers.Adam; no bias correction; bias_correction=False.
        keras: keras.optimizers.Adam; eps=1e-07, eps_at='uncorrected', decay='decoupled'.
        paper: what the paper prints; the defaults.
        mlx-0.0: mlx.optimizers.Adam of December 2023; no bias correction; bias_correction=False,
            start='gradient'.
        jax-example: jax.example_libraries.optimizers.adam; the defaults.
        labml: labml_nn.optimizers.Adam; eps=1e-16, eps_at='uncorrected', decay='decoupled'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    def __init__(
        self,
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
    ) -> None: ...

class AdamP(Adam):
    """AdamP: Adam without the part that only makes scale-invariant weights grow.

        u     = m_hat / (sqrt(v_hat) + eps)
        u     = u - <p, u> p,  p = param / ||param||     where |cos(param, grad)| < delta / sqrt(n)
        param = param - lr (u + weight_decay (wd_ratio where projected, else 1) param)

    tried on every output channel of n elements, then on the whole parameter; never on vectors.
    projection="signed" tries the whole parameter alone, of any shape, with the cosine's sign, and
    leaves the decay as it is.

    Source: Heo et al., "AdamP: slowing down the slowdown for momentum optimizers on
        scale-invariant weights", arXiv 2006.08217, Algorithm 2, as in clovaai/AdamP.
    Agrees with: clovaai/AdamP; timm's AdamP.
    Differs from: holocron's, which projects wherever the cosine is negative, vectors too, and whose
        text starts m at the first gradient.
    Shapes: grad, param, m and v are equal. ``layout`` names the output axis.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; > 0; 1e-08 by default.
        delta: largest cosine that is taken for a right angle [1]; >= 0; 0.1 by default.
        wd_ratio: share of the decay where projected [1]; in [0, 1]; 0.1 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        nesterov: look one step of momentum ahead; False by default.
        projection: the authors', or holocron's; one of 'channel', 'signed'; 'channel' by default.
        layout: output axis first ('oi') or last ('io'); one of 'oi', 'io'; 'oi' by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'in_update' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        paper: what the paper prints; the defaults.
        holocron: holocron.optim.AdamP; cosine with sign; projection='signed', decay='l2'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    eps: Any
    delta: Any
    wd_ratio: Any
    nesterov: Any
    projection: Any
    layout: Any

    def __init__(
        self,
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
    ) -> None: ...

class AdamW(Moments):
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

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: fraction of the parameter removed per step, times lr [1/lr]; >= 0; 0.01 by
            default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.AdamW; the defaults.
        optax: optax.adamw; decay='in_update', weight_decay=0.0001.
        mlx: mlx.optimizers.AdamW; no bias correction; bias_correction=False.
        keras: keras.optimizers.AdamW; eps=1e-07, eps_at='uncorrected', weight_decay=0.004.
        paper: Algorithm 2; decay not times lr; decay='absolute', weight_decay=0.0.
        mlx-0.0: mlx.optimizers.AdamW of December 2023; no bias correction; bias_correction=False,
            start='gradient'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    def __init__(
        self,
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
    ) -> None: ...

class Adamax(Moments):
    """Adamax: Adam with the largest decayed gradient in place of the root mean square.

        m     = beta1 m + (1 - beta1) grad
        u     = max(beta2 u, |grad| + eps)
        param = param - lr m / (1 - beta1^t) / u

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", arXiv 1412.6980,
        Algorithm 2, with eps against division by zero, which the paper leaves out.
    Agrees with: torch.optim.Adamax; optax.adamax.
    Differs from: keras.optimizers.Adamax and jax.example_libraries, which add eps to u where it is
        read; mlx.optimizers.Adamax, which does so and leaves the correction of m out, so that the
        first step is a tenth as long.
    Shapes: grad, param, m and u are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.002 by default.
        betas: decay per step of m and u [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        bias_correction: correct m for its start at zero; True by default.
        eps_at: eps is added to |grad| inside the maximum, or to u where it is read; one of
            'inside', 'outside'; 'inside' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Adamax; the defaults.
        optax: optax.adamax and adamaxw; decay='in_update'.
        mlx: mlx.optimizers.Adamax; no correction; eps_at='outside', bias_correction=False.
        keras: keras.optimizers.Adamax; lr=0.001, eps=1e-07, eps_at='outside', decay='decoupled'.
        paper: Algorithm 2; no eps; eps=0.0.
        mlx-0.0: mlx.optimizers.Adamax of December 2023; no correction; eps_at='outside',
            bias_correction=False.
        jax-example: jax.example_libraries.optimizers.adamax; eps_at='outside'.

    State:
        m: mean of the gradient.
        u: largest gradient, decaying.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    betas: Any
    bias_correction: Any
    eps_at: Any

    def __init__(
        self,
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
    ) -> None: ...

class Adan(Rooted):
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
        beta2 = 0.92 (optax#1715); holocron's, which never stores the previous gradient and whose
        text weights v_hat by 1 - beta2; the paper, without correction, from m = grad, n = grad^2.
    Shapes: grad, param and every slot are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m, v and n [1/step]; in [0, 1); (0.98, 0.92, 0.99) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest n so far; False by default.
        difference_weight: weight of diff and v_hat; one of 'beta2', '1-beta2'; 'beta2' by default.
        keep_previous: prev is kept; if not, it is zero at every step; True by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'proximal' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.adan; eps_root=1e-08, difference_weight='1-beta2', decay='in_update'.
        paper: Algorithm 1; bias_correction=False, start='gradient'.
        holocron: holocron.optim.Adan; keep_previous=False, decay='l2+proximal'.

    State:
        m: mean of the gradient.
        v: mean of the difference between successive gradients.
        n: mean of the squared, corrected gradient.
        prev: gradient of the step before.
        n_max: largest n so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    betas: Any
    bias_correction: Any
    start: Any
    amsgrad: Any
    difference_weight: Any
    keep_previous: Any

    def __init__(
        self,
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
    ) -> None: ...

class AdaptiveClip(Wrapper):
    """AdaptiveClip: the gradient of every unit no longer than a fraction of the unit's weights.

        most = clipping max(||unit of param||, min_norm)
        grad = grad min(1, most / ||unit of grad||),  and the wrapped rule's step with it

    A unit is what belongs to one output; vectors and scalars are one unit as a whole. The gradient
    is clipped as it is given, before ``maximize`` and before coupled weight decay. The paper leaves
    the last layer out: ``route`` it to the rule alone.

    Source: Brock, De, Smith and Simonyan, "High-performance large-scale image recognition without
        normalization", arXiv 2102.06171, equation 3.
    Agrees with: timm's adaptive_clip_grad; the authors' code and optax.adaptive_grad_clip with
        clip_layout="io", for kernels of two and of four dimensions or more.
    Differs from: the authors' and optax's for three dimensions, of which they take the first alone
        as inputs, and for one that is a vector but for axes of one element, which they take as one
        unit; all three where clipping min_norm is below 1e-6, the least norm they divide by.
    Shapes: grad keeps its shape; ``clip_layout`` names the output axis; no state of its own.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        clipping: largest norm of a gradient, in norms of its unit [gradient/parameter]; > 0; 0.01
            by default.
        min_norm: least norm that a unit counts with [parameter]; > 0; 0.001 by default.
        clip_layout: output axis first ('oi') or last ('io'); one of 'oi', 'io'; 'oi' by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    State:
        nothing beside the wrapped rule's.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    clipping: Any
    min_norm: Any
    clip_layout: Any

    def __init__(
        self,
        rule: Rule,
        clipping: _Scalar = 0.01,
        min_norm: _Scalar = 0.001,
        *,
        clip_layout: Literal["oi", "io"] = "oi",
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class Average(Wrapper):
    """Average: beside the parameters, their average over the steps taken.

        param   = the wrapped rule's step
        average = param                                            in the first average_start steps
        average = average_decay average + (1 - average_decay) param      "ema", from then on
        average = average + (param - average) / n                        "equal", n = 1, 2, ...

    "debiased" divides the weights of "ema" by 1 - average_decay^n, so that no weight is left on
    what average was before. ``samestep.averaged(rule, params, state)`` gives the averaged
    parameters; in torch they are ``optimizer.state[param]["average"]``. An average in bfloat16
    stands still: average_dtype="float32".

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992
        ("equal"); Izmailov et al., arXiv 1803.05407 (the same, from a step on).
    Agrees with: torch.optim.swa_utils.AveragedModel, updated after every step ("ema" with
        average_start=1; "equal"); optax.incremental_update and timm's ModelEma ("ema"); optax.ema
        of the parameters ("debiased").
    Differs from: averages of buffers, such as batch norm's, which no optimizer sees.
    Shapes: average is shaped like param; everything else is the wrapped rule's.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        average_decay: decay per step of average [1/step]; in [0, 1); 0.999 by default.
        average_start: steps before averaging begins [steps]; >= 0; 0 by default.
        averaging: the weights; one of 'ema', 'debiased', 'equal'; 'ema' by default.
        average_dtype: dtype of average; None is that of the state; one of None, 'float32',
            'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    State:
        average: average of the parameter.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    average_decay: Any
    average_start: Any
    averaging: Any
    average_dtype: Any

    def __init__(
        self,
        rule: Rule,
        average_decay: _Scalar = 0.999,
        average_start: _Whole = 0,
        *,
        averaging: Literal["ema", "debiased", "equal"] = "ema",
        average_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class Cautious(Wrapper):
    """Cautious: no element moves against the sign of its gradient; the others move further.

        mask  = 1 where the wrapped rule's direction and the gradient have one sign, else 0
        param = param - lr direction mask / max(mean(mask), 1e-3),  with the wrapped rule's decay

    Weight decay that is no part of the direction stays whole. The gradient is the one that the rule
    inside has: with its sign, coupled decay and what wrappers around it have made of it.
    rescale="count" divides by (sum(mask) + 1) / elements instead.

    Source: Liang, Chen, Liu and Liu, "Cautious optimizers: improving training with one line of
        code", arXiv 2411.16085, Algorithm 1, as in the authors' c_adamw.py.
    Agrees with: timm's caution=True; rescale="count": the authors' first version;
        pytorch_optimizer's cautious=True.
    Differs from: Algorithm 1, which adds an eps to the mean; rules that decay inside their
        direction (LAMB, Prodigy), of which timm masks the step before its decay.
    Shapes: the mean runs over each parameter by itself; no state beside the wrapped rule's.

    Args:
        rule: the rule inside.
        rescale: how far the rest moves: over the mean of the mask, or a count; one of 'mean',
            'count'; 'mean' by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    State:
        nothing beside the wrapped rule's.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    rescale: Any

    def __init__(
        self,
        rule: Rule,
        *,
        rescale: Literal["mean", "count"] = "mean",
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class Centralize(Wrapper):
    """Centralize: the gradient of every output's weights less its mean.

        grad = grad - mean of grad over the inputs,  and the wrapped rule's step with it

    Vectors and scalars stay as they are. The mean is that of the gradient as it is given, before
    ``maximize`` and before coupled weight decay.

    Source: Yong, Huang, Hua and Zhang, "Gradient centralization: a new optimization technique for
        deep neural networks", arXiv 2004.01461, equation 1.
    Agrees with: the authors' GC on all layers; optax.centralize, which takes the first axis for the
        output's ("oi") whatever the layout of the kernels (that of Flax is "io").
    Differs from: the authors' GC on convolutions only, which is a ``route``.
    Shapes: grad keeps its shape; ``center_layout`` names the output axis; no state of its own.

    Args:
        rule: the rule inside.
        center_layout: output axis first ('oi') or last ('io'); one of 'oi', 'io'; 'oi' by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.centralize; the defaults.

    State:
        nothing beside the wrapped rule's.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    center_layout: Any

    def __init__(
        self,
        rule: Rule,
        *,
        center_layout: Literal["oi", "io"] = "oi",
        like: Literal["optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class ClipGlobalNorm(Wrapper):
    """ClipGlobalNorm: the gradients of all parameters together no longer than a norm.

        norm = sqrt(sum of grad^2 over all parameters) + norm_eps
        grad = grad min(1, max_norm / norm),  and the wrapped rule's step with it

    The gradient is clipped as it is given, before ``maximize`` and before coupled weight decay. A
    norm that is NaN makes every gradient NaN; one that is infinite makes finite elements 0 and
    infinite ones NaN. In torch the norm runs over the parameters of the optimizer.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
        networks", arXiv 1211.5063, Algorithm 1, which has no norm_eps.
    Agrees with: optax.clip_by_global_norm; samestep.clip_grads; and with norm_eps=1e-6
        torch.nn.utils.clip_grad_norm_ and mlx.optimizers.clip_grad_norm.
    Differs from: torch's and optax's in narrow dtypes, which they square as they are.
    Shapes: grad keeps its shape; no state beside the wrapped rule's.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        max_norm: largest norm of all gradients [gradient]; > 0; 1.0 by default.
        norm_eps: added to the norm [gradient]; >= 0; 0.0 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.nn.utils.clip_grad_norm_; norm_eps=1e-06.
        optax: optax.clip_by_global_norm; the defaults.

    State:
        nothing beside the wrapped rule's.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    max_norm: Any
    norm_eps: Any

    def __init__(
        self,
        rule: Rule,
        max_norm: _Scalar = 1.0,
        norm_eps: _Scalar = 0.0,
        *,
        like: Literal["torch", "optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class ClipNorm(Wrapper):
    """ClipNorm: the gradient of every parameter no longer than a norm, each by itself.

        grad = grad min(1, clip_norm / ||grad||),  and the wrapped rule's step with it

    The gradient is clipped as it is given, before ``maximize`` and before coupled weight decay.
    ClipGlobalNorm has one norm over all parameters.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
        networks", arXiv 1211.5063, Algorithm 1, for one parameter at a time.
    Agrees with: tf.clip_by_norm; Keras' clipnorm.
    Differs from: torch.nn.utils.clip_grad_norm_ on a single parameter, which adds 1e-6 to the norm;
        optax.clip_by_block_rms, whose limit is one of the root mean square.
    Shapes: grad keeps its shape; no state beside the wrapped rule's.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        clip_norm: largest norm of a gradient [gradient]; > 0; 1.0 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    State:
        nothing beside the wrapped rule's.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    clip_norm: Any

    def __init__(
        self,
        rule: Rule,
        clip_norm: _Scalar = 1.0,
        *,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class ClipValue(Wrapper):
    """ClipValue: every element of the gradient no larger than a value.

        grad = min(max(grad, -max_value), max_value),  and the wrapped rule's step with it

    The gradient is clipped as it is given, before ``maximize`` and before coupled weight decay.
    NaN stays NaN.

    Source: Graves, "Generating sequences with recurrent neural networks", arXiv 1308.0850, who
        clips derivatives so.
    Agrees with: torch.nn.utils.clip_grad_value_; optax.clip; Keras' clipvalue.
    Differs from: ClipNorm and ClipGlobalNorm, which keep the direction of the gradient.
    Shapes: grad keeps its shape; no state beside the wrapped rule's.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        max_value: largest absolute value [gradient]; > 0; 1.0 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.nn.utils.clip_grad_value_; the defaults.
        optax: optax.clip; the defaults.

    State:
        nothing beside the wrapped rule's.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    max_value: Any

    def __init__(
        self,
        rule: Rule,
        max_value: _Scalar = 1.0,
        *,
        like: Literal["torch", "optax"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class LAMB(Layerwise, AdamW):
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

        m, v  = as in Adam;  m_hat, v_hat = corrected for their start at zero
        r     = m_hat / (sqrt(v_hat) + eps) + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    ||param|| is clipped to scale_clip, the phi of the paper.

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes",
        arXiv 1904.00962, Algorithm 2 with phi the identity.
    Agrees with: optax.lamb; mlx-optimizers' Lamb; timm's Lamb with always_adapt and without its
        clipping of the global norm.
    Differs from: pytorch_optimizer's Lamb, which corrects m after the ratio (first step 10 times
        as long); holocron's, which corrects nothing, and whose text divides by the norm of
        r + param; keras.optimizers.Lamb, which decays outside the ratio.
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size, relative to the norm of the parameter [1]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-06 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        scale_clip: bounds of the parameter's norm [parameter]; >= 0 and in ascending order; (0.0,
            inf) by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'in_update' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.lamb; the defaults.
        keras: keras.optimizers.Lamb; eps=1e-07, decay='decoupled'.
        paper: what the paper prints; the defaults.
        holocron: holocron.optim.LAMB; no bias correction; eps=1e-08, bias_correction=False,
            scale_clip=(0.0, 10.0).

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    eps: Any

    def __init__(
        self,
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
    ) -> None: ...

class LARS(Momentum):
    """LARS: momentum whose steps are, for every parameter, a fraction of its own norm.

        ratio = trust_coefficient ||param|| / (||grad|| + weight_decay ||param|| + eps)
        m     = momentum m + lr ratio (grad + weight_decay param)
        param = param - m

    ||param|| is clipped to scale_clip; where it is then zero, or the divisor is, the ratio is 1.

    Source: You, Gitman and Ginsburg, "Large batch training of convolutional networks",
        arXiv 1708.03888, Algorithm 1 and equation 6.
    Agrees with: optax.lars with decay="l2", whose divisor is ||grad + weight_decay param||.
    Differs from: timm's and pytorch_optimizer's, which keep lr outside m; holocron's, which has no
        trust coefficient (its steps are 1,000 times as long), applies the ratio after the momentum
        and never uses scale_clip.
    Shapes: grad, param and m are equal; the two norms run over the whole parameter.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size, in units of the parameter's norm [1/trust_coefficient]; >= 0; 1.0 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.9 by default.
        trust_coefficient: norm of a step over that of the parameter [1]; > 0; 0.001 by default.
        eps: added to the divisor of the ratio [gradient]; >= 0; 0.0 by default.
        scale_clip: bounds of the parameter's norm [parameter]; >= 0 and in ascending order; (0.0,
            inf) by default.
        dampening: part of a step kept out of m [1]; in [0, 1]; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        ratio_at: the ratio goes into m, or multiplies m; one of 'inside', 'outside'; 'inside' by
            default.
        lr_at: lr multiplies m, or what goes into m; one of 'outside', 'inside'; 'inside' by
            default.
        nesterov: look one step of momentum ahead; False by default.
        momentum_form: m is a decaying sum of steps, or their mean; one of 'sum', 'mean'; 'sum' by
            default.
        momentum_start: m before the first step is zero, or the first step; one of 'zero',
            'gradient'; 'zero' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'in_update' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.lars; decay='l2'.
        paper: what the paper prints; the defaults.
        holocron: holocron.optim.LARS; no trust coefficient; lr=0.001, momentum=0.0,
            trust_coefficient=1.0, ratio_at='outside', lr_at='outside', momentum_start='gradient'.

    State:
        m: momentum; kept with momentum.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    momentum: Any
    trust_coefficient: Any
    eps: Any
    scale_clip: Any
    ratio_at: Any
    lr_at: Any

    def __init__(
        self,
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
        default (1e-3); MLX 0.0, which started m at the first gradient.
    Shapes: grad, param and m are equal, any shape. A NaN stays NaN.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0; 0.0001 by default.
        betas: weight of m in the sign, and decay per step of m [1/step]; in [0, 1); (0.9, 0.99) by
            default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        start: m before the first step; one of 'zero', 'gradient'; 'zero' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.lion; decay='in_update', weight_decay=0.001.
        mlx: mlx.optimizers.Lion; the defaults.
        keras: keras.optimizers.Lion; lr=0.001.
        paper: what the paper prints; the defaults.
        mlx-0.0: mlx.optimizers.Lion of December 2023; start='gradient'.

    State:
        m: mean of the gradient.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    betas: Any
    start: Any

    def __init__(
        self,
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

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        sync_period: steps of the wrapped rule between synchronisations [steps]; >= 1; 6 by default.
        sync_rate: how far slow follows fast [1]; in [0, 1]; 0.5 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.lookahead; the defaults.
        paper: Algorithm 1; sync_period=5.
        holocron: holocron.optim.Lookahead; the defaults.

    State:
        slow: slow weights.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    sync_period: Any
    sync_rate: Any

    def __init__(
        self,
        rule: Rule,
        sync_period: _Whole = 6,
        sync_rate: _Scalar = 0.5,
        *,
        like: Literal["optax", "paper", "holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
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

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size, in spectral norm per step [parameter]; >= 0; 0.02 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.95 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        nesterov: look one step of momentum ahead; True by default.
        ns_steps: Newton-Schulz iterations; a whole number >= 1; 5 by default.
        layout: output axis first ('oi': torch, MLX) or last ('io': Flax); one of 'oi', 'io'; 'oi'
            by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    State:
        m: mean of the gradient.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
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
    ) -> None: ...

class NAdam(Adam):
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps.

        mu_t  = beta1 (1 - 0.96^(t momentum_decay) / 2)
        ahead = (1 - mu_t) grad / (1 - mu_1 ... mu_t) + mu_(t+1) m / (1 - mu_1 ... mu_(t+1))
        param = param - lr ahead / (sqrt(v_hat) + eps)

    Without momentum_schedule mu is beta1, and m is corrected by 1 - beta1^(t+1).

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016, Algorithm 2
        (which multiplies v_hat by beta2, as no library does).
    Agrees with: torch.optim.NAdam.
    Differs from: optax.nadam, which has no schedule; keras.optimizers.Nadam, whose momentum_decay
        is 1, so that the schedule is over 250 times as soon; timm's NAdamW, which corrects both
        terms alike.
    Shapes: grad, param, m and v are equal, any shape; product is 0-d.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.002 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        momentum_decay: pace of the momentum's schedule [1/step]; > 0; 0.004 by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        momentum_schedule: let the momentum grow from beta1 / 2 to beta1; True by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.NAdam; the defaults.
        optax: optax.nadam; no schedule; momentum_schedule=False, decay='in_update'.
        keras: keras.optimizers.Nadam; lr=0.001, eps=1e-07, momentum_decay=1.0, decay='decoupled'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        product: mu_1 ... mu_t; kept with momentum_schedule.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    momentum_decay: Any
    momentum_schedule: Any

    def __init__(
        self,
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
    ) -> None: ...

class Prodigy(Adam):
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

        m, v  = as in Adam, but of d grad;  s = beta3 s + (d/d0) d lr grad
        d     = max(d, d_coef (beta3 numerator + sum of (d/d0) d lr grad (p0 - param)) / ||s||_1)
        param = param - lr d (m / (sqrt(v) + d eps) + weight_decay param)      (eps: the new d)

    Source: Mishchenko and Defazio, arXiv 2306.06101, the Adam version, as in prodigyopt 1.1.2.
    Agrees with: prodigyopt; optax.contrib.prodigy with bias_correction=True.
    Differs from: prodigyopt, whose slice_p is not offered, and which does not count steps before
        the first gradient that is not zero; optax, which always corrects the bias.
    Shapes: grad, param and slots are equal; d, d_max and numerator are 0-d, for all parameters.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: multiple of the estimated step size [1]; >= 0; 1.0 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        beta3: decay per step of s; None is sqrt(beta2) [1/step]; in [0, 1); None derives it; None
            by default.
        eps: added to the root of v, where eps_at says [gradient]; > 0; 1e-08 by default.
        d0: first estimate of d [parameter]; > 0; 1e-06 by default.
        d_coef: multiple of the estimate [1]; > 0; 1.0 by default.
        growth_rate: largest factor of d per step [1]; >= 1; inf by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        bias_correction: correct m and v for their start at zero; False by default.
        safeguard_warmup: leave lr out of s, for long warm-ups; False by default.
        decay: how weight decay enters; one of 'l2', 'in_update'; 'in_update' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.contrib.prodigy; bias_correction=True.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        s: decaying sum of weighted gradients.
        p0: parameter as it was at init.
        d: estimated step size; once for all parameters.
        d_max: largest estimate so far; once for all parameters.
        numerator: decaying sum of weighted grad (p0 - param); once for all parameters.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    beta3: Any
    eps: Any
    d0: Any
    d_coef: Any
    growth_rate: Any
    bias_correction: Any
    safeguard_warmup: Any

    def __init__(
        self,
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
    ) -> None: ...

class RAdam(Adam):
    """RAdam: Adam rectified for the variance of its divisor in the first steps.

        rho_inf = 2 / (1 - beta2) - 1,  rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
        param   = param - lr r m_hat / (sqrt(v_hat) + eps)       where rho > threshold
        param   = param - lr m_hat            before that (below="adam": with the divisor)
        r^2     = (rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho)

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond",
        arXiv 1908.03265, Algorithm 2 (threshold 4; without eps).
    Agrees with: optax.radam(threshold=4).
    Differs from: torch.optim.RAdam, labml's, and optax.radam by default, whose threshold is 5 (one
        step more without divisor at beta2 = 0.999); torch and labml add eps before v's correction.
    Shapes: grad, param, m and v are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        threshold: rho from which the divisor is trusted [steps]; >= 4; 4.0 by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        below: the step before that; one of 'momentum', 'adam', 'skip'; 'momentum' by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.RAdam; threshold=5.0, eps_at='uncorrected'.
        optax: optax.radam; threshold=5.0.
        paper: Algorithm 2; no eps; eps=0.0.
        labml: labml_nn.optimizers.RAdam; threshold=5.0, eps_at='uncorrected', decay='decoupled'.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    threshold: Any
    below: Any

    def __init__(
        self,
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
    ) -> None: ...

class RMSprop(Rooted, Momentum):
    """RMSprop: the gradient in units of its root mean square.

        v     = alpha v + (1 - alpha) grad^2
        param = param - lr grad / (sqrt(v) + eps)       (centered: sqrt(v - g^2), g the mean)

    Source: Tieleman and Hinton, "Lecture 6.5-rmsprop", Coursera 2012 (alpha = 0.9 there), in the
        form that torch.optim.RMSprop gives it; centered: Graves, arXiv 1308.0850, equation 40.
    Agrees with: torch.optim.RMSprop; mlx.optimizers.RMSprop.
    Differs from: optax.rmsprop, keras.optimizers.RMSprop and jax.example_libraries, which add eps
        under the root, keep lr inside the momentum, and have alpha = 0.9.
    Shapes: grad, param and every slot are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.01 by default.
        alpha: decay per step of v and g [1/step]; in [0, 1); 0.99 by default.
        initial_v: v before the first step [gradient^2]; >= 0; 0.0 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.0 by default.
        dampening: part of a step kept out of m [1]; in [0, 1]; 0.0 by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        centered: divide by the standard deviation, not the root mean square; False by default.
        bias_correction: correct v and g for their start; False by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'inside'; 'outside' by default.
        nesterov: look one step of momentum ahead; False by default.
        momentum_form: m is a decaying sum of steps, or their mean; one of 'sum', 'mean'; 'sum' by
            default.
        momentum_start: m before the first step is zero, or the first step; one of 'zero',
            'gradient'; 'zero' by default.
        lr_at: lr multiplies m, or what goes into m; one of 'outside', 'inside'; 'outside' by
            default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.RMSprop; the defaults.
        optax: optax.rmsprop; alpha=0.9, eps_at='inside', lr_at='inside'.
        mlx: mlx.optimizers.RMSprop; the defaults.
        keras: keras.optimizers.RMSprop; lr=0.001, alpha=0.9, eps=1e-07, eps_at='inside',
            lr_at='inside', decay='decoupled'.
        paper: slide 29; no eps; alpha=0.9, eps=0.0.
        mlx-0.0: mlx.optimizers.RMSprop of December 2023; the defaults.
        jax-example: jax.example_libraries.optimizers.rmsprop and rmsprop_momentum; alpha=0.9,
            eps_at='inside', lr_at='inside'.

    State:
        m: momentum; kept with momentum.
        v: mean of the squared gradient.
        g: mean of the gradient; kept with centered.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    alpha: Any
    initial_v: Any
    centered: Any
    bias_correction: Any
    eps_at: Any

    def __init__(
        self,
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
    ) -> None: ...

class RaLars(Layerwise, RAdam):
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm.

        r     = RAdam's direction + weight_decay param
        param = param - lr (||param|| / ||r||) r       (the ratio is 1 where a norm is zero)

    ||param|| is clipped to scale_clip. force_adaptive_momentum takes Adam's direction, in place of
    m_hat, until rho exceeds the threshold.

    Source: Brain's and Howard's combination of RAdam (arXiv 1908.03265) with LARS
        (arXiv 1708.03888), 2019, as holocron.optim.RaLars has it; there is no paper.
    Agrees with: holocron.optim.RaLars.
    Differs from: LARS in the ratio, which has no trust coefficient here.
    Shapes: grad, param, m and v are equal; the two norms run over the whole parameter.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        threshold: rho from which the divisor is trusted [steps]; >= 4; 4.0 by default.
        scale_clip: bounds of the parameter's norm [parameter]; >= 0 and in ascending order; (0.0,
            10.0) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 1e-08 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        force_adaptive_momentum: Adam's direction until rho exceeds the threshold; False by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        start: m and v before the first step: zero, or the first gradient and its square; one of
            'zero', 'gradient'; 'zero' by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'in_update' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        holocron: holocron.optim.RaLars; the defaults.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    force_adaptive_momentum: Any
    scale_clip: Any

    def __init__(
        self,
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
    ) -> None: ...

class Rprop(Rule):
    """Rprop: the sign of the gradient, times a step size that every element finds for itself.

        size  = size eta_plus where grad keeps its sign, size eta_minus where it changes
        grad  = 0 where it has changed
        param = param - sign(grad) size,  prev = grad

    Source: Riedmiller and Braun, ICNN 1993, in the variant iRprop- of Igel and Huesken, 2000.
    Agrees with: torch.optim.Rprop.
    Differs from: optax.rprop (0.2.8), which applies the update of the step before (optax#1725).
    Shapes: grad, param and every slot are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: first step size [parameter]; >= 0; 0.01 by default.
        etas: factors of the step size: sign changed, sign kept [1]; > 0; (0.5, 1.2) by default.
        step_sizes: bounds of size [parameter]; >= 0 and in ascending order; (1e-06, 50.0) by
            default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        lag: apply the update of the step before; False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.Rprop; the defaults.
        optax: optax.rprop; one step late; lag=True.

    State:
        prev: gradient of the step before, 0 where it had changed its sign.
        size: step size.
        last: update of the step before; kept with lag.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    etas: Any
    step_sizes: Any
    lag: Any

    def __init__(
        self,
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
    ) -> None: ...

class SGD(Momentum):
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

        m     = momentum m + (1 - dampening) grad      (m = grad at the first step)
        param = param - lr m                           (nesterov: lr (grad + momentum m))

    Source: Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum
        in deep learning", ICML 2013, in the form that torch.optim.SGD gives it.
    Agrees with: torch.optim.SGD; optax.sgd and mlx.optimizers.SGD without dampening.
    Differs from: mlx.optimizers.SGD with dampening, which starts m at zero and so dampens the
        first gradient too; keras.optimizers.SGD, which keeps lr inside m, as the paper does; MLX
        0.0, which forgot weight decay where there was no momentum.
    Shapes: grad, param and m are equal, any shape. m exists only with momentum.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter/gradient]; >= 0; 0.001 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.0 by default.
        dampening: part of a step kept out of m [1]; in [0, 1]; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        momentum_start: m before the first step is zero, or the first step; one of 'zero',
            'gradient'; 'gradient' by default.
        bare_decay: weight decay applies without momentum too; True by default.
        nesterov: look one step of momentum ahead; False by default.
        momentum_form: m is a decaying sum of steps, or their mean; one of 'sum', 'mean'; 'sum' by
            default.
        lr_at: lr multiplies m, or what goes into m; one of 'outside', 'inside'; 'outside' by
            default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        torch: torch.optim.SGD; the defaults.
        optax: optax.sgd; momentum_start='zero'.
        mlx: mlx.optimizers.SGD; momentum_start='zero'.
        keras: keras.optimizers.SGD; lr=0.01, momentum_start='zero', lr_at='inside',
            decay='decoupled'.
        paper: equations 1 and 2; momentum_start='zero', lr_at='inside'.
        mlx-0.0: mlx.optimizers.SGD of December 2023; decays only with momentum;
            momentum_start='zero', bare_decay=False.
        jax-example: jax.example_libraries.optimizers.sgd, momentum and nesterov;
            momentum_start='zero'.

    State:
        m: momentum; kept with momentum.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    momentum_start: Any
    bare_decay: Any

    def __init__(
        self,
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
    ) -> None: ...

class SM3(Rooted, Momentum):
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

        nu    = min over axes of mu + grad^2
        mu    = for every axis, the maximum of nu along all the others
        m     = momentum m + (1 - momentum) grad / sqrt(nu + eps)      (0 where nu is 0)
        param = param - lr m

    Source: Anil, Gupta, Koren and Singer, "Memory-efficient adaptive optimization",
        arXiv 1901.11150, Algorithm SM3-II, with the momentum of the authors' code.
    Agrees with: jax.example_libraries.optimizers.sm3; pytorch_optimizer's SM3(momentum=0.9).
    Differs from: optax.sm3, which adds eps = 1e-8 inside the root and has one accumulator per
        element for vectors as here; jax.example_libraries, which refuses 0-d parameters.
    Shapes: grad, param and m are equal; mu holds for each axis one array of size 1 along all
        the others, and one of the parameter's own shape below two dimensions.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.1 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.9 by default.
        eps: added to the root of nu, or under it [gradient]; >= 0; 0.0 by default.
        dampening: part of a step kept out of m [1]; in [0, 1]; 0.0 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'inside', 'outside'; 'inside' by default.
        momentum_form: m is a decaying sum of steps, or their mean; one of 'sum', 'mean'; 'mean' by
            default.
        nesterov: look one step of momentum ahead; False by default.
        momentum_start: m before the first step is zero, or the first step; one of 'zero',
            'gradient'; 'zero' by default.
        lr_at: lr multiplies m, or what goes into m; one of 'outside', 'inside'; 'outside' by
            default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.sm3; eps=1e-08.
        paper: Algorithm SM3-II; the defaults.
        jax-example: jax.example_libraries.optimizers.sm3; the defaults.

    State:
        m: momentum; kept with momentum.
        mu: per axis, upper bound on the sum of squared gradients.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    momentum: Any
    eps: Any
    eps_at: Any
    momentum_form: Any

    def __init__(
        self,
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
    ) -> None: ...

class Scout(Wrapper):
    """Scout: Lookahead that follows further where the steps of a period disagree.

        fast  = the wrapped rule's step
        every sync_period steps:  rate = max(1 - coherence, sync_rate)
                                  slow = slow + rate (fast - slow),  fast = slow

    coherence is the mean, over the elements of a parameter and then over parameters, of the
    standard deviation of a period's steps over the largest deviation from their mean (1 where that
    is zero; of small steps in float32 the deviations are rounding). Of up to 10 steps it is rarely
    below 0.5: with sync_rate = 0.5, the default, Scout is Lookahead in practice.

    Source: holocron's Scout, pylocron 0.3.0, 2026, after Lookahead (arXiv 1907.08610); no paper.
    Agrees with: holocron's Scout.
    Differs from: holocron's where an element stands still: 0/0 makes the rate NaN there, and the
        whole period is thrown away.
    Shapes: slow and each of the sync_period arrays of history are shaped like param.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        rule: the rule inside.
        sync_rate: least that slow follows fast [1]; in [0, 1]; 0.5 by default.
        sync_period: steps of the wrapped rule between synchronisations; a whole number >= 2; 6 by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        holocron: holocron.optim.Scout; the defaults.

    State:
        slow: slow weights.
        history: fast weights after every step of the period.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    sync_rate: Any
    sync_period: Any

    def __init__(
        self,
        rule: Rule,
        sync_rate: _Scalar = 0.5,
        *,
        sync_period: int = 6,
        like: Literal["holocron"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class SignSGD(Rule):
    """signSGD: the sign of the gradient.

        param = param - lr sign(grad)

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: compressed optimisation for
        non-convex problems", arXiv 1802.04434, Algorithm 1.
    Agrees with: optax.sign_sgd.
    Differs from: nothing known.
    Shapes: grad and param are equal, any shape; there is no state. A NaN stays NaN.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0; 0.0001 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.sign_sgd; the defaults.
        paper: what the paper prints; the defaults.

    State:
        nothing but the step.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any

    def __init__(
        self,
        lr: _Scalar = 0.0001,
        weight_decay: _Scalar = 0.0,
        *,
        decay: Literal["l2", "decoupled", "absolute", "proximal", "in_update", "l2+proximal"] = "decoupled",
        maximize: bool = False,
        state_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
        like: Literal["optax", "paper"] | None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class Signum(Momentum):
    """Signum: the sign of the momentum.

        m     = momentum m + (1 - momentum) grad
        param = param - lr sign(m)

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, "signSGD: compressed optimisation for
        non-convex problems", arXiv 1802.04434, Algorithm 2.
    Agrees with: optax.signum.
    Differs from: nothing known.
    Shapes: grad, param and m are equal, any shape. A NaN stays NaN.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size: every element moves by as much [parameter]; >= 0; 0.0001 by default.
        momentum: decay per step of m [1/step]; in [0, 1); 0.9 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        momentum_start: m before the first step is zero, or the first step; one of 'zero',
            'gradient'; 'zero' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.signum; the defaults.
        paper: what the paper prints; the defaults.

    State:
        m: momentum; kept with momentum.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    momentum: Any

    def __init__(
        self,
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
    ) -> None: ...

class SkipNonFinite(Conditional):
    """SkipNonFinite: no step where any gradient of any parameter is NaN or infinite.

        finite  = no element of any gradient is NaN or infinite
        skipped = skipped + 1                           where not finite, and nothing else changes
        the wrapped rule's step                         where finite

    Parameters and all state then stay as they are, to the last bit. ``skipped`` is in
    ``state.shared`` (torch: in every parameter group; MLX: in ``state["shared_state"]``). A call
    that is skipped counts as a step all the same, for schedules and bias corrections: whether it
    is one is known on the device only, and they are computed before. So Accumulate belongs outside:
    Accumulate(SkipNonFinite(rule)).

    Source: none; what loss scaling does in mixed precision, arXiv 1710.03740, section 3.2.
    Agrees with: optax.apply_if_finite without a limit; torch.amp.GradScaler around an optimizer.
    Differs from: both in that they do not count what they skip.
    Shapes: skipped is 0-d, for all parameters; everything else is the wrapped rule's.

    Args:
        rule: the rule inside.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    State:
        skipped: calls so far that were skipped; once for all parameters.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        like: None = None,
        mask: Predicate | None = None,
        groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    ) -> None: ...

class TAdam(Adam):
    """TAdam: Adam whose mean gradient gives outliers little weight.

        w     = (dof + n) / (dof + sum of (grad - m)^2 / (v + eps))       (n elements)
        m     = (w_sum m + w grad) / (w_sum + w)
        w_sum = (2 - 1 / beta1) w_sum + w                  (beta1 / (1 - beta1) at first)
        v     = beta2 v + (1 - beta2) grad^2
        param = param - lr m_hat / (sqrt(v_hat) + eps)

    with the m and v of the step before in w. dof is n if it is not given.

    Source: Ilboudo, Kobayashi and Sugimoto, "TAdam: a robust stochastic gradient optimizer",
        arXiv 2003.00179, Algorithm 1, as in the authors' code.
    Agrees with: holocron.optim.TAdam.
    Differs from: holocron's text, which averages grad - prev into v and has no line for w_sum.
    Shapes: grad, param, m and v are equal; w_sum is 0-d; the sum runs over the whole parameter.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.001 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; > 0; 1e-08 by default.
        dof: degrees of freedom of the t-distribution [1]; > 0; None derives it; None by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        bias_correction: correct m and v for their start at zero; True by default.
        amsgrad: divide by the largest v so far: taken before its correction (True), or after it;
            False by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'l2' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        holocron: holocron.optim.TAdam; the defaults.

    State:
        m: mean of the gradient.
        v: mean of the squared gradient.
        v_max: largest v so far; kept with amsgrad.
        w_sum: decaying sum of weights.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    betas: Any
    eps: Any
    dof: Any

    def __init__(
        self,
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
    ) -> None: ...

class Yogi(Moments):
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step.

        m     = beta1 m + (1 - beta1) grad
        v     = v - (1 - beta2) sign(v - grad^2) grad^2
        param = param - lr m / (sqrt(v) + eps)

    Source: Zaheer, Reddi, Sachan, Kale and Kumar, "Adaptive methods for nonconvex optimization",
        NeurIPS 2018, Algorithm 2 (v starts at 1e-6, no correction).
    Agrees with: the paper.
    Differs from: optax.yogi and pytorch_optimizer's, which start m at 1e-6 too and correct both for
        a start at zero that they did not have.
    Shapes: grad, param, m and v are equal, any shape.

    Every number may be a schedule, a function of the 0-based step, or a 0-d array.

    Args:
        lr: step size [parameter]; >= 0; 0.01 by default.
        betas: decay per step of m and v [1/step]; in [0, 1); (0.9, 0.999) by default.
        eps: added to the root of v, where eps_at says [gradient]; >= 0; 0.001 by default.
        initial_m: m before the first step [gradient]; of any size; 0.0 by default.
        initial_v: v before the first step [gradient^2]; >= 0; 1e-06 by default.
        eps_root: added inside the root, beside eps [gradient^2]; >= 0; 0.0 by default.
        weight_decay: strength of weight decay, which enters as decay says [1/lr, or
            gradient/parameter with l2]; >= 0; 0.0 by default.
        bias_correction: correct m and v for their start at zero; False by default.
        eps_at: eps is added to the root, to the root before its correction, or under it; one of
            'outside', 'uncorrected', 'inside'; 'outside' by default.
        decay: how weight decay enters; one of 'l2', 'decoupled', 'absolute', 'proximal',
            'in_update', 'l2+proximal'; 'decoupled' by default.
        maximize: ascend instead of descend; False by default.
        state_dtype: dtype of the state, or of single slots; None is the parameter's; one of None,
            'float32', 'float64', 'bfloat16', 'float16', or a dict of slot and one of them; None by
            default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.

    Dialects:
        optax: optax.yogi; bias_correction=True, initial_m=1e-06.
        paper: what the paper prints; the defaults.

    State:
        m: mean of the gradient.
        v: decaying bound on the squared gradient.

    Raises:
        TypeError: an argument that there is not, or a rule or predicate that is none.
        ValueError: a value out of its range, or a dialect that there is not.
    """

    lr: Any
    eps: Any
    initial_m: Any
    initial_v: Any
    bias_correction: Any

    def __init__(
        self,
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
    ) -> None: ...
