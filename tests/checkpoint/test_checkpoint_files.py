"""Checkpoints as files: what is in them, and what becomes of those that are damaged or hostile."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import samestep
from samestep.benchmarks.saving import extra_memory
from samestep.checkpoints import Checkpoint, CheckpointError, Tensor, read, write
from samestep.checkpoints.contents import arrays, metadata, seal
from samestep.checkpoints.stored import PIECE, checksum

RULE = samestep.AdamW(lr=1e-2, weight_decay=0.1)
WIDE, BYTES = 1 << 20, 1 << 30
OFTEN = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def trained(steps: int = 3) -> tuple[dict[str, Any], Any]:
    params = {"weight": numpy.arange(4, dtype=numpy.float32).reshape(2, 2) / 7 - 0.2}
    params["bias"] = numpy.asarray([0.5, -0.25], numpy.float32)
    state = RULE.init(params)
    for step in range(steps):
        grads = {name: param * (-1) ** step * 10.0**-step for name, param in params.items()}
        grads = {name: grad.astype(numpy.float32) for name, grad in grads.items()}
        params, state = RULE.update(grads, params, state)
    return params, state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    found = tmp_path / "state.safetensors"
    samestep.save(found, RULE, *trained())
    return found


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    found = tmp_path / "state.safetensors"
    samestep.save(found, RULE, *trained(), max_shard_bytes=24)
    return found


def contents(saved: Checkpoint) -> Any:
    """All that a checkpoint says, to be compared."""
    every = {
        key: (t.dtype, t.shape, numpy.ascontiguousarray(t.bits).tobytes())
        for key, t in arrays(saved).items()
    }
    return sorted(every.items()), metadata(saved)


# Editing files


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def packed(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def resealed(header: dict[str, Any]) -> dict[str, Any]:
    texts = {n: text for n, text in header["__metadata__"].items() if n != "seal"}
    return {**header, "__metadata__": {**texts, "seal": seal(texts)}}


def said(data: bytes, **changes: Any) -> bytes:
    """The file with other metadata, sealed again; what is no text becomes JSON."""
    header, body = header_of(data)
    texts = {n: t if isinstance(t, str) else json.dumps(t) for n, t in changes.items()}
    header["__metadata__"] |= texts
    return packed(resealed(header), body)


def with_arrays(data: bytes, change: Callable[[dict[str, Tensor]], Any]) -> bytes:
    """The file with other arrays, with the checksums that they should have."""
    header, body = header_of(data)
    texts = header.pop("__metadata__")
    kinds = {"F32": "float32", "I32": "int32", "F64": "float64"}
    found = {}
    for key, item in header.items():
        start, end = item["data_offsets"]
        flat = numpy.frombuffer(body[start:end], kinds[item["dtype"]])
        found[key] = Tensor(flat.reshape(item["shape"]), kinds[item["dtype"]])
    change(found)
    codes, sums, end, parts = {v: k for k, v in kinds.items()}, {}, 0, []
    header = {}
    for key, tensor in found.items():
        parts.append(tensor.bits.tobytes())
        start, end = end, end + len(parts[-1])
        shape = [*tensor.shape]
        header[key] = {"dtype": codes[tensor.dtype], "shape": shape, "data_offsets": [start, end]}
        crcs = [zlib.crc32(parts[-1])] if parts[-1] else []
        sums[key] = checksum(key, tensor.dtype, shape, crcs)
    texts["crc32"] = json.dumps(sums)
    return packed(resealed({**header, "__metadata__": texts}), b"".join(parts))


def put(key: str, bits: Any, dtype: str = "float32") -> Callable[[dict[str, Tensor]], None]:
    return lambda found: found.update({key: Tensor(numpy.asarray(bits, dtype), dtype)})


def edited(data: bytes, key: str, **changes: Any) -> bytes:
    header, body = header_of(data)
    header[key] |= changes
    return packed(header, body)


# Who loads


@dataclass
class Holder:
    """An optimizer and its parameters in some library."""

    load: Callable[[Path], Any]
    taken: Callable[[], Checkpoint]


def numpy_holder() -> Holder:
    params, state = trained(1)
    return Holder(
        lambda path: samestep.load(path, RULE, params),
        lambda: samestep.checkpoint(RULE, params, state),
    )


def torch_holder() -> Holder:
    import torch  # noqa: PLC0415

    from samestep.torch import AdamW  # noqa: PLC0415

    model = torch.nn.Linear(2, 2)
    optimizer = AdamW(model.named_parameters(), lr=1e-2, weight_decay=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return Holder(
        lambda path: samestep.load(path, optimizer, model),
        lambda: samestep.checkpoint(optimizer, model),
    )


def jax_holder() -> Holder:
    import jax.numpy as jnp  # noqa: PLC0415

    from samestep.jax import AdamW  # noqa: PLC0415

    params = {name: jnp.asarray(param) for name, param in trained()[0].items()}
    optimizer = AdamW(lr=1e-2, weight_decay=0.1)
    _, state = optimizer.update(params, optimizer.init(params), params)
    return Holder(
        lambda path: samestep.load(path, optimizer, params),
        lambda: samestep.checkpoint(optimizer, params, state),
    )


def mlx_holder() -> Holder:
    import mlx.core as mx  # noqa: PLC0415
    from mlx import nn  # noqa: PLC0415

    from samestep.mlx import AdamW  # noqa: PLC0415

    model = nn.Linear(2, 2)
    optimizer = AdamW(lr=1e-2, weight_decay=0.1)
    optimizer.update(model, {"weight": mx.ones((2, 2)), "bias": mx.ones(2)})
    mx.eval(model.parameters(), optimizer.state)
    return Holder(
        lambda path: samestep.load(path, optimizer, model),
        lambda: samestep.checkpoint(optimizer, model),
    )


HOLDERS = {
    "numpy": numpy_holder,
    "torch": torch_holder,
    "jax": jax_holder,
    "mlx": mlx_holder,
}


@pytest.fixture(params=HOLDERS)
def holder(request: pytest.FixtureRequest) -> Holder:
    """An optimizer of each library that is there."""
    if request.param != "numpy":
        pytest.importorskip(f"samestep.{request.param}", exc_type=ImportError)
    return HOLDERS[request.param]()


def rules_of(data: bytes) -> Any:
    return json.loads(header_of(data)[0]["__metadata__"]["rules"])


def parameters_of(data: bytes) -> Any:
    return json.loads(header_of(data)[0]["__metadata__"]["parameters"])


def rules_with(**values: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        rules = rules_of(data)
        rules[0]["values"] |= values
        return said(data, rules=rules)

    return change


def parameter_with(**values: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        found = parameters_of(data)
        found["bias"] |= values
        return said(data, parameters=found)

    return change


def arrays_with(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[bytes], bytes]:
    return lambda data: with_arrays(data, change)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def of_another_model(data: bytes) -> bytes:
    header, body = header_of(data)
    del header["__metadata__"]
    return packed(header, body)


NOT_A_NUMBER = numpy.asarray([1.0, numpy.nan])
HUGE = 1 << 62
M = "slots/m/bias"
BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "no safetensors file"),
    "a few bytes": (lambda data: data[:7], "no safetensors file"),
    "a pickle": (lambda data: pickle.dumps(Bomb()), "no safetensors file"),
    "a header of a gigabyte": (lambda data: BYTES.to_bytes(8, "little") + data[8:], "header of"),
    "a header of 2**63": (lambda data: (1 << 63).to_bytes(8, "little") + data[8:], "header of"),
    "more at the end": (lambda data: data + b"\0", "the arrays have"),
    "less at the end": (lambda data: data[:-1], "the arrays have"),
    "a flipped bit": (flipped, "'slots/v/bias'.*changed|'params/bias'.*changed"),
    "deep JSON": (lambda data: packed(b"[" * 100_000 + b"]" * 100_000, b""), "no JSON"),
    "deep JSON inside": (lambda data: said(data, rules="[" * 50_000), "rules.*no JSON"),
    "a list": (lambda data: packed([], b""), "header is list"),
    "no text": (lambda data: packed(b"\xff\xfe{}", b""), "no text"),
    "an enormous number": (lambda data: packed(b'{"a": ' + b"9" * 5000 + b"}", b""), "no JSON"),
    "NaN in the JSON": (lambda data: said(data, parameters="NaN"), "parameters.*no JSON"),
    "metadata that is no text": (lambda data: packed({"__metadata__": {"a": 1}}, b""), "texts"),
    "no metadata": (of_another_model, "no checkpoint of samestep"),
    "another format": (lambda data: said(data, format="pt"), "format 'pt'"),
    "a later version": (lambda data: said(data, format_version="2"), "version 2"),
    "no seal": (lambda data: data.replace(b'"seal"', b'"sael"'), "changed"),
    "a name twice": (
        lambda data: data.replace(b"slots/v/bias", b"slots/m/bias"),
        "is there twice|changed",
    ),
    "a number for an array": (lambda data: edited_item(data, 1), f"'{M}' must have dtype"),
    "a dtype that is none": (lambda data: edited(data, M, dtype="F8"), f"'{M}': the dtype is 'F8'"),
    "a dtype that is a list": (lambda data: edited(data, M, dtype=[]), f"'{M}': the dtype"),
    "a negative size": (lambda data: edited(data, M, shape=[-2]), f"'{M}': shape"),
    "a size that is no int": (lambda data: edited(data, M, shape=[2.0]), f"'{M}': shape"),
    "a size that is true": (lambda data: edited(data, M, shape=[True, 2]), f"'{M}': shape"),
    "overflowing sizes": (lambda data: edited(data, M, shape=[HUGE, 4]), f"'{M}': data_offsets"),
    "no elements, but sizes": (
        lambda data: edited(data, M, shape=[0, HUGE, HUGE], data_offsets=[8, 8]),
        "begins at|slots/m/bias",
    ),
    "too many dimensions": (lambda data: edited(data, M, shape=[1] * 65), f"'{M}': shape"),
    "an offset too many": (
        lambda data: edited(data, M, data_offsets=[0, 8, 8]),
        f"'{M}': data_offsets",
    ),
    "overlapping arrays": (lambda data: edited(data, M, data_offsets=[0, 8]), "begins at byte"),
    "another shape": (lambda data: edited(data, M, shape=[2, 1]), "slot m of shape"),
    "another dtype": (lambda data: edited(data, M, dtype="I32"), f"'{M}': the dtype"),
    "a slot too few": (arrays_with(lambda found: found.pop(M)), "bias.*has slots"),
    "a slot too many": (arrays_with(put("slots/n/bias", [1, 2])), "bias.*has slots"),
    "a slot of nobody": (arrays_with(put("slots/m/other", [1, 2])), "other"),
    "a part of a slot": (arrays_with(put("slots/m.1/bias", [1, 2])), "slot m of 'bias'"),
    "a part with a strange number": (arrays_with(put("slots/m.²/bias", [1.0])), "slots/m"),
    "a key of no kind": (arrays_with(put("other/bias", [1.0])), "other/bias"),
    "a key without a slash": (arrays_with(put("slots", [1.0])), "'slots'"),
    "shared state": (arrays_with(put("shared/d", 1.0)), "shared"),
    "a slot of another shape": (arrays_with(put(M, [1, 2, 3])), "bias.*slot m of shape"),
    "a slot of whole numbers": (arrays_with(put(M, [1, 2], "int32")), f"'{M}': the dtype is int32"),
    "a parameter of another shape": (
        arrays_with(put("params/bias", [1, 2, 3])),
        "params/bias|'bias'",
    ),
    "a parameter of another dtype": (arrays_with(put("params/bias", [1, 2], "float64")), "bias"),
    "NaN in a slot": (arrays_with(put(M, NOT_A_NUMBER)), f"'{M}': 1 of 2 elements are NaN"),
    "NaN in a parameter": (
        arrays_with(put("params/bias", NOT_A_NUMBER)),
        "'params/bias': 1 of 2 elements are NaN",
    ),
    "a parameter less": (lambda data: said(data, parameters={}), "not among parameters"),
    "a shape of another": (parameter_with(shape=[3]), "'bias' has shape"),
    "a negative step": (parameter_with(step=-1), "'bias'.*step"),
    "a huge step": (parameter_with(step=1 << 80), "step"),
    "no step, but slots": (parameter_with(step=None), "'bias'.*no step"),
    "a rule that is not there": (parameter_with(rule=9), "'bias'.*rule is 9"),
    "a dtype that is a dict": (parameter_with(dtype={}), "'bias'.*dtype"),
    "another rule": (
        lambda data: said(data, rules=[{**rules_of(data)[0], "name": "Lion"}]),
        "Lion",
    ),
    "rules that are none": (lambda data: said(data, rules=[1]), "rules"),
    "a number that is a text": (rules_with(lr="fast"), "lr"),
    "a number that is a list": (rules_with(lr=[1, 2]), "lr"),
    "a number that is a dict": (rules_with(lr={"a": "b"}), "lr"),
    "a number without value": (rules_with(lr={"schedule": "x"}), "lr"),
    "a number that is no number": (rules_with(lr={"number": [1]}), "lr"),
    "a number out of range": (rules_with(betas=[0.9, 1.5]), "betas"),
    "an option of another kind": (rules_with(decay=7), "decay is"),
    "an option that nobody knows": (rules_with(speed=7), "no speed"),
}


def edited_item(data: bytes, item: Any) -> bytes:
    header, body = header_of(data)
    return packed({**header, M: item}, body)


class Bomb:
    """Pickled, it would end the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_name_and_changes_nothing(path, holder, name):
    before = contents(holder.taken())
    make, words = BAD[name]
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(CheckpointError, match=f"(?s){path}.*({words})"):
        holder.load(path)
    assert contents(holder.taken()) == before


