"""Arrays of no framework: with what the arrays of every framework have, and with nothing else.

What only some frameworks allow raises an error that says what to write in its place.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy

__all__ = ["COMMON", "XP", "Neutral", "renamed"]

COMMON = """
abs acos acosh add all allclose any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh
argmax argmin argsort asarray asin asinh astype atan atan2 atanh atleast_1d atleast_2d atleast_3d
bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
broadcast_arrays broadcast_shapes broadcast_to can_cast ceil clip complex64 concat concatenate conj
cos cosh count_nonzero cumprod cumsum cumulative_prod cumulative_sum diag diagonal diff divide e
einsum empty empty_like equal exp expand_dims expm1 eye fft finfo flip float16 float32 float64
floor floor_divide from_dlpack full full_like greater greater_equal iinfo imag inf inner int16
int32 int64 int8 isclose isdtype isfinite isinf isnan isneginf isposinf kron less less_equal linalg
linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul
matrix_transpose max maximum mean meshgrid min minimum moveaxis multiply nan nan_to_num negative
newaxis not_equal ones ones_like outer permute_dims pi positive pow prod real reciprocal remainder
repeat reshape result_type roll round searchsorted sign sin sinh sort sqrt square squeeze stack std
subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace tril triu trunc uint16
uint32 uint64 uint8 unstack var vecdot where zeros zeros_like fft.fft fft.fft2 fft.fftfreq fft.fftn
fft.fftshift fft.ifft fft.ifft2 fft.ifftn fft.ifftshift fft.irfft fft.irfft2 fft.irfftn fft.rfft
fft.rfft2 fft.rfftfreq fft.rfftn linalg.cholesky linalg.cross linalg.det linalg.eig linalg.eigh
linalg.eigvals linalg.eigvalsh linalg.inv linalg.norm linalg.pinv linalg.qr linalg.slogdet
linalg.solve linalg.svd
"""
"""What NumPy, torch, JAX and MLX have under one name and with one meaning; a test derives it."""

BINARY = "add sub mul truediv floordiv mod pow matmul and or xor"
COMPARED = "lt le eq ne gt ge"
UNARY = "neg pos abs invert"
LIMITS = "eps", "max", "min", "smallest_normal"


def _is_ours() -> bool:
    """Whether this package, and no author, asks an array or a dtype for an attribute."""
    return str(sys._getframe(2).f_globals.get("__name__")).startswith("samestep.")


class Neutral:
    """An array, in NumPy's memory.

    Args:
        values: the NumPy array.
        name: the argument that it is of a rule's method, which must not be written into.
    """

    __slots__ = ("name", "values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Any, name: str = "") -> None:
        self.values = numpy.asarray(values)
        self.name = name

    shape = property(lambda self: self.values.shape)
    ndim = property(lambda self: self.values.ndim)
    dtype = property(lambda self: Dtype(self.values.dtype))
    T = property(lambda self: Neutral(self.values.T))
    mT = property(lambda self: Neutral(self.values.swapaxes(-1, -2)))  # noqa: N815

    def __repr__(self) -> str:
        return f"{self.name or 'an array'} of shape {self.shape}"

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Neutral:
        return Neutral(self.values[_opened(index)])

    def __array_namespace__(self, api_version: str | None = None) -> Namespace:
        return XP

    # What is refused.

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__" or _is_ours():
            raise AttributeError(f"arrays have no {name}")
        if name == "size":
            raise TypeError(
                f"it reads the size of {self!r}, which is a method in torch; use "
                "samestep.vocabulary.count(xp, x), the number of elements of x"
            )
        raise TypeError(
            f"it reads {name} of {self!r}, which not all arrays have; use the functions of xp"
        )

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(f"it writes into {self!r}; make a new array, with xp.where for example")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"it makes a NumPy array of {self!r}, which may be of any framework")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(
            f"it applies NumPy's {function.__name__} to {self!r}, which may be of any framework; "
            "use the functions of xp"
        )

    def __array_ufunc__(self, function: Any, method: str, *given: Any, **__: Any) -> Any:
        _refuse_numpy(self, *given)
        return self.__array_function__(function)

    def _value(self) -> Any:
        raise TypeError(
            f"it asks for the value of {self!r} (by if, and, or, float(), ...), which is unknown "
            "while a framework compiles; use xp.where(condition, ...), or choose(xp, ...) in "
            "scalars"
        )

    __bool__ = __float__ = __int__ = __index__ = __complex__ = _value


def _refuse_numpy(array: Neutral, *others: Any) -> None:
    """Raise if something of NumPy's is combined with an array by an operator."""
    for other in others:
        if isinstance(other, numpy.generic):
            raise TypeError(
                f"it combines a number of NumPy's ({other}) with {array!r}, which may make float64 "
                "or a NumPy array of it; use float(...) of the number, and the functions of math"
            )
        if isinstance(other, numpy.ndarray):
            raise TypeError(
                f"it combines a NumPy array with {array!r}, which may be of any framework"
            )


