"""Products of matrices in float32, whatever the global settings of a framework are.

Settings that are made for a model let torch and JAX round the operands of a product to TF32 or
bfloat16. They are held while a rule computes. MLX rounds on GPUs that have TF32, and has a variable
of the environment for it, which it reads once. There a rule's products are made of several.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .rule import Rule

__all__ = ["float32_products", "multiplies"]

Array = Any
Restore = Callable[[], Any]


def multiplies(rule: Rule) -> bool:
    """Whether a step may have products of matrices; of the package's rules, matrix rules have.

    Whatever a rule of somebody's own needs, it may multiply: an element rule weighs its slots so.
    """
    known = rule._known.get("multiplies")
    if known is None:
        own = rule._own_need == "matrix" or not rule.is_own()
        known = rule._known["multiplies"] = own or any(map(multiplies, rule.inside))
    return bool(known)


def float32_products(xp: Any) -> AbstractContextManager[Any]:
    """A context in which products of float32 arrays are computed in float32.

    Args:
        xp: an array namespace, or the module of a framework.
    """
    library = _library(getattr(xp, "__name__", ""))
    if library == "jax":  # which notes the precision in every product that it traces
        precise: AbstractContextManager[Any] = sys.modules["jax"].default_matmul_precision(
            "highest"
        )
        return precise
    return _HELD.get(library) or nullcontext()


@cache
def _library(module: str) -> str:
    """The framework that an array namespace is of, or nothing."""
    return next((name for name in ("torch", "jax", "mlx") if name in module.split(".")), "")


class _Held:
    """Something global that is changed as long as a thread is inside.

    Args:
        change: makes the change, if it has to be made, and returns the function that undoes it.
    """

    def __init__(self, change: Callable[[], Restore | None]) -> None:
        self._change, self._lock = change, Lock()
        self._inside = 0
        self._restore: Restore | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._restore = self._restore or self._change()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._restore and not self._inside:
                restore, self._restore = self._restore, None
                restore()


# torch

_KINDS = ("cuda", "mkldnn")
"""Libraries whose products torch has a setting for: that of GPUs, and oneDNN."""
_EXACT = ("ieee", "none")


def _in_torch() -> Restore | None:
    """Let torch compute products in float32; ``None`` if it does."""
    torch = sys.modules["torch"]
    get = getattr(torch._C, "_get_fp32_precision_getter", None)
    if get and get("cuda", "matmul") in _EXACT and get("mkldnn", "matmul") in _EXACT:
        return None
    old, set_old = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    if get is None:  # before torch 2.9
        before = old()
        set_old("highest")
        return None if before == "highest" else partial(set_old, before)
    put = torch._C._set_fp32_precision_setter
    values = {kind: _chosen_in_torch(get, put, kind, "matmul") for kind in _KINDS}
    before = "highest"

    def restore() -> None:
        chosen = {kind: now for kind in _KINDS if (now := get(kind, "matmul")) != "ieee"}
        if len(chosen) == len(_KINDS):
            return  # by another thread meanwhile, whose choice holds
        if before != "highest":
            set_old(before)
        for kind, value in {**values, **chosen}.items():
            put(kind, "matmul", value)

    try:
        for kind in _KINDS:
            put(kind, "matmul", "ieee")
        before = old()  # raises where the two interfaces disagree
        if before != "highest":
            set_old("highest")
    except BaseException:
        restore()
        raise
    return restore


def _chosen_in_torch(get: Any, put: Any, kind: str, operation: str) -> str:
    """The value that has been set, where torch tells the one that holds, which may be a parent's.

    A parent is changed for a moment to find out.
    """
    value = str(get(kind, operation))
    if kind == "generic":
        return value
    parent = ("generic" if operation == "all" else kind), "all"
    if get(*parent) != value:
        return value
    above = _chosen_in_torch(get, put, *parent)
    other = "ieee" if value != "ieee" else "tf32"
    put(*parent, other)
    inherits = get(kind, operation) == other
    put(*parent, above)
    return "none" if inherits else value


# MLX

_PRODUCTS = ("matmul", "einsum", "tensordot", "inner", "vecdot")
_OPERATORS = ("__matmul__", "__imatmul__")


def _in_mlx() -> Restore | None:
    """Let the products of MLX be made of several; ``None`` if the device does not round."""
    mx = sys.modules["mlx.core"]
    if not _rounds(str(mx.default_device().type)):
        return None
    places = [(mx, name) for name in _PRODUCTS] + [(mx.array, name) for name in _OPERATORS]
    before = [getattr(*place) for place in places]
    matmul = mx.matmul
    for (owner, name), function in zip(places, before, strict=True):
        setattr(owner, name, partial(_multilinear, mx, function))
    for name in _OPERATORS:  # a method, which is given the array
        setattr(mx.array, name, lambda a, b: _multilinear(mx, matmul, a, b))

    def restore() -> None:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, function)

    return restore


@cache
def _rounds(device: str) -> bool:
    """Whether a product on the default device rounds its operands, found by one of 64 x 64."""
    mx = sys.modules["mlx.core"]
    odd = 1 + 2**-20
    return bool((mx.matmul(mx.full((64, 64), odd), mx.eye(64)) != odd).any().item())


def _multilinear(mx: Any, function: Callable[..., Array], *args: Any, **kwargs: Any) -> Array:
    """A function that is linear in each array, as the sum of its results for parts of the arrays.

    The parts are exact in TF32, but for the last bit of the smaller ones.
    """
    groups = product(*(_split(mx, value) for value in args))
    first, *others = (function(*group, **kwargs) for group in groups)
    return first + sum(others) if others else first


def _split(mx: Any, value: Any) -> tuple[Any, ...]:
    """A float32 array as the sum of one with its first 11 bits and one with its others.

    Derivatives go through the second. Anything else is one part.
    """
    if not isinstance(value, mx.array) or value.dtype != mx.float32:
        return (value,)
    bits = mx.view(value, mx.uint32)
    high, cut = (mx.view(b & 0xFFFFE000, mx.float32) for b in (bits + 0x1000, bits))
    high = mx.stop_gradient(mx.where(mx.isinf(high), cut, high))
    return high, mx.where(high == value, 0, value - high)


_HELD = {"torch": _Held(_in_torch), "mlx": _Held(_in_mlx)}