def test_a_good_file_is_loaded_by_all_of_them(path, holder):
    """Or the test above would be of the optimizers, not of the files."""
    before = contents(holder.taken())
    good = contents(read(path))
    assert good != before
    new = holder.load(path)
    assert new is not None or contents(holder.taken())[0] == good[0]
    path.write_bytes(with_arrays(path.read_bytes(), lambda found: None))
    holder.load(path)


def test_not_a_number_is_taken_where_it_is_allowed(path):
    path.write_bytes(with_arrays(path.read_bytes(), put(M, NOT_A_NUMBER)))
    _, state = samestep.load(path, RULE, trained()[0], allow_nan=True)
    assert numpy.isnan(state.slots["m"]["bias"]).tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_not_a_number_is_found_in_every_dtype_and_infinity_is_none(tmp_path, dtype):
    nan, infinite = {
        "bfloat16": (0xFFC1, 0xFF80),
        "float16": (numpy.nan, -numpy.inf),
        "float64": (numpy.nan, -numpy.inf),
    }[dtype]
    kind = numpy.uint16 if dtype == "bfloat16" else dtype
    for value, fails in ((nan, True), (infinite, False)):
        many = numpy.zeros(PIECE, kind)
        many[-3] = value
        saved = samestep.checkpoint(RULE, *trained())
        own = saved.parameters["bias"]
        own.slots["m"] = Tensor(many, dtype)
        write(tmp_path / "file", saved)
        assert contents(read(tmp_path / "file")) == contents(saved)
        if not fails:
            read(tmp_path / "file", allow_nan=False)
            continue
        with pytest.raises(CheckpointError, match=f"'{M}': 1 of {PIECE} elements are NaN"):
            read(tmp_path / "file", allow_nan=False)


