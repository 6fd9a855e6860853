# Written by python -m samestep.conformance.harness.stubs from the declarations of the rules.
"""samestep in JAX: every rule as an ``optax.GradientTransformationExtraArgs``.

    from samestep.jax import Adan
    optimizer = Adan(lr=1e-3)
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)

The state is a ``samestep.State``: an int32 count, one tree shaped like the parameters per slot, and
0-d arrays shared by all. It is a pytree whose dtypes never change. ``update`` returns differences,
as optax wants; adding one to the parameter rounds once more, by at most 1 ULP of the larger of
parameter and update. ``optimizer.rule.update(grads, params, state)`` returns parameters, exactly.

Outside ``jit`` the count is known and scalars are computed on the host in float64. Under ``jit``
they are traced, in a form without cancellation.

``optax.inject_hyperparams(Adan)(lr=1e-3)`` makes every number one that may be changed between steps
under ``jit``. Options that are whole numbers go into its ``static_args``. Betas and dialects go
into a function: ``inject_hyperparams(lambda lr: Adan(lr=lr, like="optax"))(lr=1e-3)``.

``samestep.checkpoint(rule, params, optax_state)`` reads a state of optax's own transformations, and
``to_optax(checkpoint, optax_state, params)`` makes one.

``averaged(optimizer.rule, params, state)`` gives what ``Average`` keeps, as any pytree.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from ..rule import Rule
from ..groups import Predicate
from ..rules import _Scalar, _Whole

from .averaging import averaged as averaged
from .natives import from_optax as from_optax
from .natives import to_optax as to_optax
from .natives import to_optax_params as to_optax_params
from .optimizer import RuleTransformation as RuleTransformation
from .optimizer import bind as bind
from .recording import recorder as recorder

__all__ = [
    "EXECUTIONS",
    "RuleTransformation",
    "averaged",
    "bind",
    "from_optax",
    "recorder",
    "to_optax",
    "to_optax_params",
]

def AMSGrad(
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
) -> RuleTransformation:
    """AMSGrad: Adam that divides by the largest mean square so far.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AMSGrad``.
    """

def Accumulate(
    rule: Rule,
    *,
    every: int = 2,
    accumulated_dtype: Literal["float32", "float64", "bfloat16", "float16"] | None | Mapping[str, str] = None,
    like: Literal["optax"] | None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """Accumulate: the gradients of several calls, of micro-batches, make one step.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Accumulate``.
    """

def AdEMAMix(
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
) -> RuleTransformation:
    """AdEMAMix: Adam with a second, much slower mean of the gradient beside the first.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AdEMAMix``.
    """

def AdaBelief(
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
) -> RuleTransformation:
    """AdaBelief: Adam that divides by the spread of the gradient around its mean.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AdaBelief``.
    """

def AdaDelta(
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
) -> RuleTransformation:
    """AdaDelta: steps in units of the steps before, so that no step size is needed.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AdaDelta``.
    """

def Adafactor(
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
) -> RuleTransformation:
    """Adafactor: the mean square kept as one vector per row and one per column.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Adafactor``.
    """

def Adagrad(
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
) -> RuleTransformation:
    """Adagrad: the gradient in units of the root of all its squares so far.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Adagrad``.
    """

def Adam(
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
) -> RuleTransformation:
    """Adam: a step along the mean gradient, in units of its root mean square.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Adam``.
    """

def AdamP(
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
) -> RuleTransformation:
    """AdamP: Adam without the part that only makes scale-invariant weights grow.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AdamP``.
    """

def AdamW(
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
) -> RuleTransformation:
    """Adam with weight decay kept apart from the gradient.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AdamW``.
    """

def Adamax(
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
) -> RuleTransformation:
    """Adamax: Adam with the largest decayed gradient in place of the root mean square.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Adamax``.
    """

def Adan(
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
) -> RuleTransformation:
    """Adan: adaptive Nesterov momentum, from the difference of successive gradients.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Adan``.
    """

def AdaptiveClip(
    rule: Rule,
    clipping: _Scalar = 0.01,
    min_norm: _Scalar = 0.001,
    *,
    clip_layout: Literal["oi", "io"] = "oi",
    like: None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """AdaptiveClip: the gradient of every unit no longer than a fraction of the unit's weights.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.AdaptiveClip``.
    """

def Average(
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
) -> RuleTransformation:
    """Average: beside the parameters, their average over the steps taken.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Average``.
    """

def Cautious(
    rule: Rule,
    *,
    rescale: Literal["mean", "count"] = "mean",
    like: None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """Cautious: no element moves against the sign of its gradient; the others move further.

    Args:
        rule: the rule inside.
        rescale: how far the rest moves: over the mean of the mask, or a count; one of 'mean',
            'count'; 'mean' by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Cautious``.
    """

def Centralize(
    rule: Rule,
    *,
    center_layout: Literal["oi", "io"] = "oi",
    like: Literal["optax"] | None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """Centralize: the gradient of every output's weights less its mean.

    Args:
        rule: the rule inside.
        center_layout: output axis first ('oi') or last ('io'); one of 'oi', 'io'; 'oi' by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Centralize``.
    """

def ClipGlobalNorm(
    rule: Rule,
    max_norm: _Scalar = 1.0,
    norm_eps: _Scalar = 0.0,
    *,
    like: Literal["torch", "optax"] | None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """ClipGlobalNorm: the gradients of all parameters together no longer than a norm.

    Args:
        rule: the rule inside.
        max_norm: largest norm of all gradients [gradient]; > 0; 1.0 by default.
        norm_eps: added to the norm [gradient]; >= 0; 0.0 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.ClipGlobalNorm``.
    """

def ClipNorm(
    rule: Rule,
    clip_norm: _Scalar = 1.0,
    *,
    like: None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """ClipNorm: the gradient of every parameter no longer than a norm, each by itself.

    Args:
        rule: the rule inside.
        clip_norm: largest norm of a gradient [gradient]; > 0; 1.0 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.ClipNorm``.
    """

def ClipValue(
    rule: Rule,
    max_value: _Scalar = 1.0,
    *,
    like: Literal["torch", "optax"] | None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """ClipValue: every element of the gradient no larger than a value.

    Args:
        rule: the rule inside.
        max_value: largest absolute value [gradient]; > 0; 1.0 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.ClipValue``.
    """

def LAMB(
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
) -> RuleTransformation:
    """LAMB: Adam's direction, rescaled for every parameter to the parameter's own norm.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.LAMB``.
    """

def LARS(
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
) -> RuleTransformation:
    """LARS: momentum whose steps are, for every parameter, a fraction of its own norm.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.LARS``.
    """

def Lion(
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
) -> RuleTransformation:
    """Lion: the sign of an interpolation between momentum and gradient.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Lion``.
    """

def Lookahead(
    rule: Rule,
    sync_period: _Whole = 6,
    sync_rate: _Scalar = 0.5,
    *,
    like: Literal["optax", "paper", "holocron"] | None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """Lookahead: another rule explores, and slow weights follow it every few steps.

    Args:
        rule: the rule inside.
        sync_period: steps of the wrapped rule between synchronisations [steps]; >= 1; 6 by default.
        sync_rate: how far slow follows fast [1]; in [0, 1]; 0.5 by default.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Lookahead``.
    """

def Muon(
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
) -> RuleTransformation:
    """Muon: momentum, orthogonalised, so that every direction of a matrix moves alike.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Muon``.
    """

def NAdam(
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
) -> RuleTransformation:
    """NAdam: Adam with Nesterov momentum, and a momentum that grows over the first steps.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.NAdam``.
    """

def Prodigy(
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
) -> RuleTransformation:
    """Prodigy: Adam that finds its own step size d, from how far the parameters have come.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Prodigy``.
    """

def RAdam(
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
) -> RuleTransformation:
    """RAdam: Adam rectified for the variance of its divisor in the first steps.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.RAdam``.
    """

def RMSprop(
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
) -> RuleTransformation:
    """RMSprop: the gradient in units of its root mean square.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.RMSprop``.
    """

def RaLars(
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
) -> RuleTransformation:
    """RaLars: RAdam's direction, rescaled for every parameter to the parameter's own norm.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.RaLars``.
    """

def Rprop(
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
) -> RuleTransformation:
    """Rprop: the sign of the gradient, times a step size that every element finds for itself.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Rprop``.
    """

def SGD(
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
) -> RuleTransformation:
    """Stochastic gradient descent, with momentum, dampening and Nesterov's look ahead.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.SGD``.
    """

def SM3(
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
) -> RuleTransformation:
    """SM3: Adagrad with one accumulator per row, column, ... in place of one per element.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.SM3``.
    """

def Scout(
    rule: Rule,
    sync_rate: _Scalar = 0.5,
    *,
    sync_period: int = 6,
    like: Literal["holocron"] | None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """Scout: Lookahead that follows further where the steps of a period disagree.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Scout``.
    """

def SignSGD(
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
) -> RuleTransformation:
    """signSGD: the sign of the gradient.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.SignSGD``.
    """

def Signum(
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
) -> RuleTransformation:
    """Signum: the sign of the momentum.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Signum``.
    """

def SkipNonFinite(
    rule: Rule,
    *,
    like: None = None,
    mask: Predicate | None = None,
    groups: Sequence[tuple[Predicate, Mapping[str, Any]]] = (),
    execution: Literal["auto", "reference", "packed", "compiled"] = "auto",
) -> RuleTransformation:
    """SkipNonFinite: no step where any gradient of any parameter is NaN or infinite.

    Args:
        rule: the rule inside.
        like: a dialect, whose values take the place of defaults; None by default.
        mask: predicate of a parameter's path, shape and ndim: where weight decay applies; None by
            default.
        groups: pairs of such a predicate and the hyperparameters that are different there; () by
            default.
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.SkipNonFinite``.
    """

def TAdam(
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
) -> RuleTransformation:
    """TAdam: Adam whose mean gradient gives outliers little weight.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.TAdam``.
    """

def Yogi(
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
) -> RuleTransformation:
    """Yogi: Adam whose v moves by at most (1 - beta2) grad^2 in one step.

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
        execution: ``"reference"`` steps one parameter after another, ``"packed"`` gathers small
            ones, ``"compiled"`` puts ``update`` into a ``jax.jit`` of its own. Under ``jax.jit``
            XLA compiles the whole step, and ``"auto"`` leaves it to that; elsewhere it gathers, if
            no parameter is spread over devices; the log says which, once; 'auto' by default.

    Equations, source and kin: ``samestep.Yogi``.
    """
