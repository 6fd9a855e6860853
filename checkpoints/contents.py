"""A checkpoint as named arrays and JSON, and back; every name and type is checked."""

from __future__ import annotations

import json
import reprlib
import zlib
from collections.abc import Mapping
from typing import Any

from .description import Description
from .header import json_of
from .state import Checkpoint, CheckpointError, ParameterState, Slots
from .tensor import DTYPES, Tensor

__all__ = ["FORMAT", "FORMAT_VERSION", "arrays", "check_seal", "metadata", "parsed", "seal"]

FORMAT, FORMAT_VERSION = "samestep", "1"

KINDS = ("slots", "params", "shared")
DEEPEST = 50
"""Rules around a rule."""
MOST_STEPS = 2**31 - 1
"""JAX counts them in 32 bits."""


def arrays(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every array by its key."""
    found: dict[str, Tensor] = {}
    for path, own in checkpoint.parameters.items():
        found |= {f"slots/{slot}/{path}": tensor for slot, tensor in own.tensors()}
        if own.value is not None:
            found[f"params/{path}"] = own.value
    found |= {f"params/{path}": tensor for path, tensor in checkpoint.others.items()}
    return found | {f"shared/{name}": tensor for name, tensor in checkpoint.shared.items()}


def metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Everything but the arrays, as texts by name."""
    rules: list[Description] = []
    parameters: dict[str, Any] = {}
    for path, own in checkpoint.parameters.items():
        if own.rule not in rules:
            rules.append(own.rule)
        parameters[path] = {
            "shape": list(own.shape),
            "dtype": own.dtype,
            "step": None if own.slots is None else own.step,
            "rule": rules.index(own.rule),
        }
        if own.missed:
            parameters[path]["missed"] = dict(own.missed)
    more = checkpoint.calls > checkpoint.step
    return {
        **({"calls": str(checkpoint.calls)} if more else {}),
        **({"point": checkpoint.point} if checkpoint.point else {}),
        "layout": checkpoint.layout,
        "rules": json.dumps(rules, allow_nan=False),
        "parameters": json.dumps(parameters),
    }


def seal(texts: Mapping[str, str]) -> str:
    """A checksum of names and texts."""
    return f"{zlib.crc32(json.dumps(sorted(texts.items())).encode()):08x}"


def check_seal(texts: Mapping[str, str]) -> None:
    """Check the metadata of a file.

    Raises:
        CheckpointError: it is not a checkpoint's, has another version, or has been changed.
    """
    if texts.get("format") != FORMAT:
        raise CheckpointError(
            "this is a safetensors file, but no checkpoint of samestep: its header has "
            f"format {texts.get('format')!r}"
        )
    if texts.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"the file has version {texts.get('format_version')} of the format, written by "
            f"{texts.get('written_by')}; this is samestep for version {FORMAT_VERSION}"
        )
    if texts.get("seal") != seal({name: text for name, text in texts.items() if name != "seal"}):
        raise CheckpointError("the header has been changed since it was written")


