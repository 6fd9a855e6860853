"""The header of a safetensors file: the length of a JSON text in eight bytes, and the text."""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from .state import CheckpointError
from .tensor import DTYPES, Tensor

__all__ = ["LARGEST", "Place", "built", "json_of", "parsed", "places"]

LARGEST = 100_000_000
"""Most bytes of a header, as in the safetensors package."""
CODES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Our dtypes by their names in safetensors."""
DIMENSIONS = 64
"""The most dimensions that an array of NumPy can have."""
METADATA = "__metadata__"
DENSEST = {"{": 24, "[": 10, '"': 3}
"""Characters of a text of JSON for each of these signs, at least: an empty list of two characters
takes 56 bytes of memory."""
FEW = 1000
"""Signs that may be there in addition."""


class Place(NamedTuple):
    """An array in a file: where it begins and ends, counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def built(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> bytes:
    """The header of a file with these arrays, one after another."""
    codes = {dtype: code for code, dtype in CODES.items()}
    items: dict[str, Any] = {METADATA: texts}
    end = 0
    for key, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        shape = [*tensor.shape]
        items[key] = {"dtype": codes[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(items, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST:
        raise ValueError(
            f"the header would have {len(text):,} bytes; a safetensors file may have {LARGEST:,}"
        )
    return len(text).to_bytes(8, "little") + text


def parsed(text: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """The texts of a header, and its entries about arrays.

    Raises:
        CheckpointError: the text is not a header.
    """
    try:
        header = json_of("the header", text.decode())
    except UnicodeDecodeError as error:
        raise CheckpointError(f"the header is no text: {error.reason}") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"the header is {type(header).__name__}; it must be an object")
    texts = header.pop(METADATA, {})
    if not isinstance(texts, dict) or not all(isinstance(t, str) for t in texts.values()):
        raise CheckpointError("the header's metadata must be texts by name")
    return texts, header


def places(items: Mapping[str, Any], size: int) -> dict[str, Place]:
    """The places of the arrays in a file that has ``size`` bytes after its header.

    Raises:
        CheckpointError: the arrays are not one after another, or do not have ``size`` bytes.
    """
    found = {key: _place(key, item) for key, item in items.items()}
    end = 0
    for key, place in sorted(found.items(), key=lambda pair: pair[1][2:]):
        if place.start != end:
            raise CheckpointError(f"{key!r} begins at byte {place.start}; it must at {end}")
        end = place.end
    if end != size:
        raise CheckpointError(f"the arrays have {end:,} bytes; the file has {size:,} for them")
    return found


def _place(key: str, item: Any) -> Place:
    if not isinstance(item, dict) or item.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{key!r} must have dtype, shape and data_offsets, and only those")
    code, shape, offsets = item["dtype"], item["shape"], item["data_offsets"]
    dtype = CODES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise CheckpointError(
            f"{key!r}: the dtype is {reprlib.repr(code)}; allowed: {', '.join(CODES)}"
        )
    for name, sizes in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(sizes, list) or len(sizes) > DIMENSIONS or not all(map(_is_size, sizes)):
            raise CheckpointError(
                f"{key!r}: {name} is {reprlib.repr(sizes)}; it must be at most {DIMENSIONS} whole "
                "numbers >= 0"
            )
    wanted = math.prod(shape) * numpy.dtype(DTYPES[dtype]).itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != wanted:
        raise CheckpointError(
            f"{key!r}: data_offsets are {offsets}; {code} of shape {shape} has {wanted} bytes"
        )
    return Place(dtype, tuple(shape), *offsets)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def json_of(what: str, text: str) -> Any:
    """The object of a JSON text, in which each name occurs once.

    Raises:
        CheckpointError: the text is not JSON, or would take far more memory than its length.
    """
    for sign, least in DENSEST.items():
        if text.count(sign) > FEW + len(text) // least:
            raise CheckpointError(f"{what} has more {sign} than one of its length may have")
    try:
        return json.loads(
            text,
            object_pairs_hook=_named_once,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is no JSON: {error}") from None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a number")
    return number


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
