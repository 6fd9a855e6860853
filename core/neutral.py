"""Arrays of no framework: with what the arrays of every framework have, and with nothing else.

What only some frameworks allow raises an error that says what to write in its place.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy

__all__ = ["XP", "Neutral", "renamed"]

BINARY = "add sub mul truediv floordiv mod pow matmul and or xor"
COMPARED = "lt le eq ne gt ge"
UNARY = "neg pos abs invert"


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
    dtype = property(lambda self: self.values.dtype)
    device = property(lambda self: "cpu")
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
        if name[:2] == "__" or not hasattr(numpy.ndarray, name):
            raise AttributeError(f"arrays have no {name}")
        if name == "size":
            raise AttributeError(
                f"it reads the size of {self!r}, which is a method in torch; use "
                "samestep.vocabulary.count(xp, x), the number of elements of x"
            )
        raise AttributeError(f"not all arrays have the method {name}; use the functions of xp")

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
        if any(isinstance(value, numpy.generic) for value in given):  # a number of NumPy's
            return _closed(function(*_opened(given)))
        return self.__array_function__(function)

    def _value(self) -> Any:
        raise TypeError(
            f"it asks for the value of {self!r} (by if, and, or, float(), ...), which is unknown "
            "while a framework compiles; use xp.where(condition, ...), or choose(xp, ...) in "
            "scalars"
        )

    __bool__ = __float__ = __int__ = __index__ = __complex__ = _value


def _operator(name: str) -> Any:
    def operate(self: Neutral, *other: Any) -> Any:
        if any(isinstance(value, numpy.ndarray) for value in other):
            raise TypeError(
                f"it combines a NumPy array with {self!r}, which may be of any framework"
            )
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


class Namespace:
    """The functions of a module of NumPy's for neutral arrays; it is imported when it is used."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        module = import_module(self._module)
        if not hasattr(module, name):
            raise AttributeError(f"xp has no {name}")
        found = getattr(module, name)
        if isinstance(found, ModuleType):
            return Namespace(found.__name__)
        if isinstance(found, type) or not callable(found):
            return found

        def function(*args: Any, out: Any = None, **kwargs: Any) -> Any:
            if out is not None:
                raise TypeError(f"it writes into {out!r} with out=; make a new array")
            return _closed(found(*_opened(args), **_opened(kwargs)))

        return function


XP = Namespace("numpy" if hasattr(numpy, "astype") else "array_api_compat.numpy")


def _opened(value: Any) -> Any:
    """NumPy's arrays in place of neutral ones."""
    if isinstance(value, Neutral):
        return value.values
    if isinstance(value, dict):
        return {name: _opened(each) for name, each in value.items()}
    return type(value)(map(_opened, value)) if type(value) in (tuple, list) else value


def _closed(value: Any) -> Any:
    """Neutral arrays in place of NumPy's."""
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return Neutral(value)
    if hasattr(value, "_fields"):  # the results of linalg.qr, for example
        return type(value)(*map(_closed, value))
    return type(value)(map(_closed, value)) if type(value) in (tuple, list) else value


def renamed(value: Any, name: str) -> Any:
    """An array, or every array of a tuple, as the argument of this name."""
    if isinstance(value, tuple):
        return tuple(renamed(each, name) for each in value)
    return Neutral(value.values, name) if isinstance(value, Neutral) else value
