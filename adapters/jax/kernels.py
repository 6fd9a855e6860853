"""The kernels of a step, from the functions that it executes."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from samestep import step as stepping
from samestep.rule import Rule

from .matrices import deferring
from .plan import Plan
from .trees import leaves

__all__ = ["hoisted", "kernels"]


def kernels(plan: Plan, spreads: bool) -> Any:
    """What makes the kernels of a step."""
    kernel: Any = _kernel if plan.sees_axes else partial
    kernel = partial(_traced_once, kernel, plan.repeated) if plan.repeated else kernel
    return partial(deferring, kernel) if spreads else kernel


def _kernel(function: Any, xp: Any, rule: Rule) -> Any:
    """Call the function directly.

    With explicit sharding, XLA chooses the shardings inside a rule that sees axes (``auto_axes``);
    other rules are called directly in any case.
    """
    inside = partial(function, xp, rule)
    function = getattr(function, "of", function)
    in_types = hasattr(jax.sharding, "auto_axes")  # from JAX 0.6 on
    if not (in_types and function is stepping.change and rule.sees_axes):
        return inside

    def kernel(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        if jax.sharding.AxisType.Explicit not in jax.typeof(param).sharding.mesh.axis_types:
            return inside(grad, param, slots, common, s)
        flat, structure = leaves((common, s))

        def free(grad: Any, param: Any, slots: Any, arrays: Any) -> Any:
            pairs = zip(arrays, flat, strict=True)
            known_and_traced = [leaf if array is None else array for array, leaf in pairs]
            return inside(grad, param, slots, *structure.unflatten(known_and_traced))

        same = jax.tree.map(lambda array: jax.typeof(array).sharding, (param, slots))
        arrays = [leaf if isinstance(leaf, jax.Array) else None for leaf in flat]
        return jax.sharding.auto_axes(free, out_sharding=same)(grad, param, slots, arrays)

    return kernel


def _traced_once(kernel: Any, repeated: Any, function: Any, xp: Any, rule: Rule) -> Any:
    """A kernel that JAX traces once for each of the repeated kinds of parameters.

    XLA puts it in every place, and gets the same program.
    """
    whole = kernel(function, xp, rule)
    made: dict[Any, Any] = {}

    def once(grad: Any, param: Any, slots: Any, common: Any, s: Any) -> Any:
        if (param.shape, param.dtype) not in repeated:
            return whole(grad, param, slots, common, s)
        flat, structure = leaves((common, s))
        arrays = [leaf for leaf in flat if isinstance(leaf, jax.Array)]
        known = [None if isinstance(leaf, jax.Array) else leaf for leaf in flat]
        key = structure, *map(repr, known)  # 1 is equal to 1.0
        if key not in made:

            def again(grad: Any, param: Any, slots: Any, arrays: Any) -> Any:
                traced = iter(arrays)
                flat = [next(traced) if value is None else value for value in known]
                return whole(grad, param, slots, *structure.unflatten(flat))

            made[key] = jax.jit(again)
        return made[key](grad, param, slots, arrays)

    return once


def hoisted(values: Any, param: jax.Array) -> Any:
    """Traced scalars, computed once and not again in every kernel that reads them."""
    traced = [leaf for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.core.Tracer)]
    kept = iter(jax.lax.optimization_barrier(traced))  # type: ignore[no-untyped-call]
    return jax.tree.map(
        lambda leaf: next(kept) if isinstance(leaf, jax.core.Tracer) else leaf, values
    )
