"""Machines that round the operands of a product where a global setting lets them, emulated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy

__all__ = ["KEPT", "OPERATORS", "PRODUCTS", "in_mlx", "in_torch", "rounded"]

KEPT = {"tf32": 13, "bf16": 16}
"""The bits of a float32 that a format has no room for."""

OLDER = {"highest": "ieee", "high": "tf32", "medium": "bf16"}
"""By the older setting of torch, which its compiler reads, the format of a product."""
PRODUCTS = ("matmul", "einsum", "tensordot", "inner", "vecdot")
OPERATORS = ("__matmul__", "__imatmul__")
"""The functions of MLX, and the methods of its arrays, that are products."""


def rounded(values: Any, form: str) -> numpy.ndarray:
    """Float32 values rounded to a format, to the nearest; halves away from zero."""
    cut = KEPT[form]
    bits = numpy.asarray(values, numpy.float32).view(numpy.uint32)
    found: numpy.ndarray = ((bits + (1 << cut - 1)) >> cut << cut).view(numpy.float32)
    return found


def _rounded_in(view: Callable[[Any, str], Any], array: Any, form: str) -> Any:
    """``rounded`` in the operations of a framework; ``view`` reads the memory as a dtype."""
    bits = view(array, "int32") + (1 << KEPT[form] - 1)
    return view(bits & -(1 << KEPT[form]), "float32")


@contextmanager
def in_torch() -> Iterator[list[str]]:
    """A machine that rounds as torch's settings for GPUs and oneDNN let it, the older one too.

    It yields the formats of the products so far.
    """
    import torch  # noqa: PLC0415
    from torch.utils import _python_dispatch  # noqa: PLC0415

    setting = torch._C._get_fp32_precision_getter
    products = ("mm", "bmm", "addmm", "baddbmm", "dot", "mv", "addmv", "vdot")
    found: list[str] = []

    def view(array: Any, dtype: str) -> Any:
        return array.view(getattr(torch, dtype))

    mode: Any = _python_dispatch.TorchDispatchMode

    class Rounding(mode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func.__name__.partition(".")[0] in products:
                forms = [setting(kind, "matmul") for kind in ("cuda", "mkldnn")]
                with suppress(RuntimeError):  # where the two interfaces disagree
                    forms.append(OLDER[torch.get_float32_matmul_precision()])
                form = next((form for form in forms if form in KEPT), "float32")
                found.append(form)
                if form in KEPT:
                    args = [
                        _rounded_in(view, x, form)
                        if isinstance(x, torch.Tensor) and x.dtype == torch.float32
                        else x
                        for x in args
                    ]
            return func(*args, **(kwargs or {}))

    with Rounding():
        yield found


@contextmanager
def in_mlx(form: str) -> Iterator[list[str]]:
    """A device of MLX that rounds the operands of every product."""
    import mlx.core  # noqa: PLC0415

    from samestep import products  # noqa: PLC0415
    from samestep.mlx import compiling  # noqa: PLC0415

    mx: Any = mlx.core
    places = [*((mx, name) for name in PRODUCTS), *((mx.array, name) for name in OPERATORS)]
    before = [getattr(*place) for place in places]
    found: list[str] = []

    def view(array: Any, dtype: str) -> Any:
        return array.view(getattr(mx, dtype))

    def cut(value: Any) -> Any:
        narrow = isinstance(value, mx.array) and value.dtype == mx.float32
        return _rounded_in(view, value, form) if narrow else value

    def rounding(function: Callable[..., Any]) -> Callable[..., Any]:
        def product(*args: Any, **kwargs: Any) -> Any:
            found.append(form)
            return function(*map(cut, args), **kwargs)

        return product

    def forget() -> None:
        products._rounds.cache_clear()
        compiling.compiled.cache_clear()

    for (owner, name), function in zip(places, before, strict=True):
        setattr(owner, name, rounding(function))
    forget()
    try:
        yield found
    finally:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, function)
        forget()
