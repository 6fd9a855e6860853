"""Arrays of no framework: with what the arrays of every framework have, and with nothing else.

What only some frameworks allow raises an error that says what to write in its place.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from operator import attrgetter
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy

__all__ = ["COMMON", "XP", "Neutral", "renamed"]

COMMON = """
: complex64 e fft float16 float32 float64 inf int16 int32 int64 int8 linalg nan newaxis pi
  uint16 uint32 uint64 uint8
1: abs acos acosh arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh
  bitwise_invert ceil conj cos cosh exp expm1 finfo floor iinfo imag isfinite isinf isnan
  isneginf isposinf log log10 log1p log2 logical_not matrix_transpose negative positive real
  reciprocal round sin sinh sqrt square tan tanh trunc linalg.det linalg.eig linalg.eigh
  linalg.eigvals linalg.inv linalg.pinv linalg.qr linalg.slogdet linalg.svd
1 axes: fft.fftshift fft.ifftshift
1 axes norm s: fft.fftn fft.ifftn fft.irfftn fft.rfftn
1 axis: argsort concat flip sort unstack
1 axis dtype: cumulative_prod cumulative_sum
1 axis keepdims: all any count_nonzero max mean min prod std sum var
1 axis n: diff
1 axis n norm: fft.fft fft.ifft fft.irfft fft.rfft
1 copy: from_dlpack
1 copy dtype: asarray
1 d: fft.fftfreq fft.rfftfreq
1 dtype: ones_like zeros_like
1 dtype shape: ones zeros
1 k: tril triu
1 upper: linalg.cholesky
2: add arctan2 astype atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift
  bitwise_xor can_cast divide equal floor_divide greater greater_equal inner kron less
  less_equal logaddexp logical_and logical_or logical_xor matmul maximum minimum multiply
  not_equal outer pow remainder roll subtract tile linalg.solve
2 UPLO: linalg.eigvalsh
2 axes: permute_dims tensordot
2 axis: concatenate expand_dims repeat squeeze stack take take_along_axis vecdot linalg.cross
2 axis dtype: cumprod cumsum
2 axis keepdims: argmax argmin
2 dtype: full_like
2 dtype k: eye
2 dtype kind: isdtype
2 dtype shape: full
2 k: diag
2 shape: broadcast_to reshape
3: clip where
3 axis1 axis2: swapaxes
3 destination source: moveaxis
3 dtype endpoint num: linspace
3 dtype step stop: arange
3 side: searchsorted
4 atol equal_nan rtol: allclose isclose
4 axes norm s: fft.fft2 fft.ifft2 fft.irfft2 fft.rfft2
4 axis keepdims ord: linalg.norm
4 axis1 axis2 offset: diagonal
4 nan neginf posinf: nan_to_num
5 axis1 axis2 dtype offset: trace
9: atleast_1d atleast_2d atleast_3d broadcast_arrays broadcast_shapes einsum result_type
9 indexing: meshgrid
"""
"""What NumPy, torch, JAX and MLX have under one name and with one meaning; a test derives it.

Of functions, before the names: how many arguments may be given by place, and which by name.
"""

OTHERS = "other functions of xp, or those of samestep.vocabulary"
VOCABULARY = "samestep.vocabulary"
OURS = ("sign",)
"""The functions of ``samestep.vocabulary`` that differ under ``xp``: MLX's sign of NaN is 0."""
ARITHMETIC = "add sub mul truediv floordiv mod pow neg"
COMPUTED = """
add divide floor_divide mean multiply negative pow remainder std subtract var
"""
"""Arithmetic as operators and as functions, which is refused for truth values."""
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
    rank = 0
    """What is computed of several arrays is of the kind that has the highest."""

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
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, slice) and (part.step or 1) < 0:
                raise TypeError(f"it reads {self!r} backwards, which torch cannot; use xp.flip")
            if isinstance(part, Neutral) and part.values.dtype == bool:
                raise TypeError(
                    f"it chooses elements of {self!r} by truth values, which a framework cannot "
                    "compile; use xp.where(condition, ...)"
                )
        return type(self)(self.values[_opened(index)])

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


def _refuse_truth(what: str, given: Any) -> None:
    """Raise if truth values are taken for numbers: 0 times infinity is 0 in some, and NaN."""
    if any(isinstance(each, Neutral) and each.values.dtype == bool for each in given):
        raise TypeError(
            f"{what} computes with truth values, which torch refuses in part, and which make 0 of "
            "infinity in JAX and NaN elsewhere; use xp.where(condition, x, y)"
        )