def _operator(name: str) -> Any:
    def operate(self: Neutral, *other: Any) -> Any:
        _refuse_numpy(self, *other)
        result = getattr(self.values, name)(*map(_opened, other))
        return result if result is NotImplemented else Neutral(result)

    return operate


def _in_place(name: str, sign: str) -> Any:
    def operate(self: Neutral, other: Any) -> Any:
        if self.name:
            raise TypeError(
                f"it writes into {self!r} ({self.name} {sign} ...); make a new array, such as "
                f"{self.name} {sign[:-1]} ..."
            )
        return NotImplemented  # a result of the rule's own: Python then makes a new array

    return operate


SIGNS = {"add": "+=", "sub": "-=", "mul": "*=", "truediv": "/=", "pow": "**="}
for _name in BINARY.split():
    setattr(Neutral, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(Neutral, f"__r{_name}__", _operator(f"__r{_name}__"))
    setattr(Neutral, f"__i{_name}__", _in_place(_name, SIGNS.get(_name, f"{_name}=")))
for _name in (*COMPARED.split(), *UNARY.split()):
    setattr(Neutral, f"__{_name}__", _operator(f"__{_name}__"))


class Dtype:
    """A dtype, which can be compared with those of ``xp`` and given to its functions."""

    def __init__(self, of: Any) -> None:
        self.of = numpy.dtype(of)

    def __hash__(self) -> int:
        return hash(self.of)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dtype) or _is_ours():
            return bool(self.of == _opened(other))
        raise TypeError(f"it compares a dtype with {other!r}; compare it with xp.float32")

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__" or _is_ours():
            raise AttributeError(f"dtypes have no {name}")
        raise TypeError(f"it reads {name} of a dtype, which not all dtypes have; use xp.isdtype")

    def __str__(self) -> str:
        if _is_ours():
            return str(self.of)
        raise TypeError(
            "it asks for the name of a dtype, which is another one in each framework; compare the "
            "dtype with xp.float32"
        )

    __repr__ = __str__


class Namespace:
    """The functions of a module of NumPy's for neutral arrays; it is imported when it is used."""

    def __init__(self, module: str, prefix: str = "") -> None:
        self._module, self._prefix = module, prefix

    def __getattr__(self, name: str) -> Any:
        if self._prefix + name not in COMMON.split():
            raise (AttributeError if _is_ours() else TypeError)(  # which no getattr takes
                f"not all frameworks have xp.{self._prefix}{name}, or it differs between them; use "
                "other functions of xp, or those of samestep.vocabulary"
            )
        found = getattr(import_module(self._module), name)
        if isinstance(found, ModuleType):
            return Namespace(found.__name__, f"{name}.")
        if isinstance(found, type) and issubclass(found, numpy.generic):
            return Dtype(found)
        if not callable(found):
            return found

        def function(*args: Any, out: Any = None, **kwargs: Any) -> Any:
            if out is not None:
                raise TypeError(f"it writes into {out!r} with out=; make a new array")
            return _closed(found(*_opened(args), **_opened(kwargs)))

        return function


XP = Namespace("numpy" if hasattr(numpy, "astype") else "array_api_compat.numpy")


def _opened(value: Any) -> Any:
    """NumPy's arrays in place of neutral ones."""
    if isinstance(value, (Neutral, Dtype)):
        return value.values if isinstance(value, Neutral) else value.of
    if isinstance(value, dict):
        return {name: _opened(each) for name, each in value.items()}
    return type(value)(map(_opened, value)) if type(value) in (tuple, list) else value


def _closed(value: Any) -> Any:
    """Neutral arrays in place of NumPy's."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return Neutral(value)
    if isinstance(value, numpy.dtype):
        return Dtype(value)
    if isinstance(value, (numpy.finfo, numpy.iinfo)):
        number = float if isinstance(value, numpy.finfo) else int
        return SimpleNamespace(
            **{n: number(getattr(value, n)) for n in LIMITS if hasattr(value, n)}
        )
    if hasattr(value, "_fields"):  # the results of linalg.qr, for example
        return type(value)(*map(_closed, value))
    return type(value)(map(_closed, value)) if type(value) in (tuple, list) else value


def renamed(value: Any, name: str) -> Any:
    """An array, or every array of a tuple, as the argument of this name."""
    if isinstance(value, tuple):
        return tuple(renamed(each, name) for each in value)
    return Neutral(value.values, name) if isinstance(value, Neutral) else value
