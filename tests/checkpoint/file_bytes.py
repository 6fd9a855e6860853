"""The bytes of a checkpoint's file, taken apart and put together again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy

import samestep
from samestep.checkpoints import Checkpoint, Tensor
from samestep.checkpoints.contents import arrays, metadata, seal
from samestep.checkpoints.stored import checksum

RULE = samestep.AdamW(lr=1e-2, weight_decay=0.1)
KINDS = {"F32": "float32", "I32": "int32", "F64": "float64"}
CODES = {dtype: code for code, dtype in KINDS.items()}
M = "slots/m/bias"
"""The key of an array of two elements."""

Change = Callable[[bytes], bytes]


def trained(steps: int = 3) -> tuple[dict[str, Any], Any]:
    """Parameters and state of ``RULE``."""
    params = {"weight": numpy.arange(4, dtype=numpy.float32).reshape(2, 2) / 7 - 0.2}
    params["bias"] = numpy.asarray([0.5, -0.25], numpy.float32)
    state = RULE.init(params)
    for step in range(steps):
        grads = {name: param * (-1) ** step * 10.0**-step for name, param in params.items()}
        grads = {name: grad.astype(numpy.float32) for name, grad in grads.items()}
        params, state = RULE.update(grads, params, state)
    return params, state


def contents(saved: Checkpoint) -> Any:
    """Everything in a checkpoint, as values that can be compared."""
    every = {
        key: (t.dtype, t.shape, numpy.ascontiguousarray(t.bits).tobytes())
        for key, t in arrays(saved).items()
    }
    return sorted(every.items()), metadata(saved)


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the arrays."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def packed(header: Any, body: bytes = b"") -> bytes:
    """A file with this header; ``bytes`` are the text of the header itself."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def resealed(header: dict[str, Any]) -> dict[str, Any]:
    """The header with the seal that its metadata should have."""
    texts = {n: text for n, text in header["__metadata__"].items() if n != "seal"}
    return {**header, "__metadata__": {**texts, "seal": seal(texts)}}


def said(data: bytes, **changes: Any) -> bytes:
    """The file with other metadata, sealed again; what is no text becomes JSON."""
    header, body = header_of(data)
    texts = {n: t if isinstance(t, str) else json.dumps(t) for n, t in changes.items()}
    header["__metadata__"] |= texts
    return packed(resealed(header), body)


def saying(**changes: Any) -> Change:
    """A change of the metadata."""
    return lambda data: said(data, **changes)


def meant(data: bytes, name: str) -> Any:
    """The value of a text of the metadata."""
    return json.loads(header_of(data)[0]["__metadata__"][name])


def item(**changes: Any) -> Change:
    """A change of the header's entry about the array ``M``."""

    def change(data: bytes) -> bytes:
        header, body = header_of(data)
        header[M] |= changes
        return packed(header, body)

    return change


def with_arrays(change: Callable[[dict[str, Tensor]], Any]) -> Change:
    """A change of the arrays, which get the checksums that they should have."""

    def changed(data: bytes) -> bytes:
        header, body = header_of(data)
        texts = header.pop("__metadata__")
        found = {}
        for key, entry in header.items():
            flat = numpy.frombuffer(body[slice(*entry["data_offsets"])], KINDS[entry["dtype"]])
            found[key] = Tensor(flat.reshape(entry["shape"]), KINDS[entry["dtype"]])
        change(found)
        sums, end, parts, items = {}, 0, [], {}
        for key, tensor in found.items():
            parts.append(tensor.bits.tobytes())
            start, end = end, end + len(parts[-1])
            shape, code = [*tensor.shape], CODES[tensor.dtype]
            items[key] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
            crcs = [zlib.crc32(parts[-1])] if parts[-1] else []
            sums[key] = checksum(key, tensor.dtype, shape, crcs)
        texts["crc32"] = json.dumps(sums)
        return packed(resealed({**items, "__metadata__": texts}), b"".join(parts))

    return changed


def put(key: str, bits: Any, dtype: str = "float32") -> Change:
    """An array added or replaced."""
    return with_arrays(lambda found: found.update({key: Tensor(numpy.asarray(bits, dtype), dtype)}))