def parsed(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """The checkpoint from the results of ``metadata`` and ``arrays``.

    Raises:
        CheckpointError: a text is malformed, or arrays are missing or too many.
    """
    rules = _checked("rules", _json("rules", texts), list)
    for place, description in enumerate(rules):
        _check_description(f"rules[{place}]", description)
    slots, values, shared = _sorted_out(tensors)
    states = {}
    for path, item in _checked("parameters", _json("parameters", texts), dict).items():
        where = f"parameters[{path!r}]"
        own = _checked(where, item, dict)
        shape = _checked(f"{where}: shape", own.get("shape"), list)
        sizes = tuple(_whole(f"{where}: shape", size) for size in shape)
        place = _whole(f"{where}: rule", own.get("rule"))
        if place >= len(rules):
            raise CheckpointError(f"{where}: rule is {place}; there are {len(rules)} rules")
        if _checked(f"{where}: dtype", own.get("dtype"), str) not in DTYPES:
            raise CheckpointError(
                f"{where}: dtype is {own['dtype']!r}; it must be one of {', '.join(DTYPES)}"
            )
        stepped = own.get("step") is not None
        step = _whole(f"{where}: step", own["step"], MOST_STEPS) if stepped else 0
        found = slots.pop(path, {})
        if found and not stepped:
            raise CheckpointError(f"{where} has no step, yet the slots {', '.join(found)}")
        states[path] = ParameterState(
            sizes,
            own["dtype"],
            step,
            rules[place],
            found if stepped else None,
            values.pop(path, None),
            _missed(where, own),
        )
    for path in slots:
        raise CheckpointError(f"there are slots of {path!r}, which is not among parameters")
    layout = _checked("layout", texts.get("layout"), str)
    calls = _whole("calls", _json("calls", texts), MOST_STEPS) if "calls" in texts else 0
    said = texts.get("written_by", ""), texts.get("point", "")
    return Checkpoint(states, shared, layout, values, calls, *said)


def _missed(where: str, own: Mapping[str, Any]) -> dict[str, int]:
    """The withheld steps that a parameter had missed anyway, which a file may leave out."""
    found = _checked(f"{where}: missed", own.get("missed", {}), dict)
    return {n: _whole(f"{where}: missed: {n}", count, MOST_STEPS) for n, count in found.items()}


def _sorted_out(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Slots], dict[str, Any], Any]:
    """Slots by path and name, values by path, and shared arrays."""
    pieces: dict[str, dict[str, dict[int | None, Tensor]]] = {}
    values, shared = {}, {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "params":
            values[rest] = tensor
        elif kind == "shared":
            shared[rest] = tensor
        elif kind == "slots" and tensor.dtype.startswith("int"):
            raise CheckpointError(f"{key!r}: the dtype is {tensor.dtype}; state has fractions")
        elif kind == "slots":
            name, slash, path = rest.partition("/")
            slot, dot, part = name.partition(".")
            if not slash or not slot.isidentifier() or (dot and not part.isdecimal()):
                raise CheckpointError(f"the key {key!r} names no slot and parameter")
            at = int(part) if dot else None
            pieces.setdefault(path, {}).setdefault(slot, {})[at] = tensor
        else:
            raise CheckpointError(f"the key {key!r} must begin with {', '.join(KINDS)} and a slash")
    slots = {
        path: {slot: _joined(path, slot, found) for slot, found in own.items()}
        for path, own in pieces.items()
    }
    return slots, values, shared


def _joined(path: str, slot: str, found: dict[int | None, Tensor]) -> Any:
    """A slot's array, or the tuple of its parts."""
    if found.keys() == {None}:
        return found[None]
    if found.keys() != {*range(len(found))}:
        there = ", ".join(sorted(map(str, found)))
        raise CheckpointError(f"slot {slot} of {path!r} has the parts {there}; some are missing")
    return tuple(found[part] for part in range(len(found)))


def _json(name: str, texts: Mapping[str, str]) -> Any:
    if name not in texts:
        raise CheckpointError(f"the header has no {name}")
    return json_of(f"{name} in the header", texts[name])


def _checked(where: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise CheckpointError(
            f"the header's {where} is {type(value).__name__}; it must be {kind.__name__}"
        )
    return value


def _whole(where: str, value: Any, most: int = 2**63 - 1) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise CheckpointError(
            f"the header's {where} is {reprlib.repr(value)}; it must be a whole number, at most "
            f"{most}"
        )
    return value


def _check_description(where: str, description: Any) -> None:
    for _ in range(DEEPEST):
        _checked(where, description, dict)
        _checked(f"{where}: name", description.get("name"), str)
        values = _checked(f"{where}: values", description.get("values"), dict)
        for name, value in values.items():
            if not _is_value(value):
                raise CheckpointError(f"the header's {where}: {name} is {reprlib.repr(value)}")
        _whole(f"{where}: version", description.get("version"))
        if "rule" not in description:
            return
        description, where = description["rule"], f"{where}: rule"
    raise CheckpointError(f"the header has a rule inside more than {DEEPEST} others")


def _is_value(value: Any, lists: int = 2) -> bool:
    """Whether a description may contain the value: see ``description._plain``.

    ``lists`` is how many may be inside each other: numbers of an iteration are rows of triples.
    """
    if isinstance(value, list):
        return lists > 0 and all(_is_value(part, lists - 1) for part in value)
    if not isinstance(value, dict):
        return True
    if "schedule" in value:
        inside = value.get("value")
        nested = isinstance(inside, dict) and "schedule" in inside
        return value.keys() == {"schedule", "value"} and not nested and _is_value(inside)
    if "number" in value:
        return value in [{"number": number} for number in ("inf", "-inf", "nan")]
    return all(isinstance(text, str) for text in value.values())