# Every length, every byte


def outcome(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    try:
        return contents(read(path))
    except CheckpointError as error:
        assert str(path) in str(error)
        return None


def test_a_file_cut_anywhere_is_refused(path):
    data = path.read_bytes()
    assert outcome(path, data)
    for length in range(len(data)):
        assert outcome(path, data[:length]) is None, length


def flip(path: Path, masks: tuple[int, ...]) -> None:
    data, good = path.read_bytes(), contents(read(path))
    same = 0
    for place in range(len(data)):
        for mask in masks:
            found = outcome(path, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            assert found in (None, good), (place, mask)
            same += found is not None
    assert same < 100  # blanks at the end of the header


def test_a_file_with_any_byte_flipped_is_refused_or_the_same(path):
    flip(path, (0x20, 0xFF))


@pytest.mark.thorough
def test_so_is_one_with_any_bit_flipped(path):
    flip(path, (0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0x2A))


def test_an_index_cut_or_flipped_anywhere_is_refused_or_the_same(sharded):
    data, good = sharded.read_bytes(), contents(read(sharded))
    for place in range(len(data)):
        assert outcome(sharded, data[:place]) is None, place
        changed = bytes([data[place] ^ 0x01])
        found = outcome(sharded, data[:place] + changed + data[place + 1 :])
        assert found in (None, good), place


# Indices and their files


def index_with(index: Path, name: str) -> None:
    """The index, its first array in a file of that name."""
    content = json.loads(index.read_text())
    content["weight_map"][next(iter(content["weight_map"]))] = name
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a\0b", "..\\x", "", ".", "..", "x/y", "plain.safetensors", "\ud800"],
)
def test_an_index_names_files_of_its_own_only(sharded, name):
    index_with(sharded, name)
    with pytest.raises(CheckpointError, match=f"(?s){sharded}.*'slots/m/weight'.*in a file beside"):
        read(sharded)


def test_saving_over_a_hostile_index_removes_nothing_of_others(sharded):
    precious = sharded.with_name("precious.safetensors")
    precious.write_text("mine")
    index_with(sharded, precious.name)
    samestep.save(sharded, RULE, *trained())
    assert precious.read_text() == "mine"


def parts_of(index: Path) -> list[Path]:
    return sorted(index.parent.glob("*-of-*"))


def test_a_file_of_a_set_that_is_missing_or_a_link_or_a_folder_is_refused(sharded):
    part = parts_of(sharded)[1]
    elsewhere = sharded.parent / "elsewhere"
    part.rename(elsewhere)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name}.*not there"):
        read(sharded)
    part.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name}.*a link"):
        read(sharded)
    part.unlink()
    part.mkdir()
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name}.*no file"):
        read(sharded)


