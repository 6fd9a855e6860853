"""samestep in JAX: every rule as an ``optax.GradientTransformationExtraArgs``.

    from samestep.jax import Adan
    optimizer = Adan(lr=1e-3)
    state = optimizer.init(params)
    updates, state = optimizer.update(grads, state, params)
    params = optax.apply_updates(params, updates)

The state is a ``samestep.State``: an int32 count, one tree shaped like the parameters per slot, and
0-d arrays shared by all. It is a pytree whose dtypes never change. ``update`` returns changes, as
optax requires, in the dtype of the parameter and with a precision of their own: a change too small
to move a bfloat16 parameter is still there for the later links of a chain, for statistics and for
a copy of the parameters in float32. ``optax.apply_updates`` lands within 1 ULP of the step in
float64 from the same state, where the parameter is 64 times larger than the update. Elsewhere it
lands within the bound of the update (6 ULP for AdamW, 256 for Muon) plus 1, in ULP of the larger of
parameter and update, where the update of a rule that multiplies matrices is its largest element.
Errors of several steps add up. ``rule.update(grads, params, state)`` and ``samestep.triple`` return
parameters. On a CPU and outside ``jit``, those of element rules are equal to those of other
frameworks to the last bit.

A complex parameter is stepped as its real and imaginary parts, as in ``samestep.torch`` and with
``optax.contrib.split_real_and_imaginary``; its state has an axis of two at the end. As for optax,
give the conjugate of what ``jax.grad`` returns.

Outside ``jit`` the count is known and scalars are computed on the host in float64. Under ``jit``
scalars are traced, in a form without cancellation.

A parameter counts the calls in which it has a gradient, not ``None``. The first call that it misses
adds a count to ``state.shared``. Where that is inside ``jax.lax.scan``, ``prepared`` adds the count
before.

With ``optax.inject_hyperparams(Adan)(lr=1e-3)`` every number may change between steps under
``jit``. Options that are whole numbers go into its ``static_args``. For betas and dialects use a
function: ``inject_hyperparams(lambda lr: Adan(lr=lr, like="optax"))(lr=1e-3)``.

``samestep.checkpoint(rule, params, optax_state)`` reads a state of optax's own transformations, and
``to_optax(checkpoint, optax_state, params)`` writes one.

``averaged(optimizer.rule, params, state)`` returns the parameters with which to evaluate, of
``Average`` and Schedule-Free, in any pytree.
"""

from __future__ import annotations

from typing import Any

from samestep import native
from samestep.arrays import is_array, is_narrow, listed, parts
from samestep.declaration import Option
from samestep.execution import EXECUTIONS
from samestep.rule import Rule

from .averaging import averaged
from .creating import create
from .missing import prepared
from .natives import from_optax, to_optax, to_optax_params
from .optimizer import RuleTransformation, bind
from .recording import recorder

__all__ = [
    "EXECUTIONS",
    "RuleTransformation",
    "averaged",
    "bind",
    "create",
    "from_optax",
    "prepared",
    "recorder",
    "to_optax",
    "to_optax_params",
]


KEYWORDS = {"execution": "auto", "axis_name": None}


def _ruled(rule: type[Rule], /, *args: Any, **given: Any) -> Rule:
    """The rule.

    ``optax.inject_hyperparams`` gives every default, and makes an array of every number. Arguments
    that this spoils are refused.
    """
    name, like = rule.__name__, given.get("like")
    if like is not None and given.keys() >= rule.__signature__.parameters.keys():
        raise TypeError(
            f"{name}(like={like!r}): all arguments are given, which leaves nothing to the dialect; "
            f"inject into a function of those that vary: optax.inject_hyperparams("
            f"lambda lr: {name}(lr=lr, like={like!r}))"
        )
    fixed = [
        n for n, f in rule.fields().items() if isinstance(f, Option) and is_array(given.get(n))
    ]
    if fixed:
        raise TypeError(
            f"{name}: {listed(fixed)} may not be an array, as an option is fixed for the life of "
            f"the rule; give optax.inject_hyperparams static_args={fixed!r}"
        )
    narrow = [n for n, v in given.items() if any(map(is_narrow, parts(v)))]
    if narrow:
        raise TypeError(
            f"{name}: {listed(narrow)} would be rounded to the dtype of the parameters, as "
            "optax.inject_hyperparams does unless it has hyperparam_dtype=jnp.float32; give it that"
        )
    return rule(*args, **given)


__getattr__, __dir__ = native.serve(__name__, bind, keywords=KEYWORDS, ruled=_ruled)