def _refuse_default_dtype(what: str, result: Any, given: Any) -> None:
    """Raise if an array of floating numbers is made of none: then its dtype is the default."""
    kind = getattr(getattr(result, "dtype", None), "kind", "")
    arrays = [each for each in given if isinstance(each, (Neutral, Dtype))]
    floating = any(_is_floating(each) for each in given)
    if kind == "f" and not floating and (result.ndim or not arrays):
        raise TypeError(
            f"{what} makes floating numbers of none, in float32 in torch and MLX whatever the "
            "parameter has; give dtype=grad.dtype, or choose with xp.where(condition, x, y) of "
            "arrays"
        )


def _is_floating(value: Any) -> bool:
    """Whether an argument is floating: a dtype, an array, or an array of several."""
    if isinstance(value, (tuple, list)):
        return any(map(_is_floating, value))
    return getattr(_opened(value), "dtype", _opened(value)) in (numpy.float32, numpy.float64)


def _operator(name: str, computes: bool = False) -> Any:
    def operate(self: Neutral, *other: Any) -> Any:
        _refuse_numpy(self, *other)
        if computes and not _is_ours():
            _refuse_truth(f"{name.strip('_')} of {self!r}", (self, *other))
        result = getattr(self.values, name)(*map(_opened, other))
        if result is NotImplemented:
            return result
        _refuse_default_dtype(f"{name.strip('_')} of {self!r}", result, [self, *other])
        return _kind((self, *other))(result)

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
    computes = _name in ARITHMETIC.split()
    setattr(Neutral, f"__{_name}__", _operator(f"__{_name}__", computes))
    setattr(Neutral, f"__r{_name}__", _operator(f"__r{_name}__", computes))
    setattr(Neutral, f"__i{_name}__", _in_place(_name, SIGNS.get(_name, f"{_name}=")))
for _name in (*COMPARED.split(), *UNARY.split()):
    setattr(Neutral, f"__{_name}__", _operator(f"__{_name}__", _name in ARITHMETIC.split()))


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


@cache
def _arguments() -> dict[str, tuple[int, list[str]]]:
    """By name of a function, how many arguments are given by place, and which by name."""
    found = {}
    for line in COMMON.replace("\n  ", " ").strip().splitlines():
        given, _, names = line.partition(":")
        places, *keywords = given.split() or ["0"]
        found.update(dict.fromkeys(names.split(), (int(places), keywords)))
    return found


def _refuse_arguments(function: str, places: int, named: dict[str, Any]) -> None:
    """Raise if a function is given arguments that not all frameworks take."""
    most, names = _arguments()[function]
    unknown = [f"{name}=" for name in named if name not in names]
    if places > most or unknown:
        given = ", ".join(unknown) or f"{places} arguments by place"
        by_name = f", and by name {', '.join(names)}" if names else ""
        raise TypeError(
            f"it gives xp.{function} {given}, which not all frameworks take; they all take "
            f"{most} by place{by_name}"
        )


class Namespace:
    """The functions of a module of NumPy's for neutral arrays; it is imported when it is used."""

    def __init__(self, module: str, prefix: str = "") -> None:
        self._module, self._prefix = module, prefix

    def __getattr__(self, name: str) -> Any:
        whole = self._prefix + name
        own = whole in OURS and sys._getframe(1).f_globals.get("__name__") == VOCABULARY
        if whole not in _arguments() and not own:
            use = f"{VOCABULARY}.{whole}(xp, x)" if whole in OURS else OTHERS
            raise (AttributeError if _is_ours() else TypeError)(  # which no getattr takes
                f"not all frameworks have xp.{whole}, or it differs between them; use {use}"
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
            if whole in COMPUTED.split() and not _is_ours():
                _refuse_truth(f"xp.{whole}", args)
            result = found(*_opened(args), **_opened(kwargs))
            if not _is_ours():
                _refuse_arguments(whole, len(args), kwargs)
                if "dtype" not in kwargs:
                    _refuse_default_dtype(f"xp.{whole}", result, args)
            return _closed(result, _kind(args))

        return function


XP = Namespace("numpy" if hasattr(numpy, "astype") else "array_api_compat.numpy")


def _opened(value: Any) -> Any:
    """NumPy's arrays in place of neutral ones."""
    if isinstance(value, (Neutral, Dtype)):
        return value.values if isinstance(value, Neutral) else value.of
    if isinstance(value, dict):
        return {name: _opened(each) for name, each in value.items()}
    return type(value)(map(_opened, value)) if type(value) in (tuple, list) else value


def _closed(value: Any, kind: type[Neutral] = Neutral) -> Any:
    """Neutral arrays, of a kind, in place of NumPy's."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return kind(value)
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


def _kind(given: Any) -> type[Neutral]:
    kinds = (type(each) for each in given if isinstance(each, Neutral))
    return max(kinds, key=attrgetter("rank"), default=Neutral)


def renamed(value: Any, name: str) -> Any:
    """An array, or every array of a tuple, as the argument of this name."""
    if isinstance(value, tuple):
        return tuple(renamed(each, name) for each in value)
    return Neutral(value.values, name) if isinstance(value, Neutral) else value