def test_files_that_have_changed_places_are_refused(sharded):
    one, other = parts_of(sharded)[:2]
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{one.name} has other keys"):
        read(sharded)


def test_a_file_of_another_save_is_refused(sharded):
    old = parts_of(sharded)[0].read_bytes()
    samestep.save(sharded, RULE, *trained(5), max_shard_bytes=24)
    part = parts_of(sharded)[0]
    part.write_bytes(old)
    with pytest.raises(CheckpointError, match=f"{sharded}.*{part.name} is of another save"):
        read(sharded)


def test_a_file_of_a_set_is_no_checkpoint_by_itself(sharded):
    with pytest.raises(CheckpointError, match=f"{parts_of(sharded)[0]}: .*no rules"):
        read(parts_of(sharded)[0])


def test_an_index_that_is_renamed_says_what_is_wrong(sharded):
    other = sharded.rename(sharded.with_name("other.safetensors"))
    with pytest.raises(CheckpointError, match=r"other-.*not renamed"):
        read(other)


def test_saving_again_removes_the_old_set_and_only_that(sharded):
    neighbour = sharded.with_name("state2.safetensors")
    samestep.save(neighbour, RULE, *trained(), max_shard_bytes=24)
    count = len(parts_of(sharded))
    samestep.save(sharded, RULE, *trained(4), max_shard_bytes=24)
    assert len(parts_of(sharded)) == count
    samestep.save(sharded, RULE, *trained(5))
    assert len(parts_of(sharded)) == count / 2
    assert read(sharded).step == 5
    assert read(neighbour).step == 3


# Files that are none


def test_a_folder_and_a_pipe_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"{tmp_path}: this is no file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: this is no file"):
        read(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")


def test_a_file_that_may_not_be_read_is_refused(path, monkeypatch):
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=f"{path}: it cannot be read: Permission denied"):
        read(path)


def test_a_model_of_others_is_refused(path):
    save_file({"a": numpy.ones(3, numpy.uint8)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of samestep"):
        read(path)


def test_a_file_of_torch_is_refused_and_not_unpickled(path):
    torch = pytest.importorskip("torch")
    torch.save({"bomb": Bomb()}, path)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read(path)


# What is written


def test_other_programs_can_read_the_file(path):
    params, state = trained()
    found = load_file(path)
    assert found["params/weight"].tobytes() == params["weight"].tobytes()
    assert found["slots/v/bias"].tobytes() == state.slots["v"]["bias"].tobytes()


def test_arrays_are_aligned_whatever_their_dtypes(tmp_path):
    saved = samestep.checkpoint(RULE, *trained())
    own = saved.parameters["bias"].slots
    own["m"], own["v"] = Tensor(numpy.ones(3, numpy.uint16), "bfloat16"), Tensor.of(numpy.ones(3))
    write(tmp_path / "file", saved)
    found = read(tmp_path / "file")
    assert contents(found) == contents(saved)
    assert all(tensor.bits.flags.aligned for tensor in arrays(found).values())


def test_arrays_without_elements_and_arrays_of_many_pieces_come_back(tmp_path):
    saved = samestep.checkpoint(RULE, *trained())
    own = saved.parameters["bias"].slots
    own["m"] = Tensor(numpy.zeros((0, 3)), "float64")
    many = numpy.arange(3 * PIECE // 4 + 5, dtype=numpy.float32)
    own["v"] = Tensor(many[::-1], "float32")
    seen: list[tuple[int, int]] = []
    write(tmp_path / "file", saved, progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (saved.nbytes, saved.nbytes)
    assert len(seen) > 4
    seen.clear()
    found = read(tmp_path / "file", progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (saved.nbytes, saved.nbytes)
    assert contents(found) == contents(saved)
    for place in (0, PIECE - 1, PIECE, many.nbytes - 1):
        data = bytearray((tmp_path / "file").read_bytes())
        offset = header_of(bytes(data))[0]["slots/v/bias"]["data_offsets"][0]
        data[len(data) - len(header_of(bytes(data))[1]) + offset + place] ^= 4
        (tmp_path / "other").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"'slots/v/bias'.*changed"):
            read(tmp_path / "other")


def test_a_map_that_was_handed_out_can_be_written_to_and_copied(path):
    tensor = arrays(read(path, lazily=True))[M]
    first = tensor.copy()
    bits = tensor.bits
    bits[0] = 7
    assert tensor.copy()[0] == 7
    assert arrays(read(path))[M].bits.tobytes() == first.tobytes()


FULL = """
import resource, signal, sys
import numpy
import samestep
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rule = samestep.SGD(lr=0.1)
params = {name: numpy.ones(100_000) for name in "abc"}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    samestep.save(sys.argv[1], rule, params, rule.init(params), max_shard_bytes=int(sys.argv[2]))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("limit", [100, 4_000, 500_000, 1_700_000])
@pytest.mark.parametrize("shard", [900_000, 1 << 40])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(sharded, shard, limit):
    """The limit of a file's size has the same effect; of 1.7 MB a set of files stays below."""
    before = {file.name: file.read_bytes() for file in sharded.parent.iterdir()}
    command = [sys.executable, "-c", FULL, str(sharded), str(shard), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if shard < limit:
        assert done.stdout == ""
        assert sharded.read_bytes() != before[sharded.name]
        return
    assert done.stdout == "File too large\n"
    assert {file.name: file.read_bytes() for file in sharded.parent.iterdir()} == before


# Memory

READ = """
import resource, sys
from samestep.checkpoints import CheckpointError, read
import numpy.random, samestep
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
space = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (1 << 29)
resource.setrlimit(resource.RLIMIT_AS, (space, space))
try:
    read(sys.argv[1])
except CheckpointError as error:
    assert sys.argv[1] in str(error)
    assert len(str(error)) < 2_000, len(str(error))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def sparse(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: sparse(path, BYTES.to_bytes(8, "little"), BYTES + 8),
        lambda path: sparse(path, (BYTES // 4).to_bytes(8, "little"), BYTES),
        lambda path: sparse(path, b'{"format": "samestep index"', BYTES),
        lambda path: path.write_bytes(packed(b"[" * WIDE, b"")),
        lambda path: path.write_bytes(packed(b"[" + b"0," * WIDE + b"0]", b"")),
        lambda path: path.write_bytes(packed({"a" * WIDE: 1, "__metadata__": {}}, b"")),
        lambda path: path.write_bytes(edited(path.read_bytes(), M, shape=["9" * WIDE])),
        lambda path: path.write_bytes(edited(path.read_bytes(), M, shape=[1 << 62] * 60)),
        lambda path: path.write_bytes(said(path.read_bytes(), layout="x", rules=["y" * WIDE])),
        lambda path: path.write_bytes(said(path.read_bytes(), parameters={"y" * WIDE: 1})),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux")
def test_memory_stays_bounded_whatever_a_file_says(path, make):
    make(path)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024  # KiB


class Counted(Tensor):
    """An array that is on the host while somebody holds its bits."""

    living: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()
    most = 0

    @property
    def bits(self) -> numpy.ndarray:
        made = Handed(self.shape)
        made[...] = super().bits
        Counted.living.add(made)
        Counted.most = max(Counted.most, len(Counted.living))
        return made


class Handed(numpy.ndarray):
    """With an identity, for a weak reference."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Any:
        return self is other


@pytest.mark.parametrize("shard", [None, 1000])
def test_arrays_are_brought_to_the_host_one_at_a_time(tmp_path, shard):
    names = [f"layer.{place}" for place in range(20)]
    params = {name: numpy.ones(50) for name in names}
    saved = samestep.checkpoint(RULE, params, RULE.init(params))
    for own in saved.parameters.values():
        own.slots.update({n: Counted(numpy.ones(50), "float64") for n in ("m", "v")})
    Counted.most = 0
    write(tmp_path / "file", saved, max_shard_bytes=shard)
    assert 1 <= Counted.most <= 2  # the next is made before the last is let go
    assert read(tmp_path / "file").nbytes == 3 * 20 * 50 * 8


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux")
def test_saving_and_loading_take_little_memory(tmp_path):
    """Of 256 MB of state, in two parameters; benchmarks/saving.py measures more."""
    pytest.importorskip("torch")
    assert extra_memory("save", tmp_path / "file", 256, 2) < 64
    assert extra_memory("load", tmp_path / "file", 256, 2) < 64


# Fuzzing

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1 << 31, 1 << 63, 1 << 64, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["\ud800", "\0", "../x", "inf", "nan", "float32", "AdamW", "m", "bias"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["schedule", "value", "number", "rule", "name", "values", "version"])
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in JSON, from the outside in."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    return [at, *(place for name, part in inside for place in places(part, (*at, name)))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place[0]] = replaced(value[place[0]], place[1:], new)
    return changed


def loaded_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for make in (numpy_holder, *([torch_holder] if "torch" in sys.modules else [])):
        holder = make()
        before = contents(holder.taken())
        try:
            holder.load(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            assert contents(holder.taken()) == before
        except UserWarning:  # of other hyperparameters than the optimizer's
            assert contents(holder.taken()) == before or make is torch_holder


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own")
@pytest.mark.filterwarnings("ignore:AdamW. group 0 keeps its own")
@OFTEN
@seed(0)
@given(data=st.data())
def test_metadata_may_say_anything(path, data):
    """Any value in any place, sealed, is refused in words or is a checkpoint."""
    good = GOOD.setdefault("metadata", path.read_bytes())
    header, body = header_of(good)
    texts = {**header["__metadata__"]}
    name = data.draw(st.sampled_from(["rules", "parameters", "crc32"]))
    meant = json.loads(texts[name])
    for _ in range(data.draw(st.integers(1, 3))):
        meant = replaced(meant, data.draw(st.sampled_from(places(meant))), data.draw(values))
    texts[name] = json.dumps(meant)
    loaded_or_refused(path, packed(resealed({**header, "__metadata__": texts}), body))


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own")
@OFTEN
@seed(0)
@given(data=st.data())
def test_a_header_may_say_anything(path, data):
    good = GOOD.setdefault("header", path.read_bytes())
    header, body = header_of(good)
    for _ in range(data.draw(st.integers(1, 3))):
        header = replaced(header, data.draw(st.sampled_from(places(header))), data.draw(values))
    if data.draw(st.booleans()) and isinstance(header, dict):
        texts = header.get("__metadata__")
        if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
            header = resealed(header)
    loaded_or_refused(path, packed(header, body))


@OFTEN
@seed(0)
@given(data=st.data())
def test_an_index_may_say_anything(sharded, data):
    good = GOOD.setdefault(str(sharded), sharded.read_bytes())
    index = json.loads(good)
    del index["format"]
    for _ in range(data.draw(st.integers(1, 2))):
        index = replaced(index, data.draw(st.sampled_from(places(index))), data.draw(values))
    said = index.get("metadata") if isinstance(index, dict) else None
    if isinstance(said, dict) and all(isinstance(text, str) for text in said.values()):
        index["metadata"] = resealed({"__metadata__": said})["__metadata__"]
    text = json.dumps(index)
    data = b'{"format": "samestep index", ' + text[1:].encode() if text[0] == "{" else text.encode()
    loaded_or_refused(sharded, data)


@OFTEN
@seed(0)
@given(data=st.data())
def test_bytes_may_be_anything(path, data):
    """Cut out, put in, repeated or replaced."""
    good = GOOD.setdefault("bytes", path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, min(len(good), start + 40)))
        new = data.draw(st.binary(max_size=20) | st.just(good[start:end] * 2))
        good = good[:start] + new + good[end:]
    loaded_or_refused(path, good)


GOOD: dict[str, bytes] = {}
"""Files as they were before an example has changed them."""
