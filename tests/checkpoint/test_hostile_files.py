"""Files that are damaged or hostile: refused in words, whoever loads them, in bounded memory."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import samestep
from samestep.checkpoints import CheckpointError, read
from tests.checkpoint.file_bytes import (
    RULE,
    Change,
    M,
    contents,
    header_of,
    item,
    meant,
    packed,
    put,
    resealed,
    said,
    saying,
    trained,
    with_arrays,
)

WIDE, BYTES = 1 << 20, 1 << 30
OFTEN = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# Who loads


class Holder(NamedTuple):
    """An optimizer and its parameters in some library."""

    optimizer: Any
    params: Any
    state: Any = None

    def load(self, path: Path) -> Any:
        return samestep.load(path, self.optimizer, self.params)

    def contents(self) -> Any:
        return contents(samestep.checkpoint(*self))


def numpy_holder() -> Holder:
    return Holder(RULE, *trained(1))


def torch_holder() -> Holder:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 2)
    optimizer = samestep.torch.bind(RULE, model.named_parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return Holder(optimizer, model)


def jax_holder() -> Holder:
    jax = pytest.importorskip("jax")
    params = jax.tree.map(jax.numpy.asarray, trained()[0])
    optimizer = samestep.jax.bind(RULE)
    _, state = optimizer.update(params, optimizer.init(params), params)
    return Holder(optimizer, params, state)


def mlx_holder() -> Holder:
    mx, nn = pytest.importorskip("mlx.core"), pytest.importorskip("mlx.nn")
    model, optimizer = nn.Linear(2, 2), samestep.mlx.bind(RULE)
    optimizer.update(model, {"weight": mx.ones((2, 2)), "bias": mx.ones(2)})
    mx.eval(model.parameters(), optimizer.state)
    return Holder(optimizer, model)


HOLDERS = {"numpy": numpy_holder, "torch": torch_holder, "jax": jax_holder, "mlx": mlx_holder}


@pytest.fixture(params=HOLDERS)
def holder(request: pytest.FixtureRequest) -> Holder:
    """An optimizer of each library that is there."""
    return HOLDERS[request.param]()


# What is refused


class Bomb:
    """Pickled, it would end the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def rules_with(**values: Any) -> Change:
    def change(data: bytes) -> bytes:
        [rule] = meant(data, "rules")
        return said(data, rules=[{**rule, "values": rule["values"] | values}])

    return change


def parameter_with(**values: Any) -> Change:
    def change(data: bytes) -> bytes:
        found = meant(data, "parameters")
        return said(data, parameters={**found, "bias": found["bias"] | values})

    return change


def of_another_rule(data: bytes) -> bytes:
    return said(data, rules=[{**meant(data, "rules")[0], "name": "Lion"}])


def of_another_model(data: bytes) -> bytes:
    header, body = header_of(data)
    del header["__metadata__"]
    return packed(header, body)


def nested_rules(data: bytes) -> bytes:
    [rule] = meant(data, "rules")
    for _ in range(900):
        rule = {"name": "Lookahead", "version": 1, "values": {}, "rule": rule}
    return said(data, rules=[rule])


def number_for_an_array(data: bytes) -> bytes:
    header, body = header_of(data)
    return packed({**header, M: 1}, body)


NOT_A_NUMBER = numpy.asarray([1.0, numpy.nan])
HUGE = 1 << 62
BAD: dict[str, tuple[Change, str]] = {
    "empty": (lambda data: b"", "no safetensors file"),
    "a few bytes": (lambda data: data[:7], "no safetensors file"),
    "a pickle": (lambda data: pickle.dumps(Bomb()), "no safetensors file"),
    "a header of a gigabyte": (lambda data: BYTES.to_bytes(8, "little") + data[8:], "header of"),
    "a header of 2**63": (lambda data: (1 << 63).to_bytes(8, "little") + data[8:], "header of"),
    "more at the end": (lambda data: data + b"\0", "the arrays have"),
    "less at the end": (lambda data: data[:-1], "the arrays have"),
    "a flipped bit": (
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        "'slots/v/bias'.*changed|'params/bias'.*changed",
    ),
    "deep JSON": (lambda data: packed(b"[" * 999), "no JSON"),
    "deep JSON inside": (saying(rules="[" * 999), "rules.*no JSON"),
    "many empty lists": (lambda data: packed(b"[" * 100_000 + b"]" * 100_000), r"has more \["),
    "a list": (lambda data: packed([]), "header is list"),
    "no text": (lambda data: packed(b"\xff\xfe{}"), "no text"),
    "an enormous number": (lambda data: packed(b'{"a": ' + b"9" * 5000 + b"}"), "no JSON"),
    "NaN in the JSON": (saying(parameters="NaN"), "parameters.*no JSON"),
    "metadata that is no text": (lambda data: packed({"__metadata__": {"a": 1}}), "texts"),
    "no metadata": (of_another_model, "no checkpoint of samestep"),
    "another format": (saying(format="pt"), "format 'pt'"),
    "a later version": (saying(format_version="2"), "version 2"),
    "no seal": (lambda data: data.replace(b'"seal"', b'"sael"'), "changed"),
    "a name twice": (
        lambda data: data.replace(b"slots/v/bias", b"slots/m/bias"),
        "is there twice|changed",
    ),
    "a number for an array": (number_for_an_array, f"'{M}' must have dtype"),
    "a dtype that is none": (item(dtype="F8"), f"'{M}': the dtype is 'F8'"),
    "a dtype that is a list": (item(dtype=[]), f"'{M}': the dtype"),
    "a negative size": (item(shape=[-2]), f"'{M}': shape"),
    "a size that is no int": (item(shape=[2.0]), f"'{M}': shape"),
    "a size that is true": (item(shape=[True, 2]), f"'{M}': shape"),
    "overflowing sizes": (item(shape=[HUGE, 4]), f"'{M}': data_offsets"),
    "no elements, but sizes": (
        item(shape=[0, HUGE, HUGE], data_offsets=[8, 8]),
        "begins at|slots/m/bias",
    ),
    "too many dimensions": (item(shape=[1] * 65), f"'{M}': shape"),
    "an offset too many": (item(data_offsets=[0, 8, 8]), f"'{M}': data_offsets"),
    "overlapping arrays": (item(data_offsets=[0, 8]), "begins at byte"),
    "another shape": (item(shape=[2, 1]), "slot m of shape"),
    "another dtype": (item(dtype="I32"), f"'{M}': the dtype"),
    "a slot too few": (with_arrays(lambda found: found.pop(M)), "bias.*has slots"),
    "a slot too many": (put("slots/n/bias", [1, 2]), "bias.*has slots"),
    "a slot of nobody": (put("slots/m/other", [1, 2]), "other"),
    "a part of a slot": (put("slots/m.1/bias", [1, 2]), "slot m of 'bias'"),
    "a part with a strange number": (put("slots/m.²/bias", [1.0]), "slots/m"),
    "a key of no kind": (put("other/bias", [1.0]), "other/bias"),
    "a key without a slash": (put("slots", [1.0]), "'slots'"),
    "shared state": (put("shared/d", 1.0), "shared"),
    "a slot of another shape": (put(M, [1, 2, 3]), "bias.*slot m of shape"),
    "a slot of whole numbers": (put(M, [1, 2], "int32"), f"'{M}': the dtype is int32"),
    "a parameter of another shape": (put("params/bias", [1, 2, 3]), "params/bias|'bias'"),
    "a parameter of another dtype": (put("params/bias", [1, 2], "float64"), "bias"),
    "NaN in a slot": (put(M, NOT_A_NUMBER), f"'{M}': 1 of 2 elements are NaN"),
    "NaN in a parameter": (
        put("params/bias", NOT_A_NUMBER),
        "'params/bias': 1 of 2 elements are NaN",
    ),
    "a parameter less": (saying(parameters={}), "not among parameters"),
    "a shape of another": (parameter_with(shape=[3]), "'bias' has shape"),
    "a negative step": (parameter_with(step=-1), "'bias'.*step"),
    "a huge step": (parameter_with(step=1 << 80), "step"),
    "no step, but slots": (parameter_with(step=None), "'bias'.*no step"),
    "a rule that is not there": (parameter_with(rule=9), "'bias'.*rule is 9"),
    "a dtype that is a dict": (parameter_with(dtype={}), "'bias'.*dtype"),
    "another rule": (of_another_rule, "Lion"),
    "rules that are none": (saying(rules=[1]), "rules"),
    "a number that is a text": (rules_with(lr="fast"), "lr"),
    "a number that is a list": (rules_with(lr=[1, 2]), "lr"),
    "a number that is a dict": (rules_with(lr={"a": "b"}), "lr"),
    "a number without value": (rules_with(lr={"schedule": "x"}), "lr"),
    "a number that is no number": (rules_with(lr={"number": [1]}), "lr"),
    "a number out of range": (rules_with(betas=[0.9, 1.5]), "betas"),
    "a number beyond all floats": (rules_with(lr=10**400), "lr"),
    "a number that overflows": (saying(rules='[{"values": {"lr": 1e999}}]'), "1e999 is too large"),
    "a number in many lists": (rules_with(lr=json.loads("[" * 100 + "]" * 100)), "lr"),
    "a schedule in a schedule": (
        rules_with(lr={"schedule": "x", "value": {"schedule": "x", "value": 1.0}}),
        "lr",
    ),
    "rules in rules": (nested_rules, "a rule inside more than 50 others"),
    "an option of another kind": (rules_with(decay=7), "decay is"),
    "an option that nobody knows": (rules_with(speed=7), "no speed"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_name_and_changes_nothing(path, holder, name):
    before = holder.contents()
    make, words = BAD[name]
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(CheckpointError, match=f"(?s){path}.*({words})"):
        holder.load(path)
    assert holder.contents() == before


def test_a_good_file_is_loaded_by_all_of_them(path, holder):
    """Or the test above would be of the optimizers, not of the files."""
    before = holder.contents()
    good = contents(read(path))
    assert good != before
    new = holder.load(path)
    assert new is not None or holder.contents()[0] == good[0]
    path.write_bytes(with_arrays(lambda found: None)(path.read_bytes()))
    holder.load(path)


def test_not_a_number_is_taken_where_it_is_allowed(path):
    path.write_bytes(put(M, NOT_A_NUMBER)(path.read_bytes()))
    _, state = samestep.load(path, RULE, trained()[0], allow_nan=True)
    assert numpy.isnan(state.slots["m"]["bias"]).tolist() == [False, True]


def test_a_file_of_torch_is_refused_and_not_unpickled(path):
    torch = pytest.importorskip("torch")
    torch.save({"bomb": Bomb()}, path)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        read(path)


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


def sparse(start: bytes, size: int) -> Callable[[Path], object]:
    """A file of this size that takes no room on the disk."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)

    return make


def rewritten(change: Change) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "make",
    [
        sparse(BYTES.to_bytes(8, "little"), BYTES + 8),
        sparse((BYTES // 4).to_bytes(8, "little"), BYTES),
        sparse(b'{"format": "samestep index"', BYTES),
        rewritten(lambda data: packed(b"[" * WIDE)),
        rewritten(lambda data: packed(b"[" + b"0," * WIDE + b"0]")),
        rewritten(lambda data: packed(b"[" + b"[0]," * WIDE + b"0]")),
        rewritten(lambda data: packed(b"[" + b'"ab",' * WIDE + b"0]")),
        rewritten(saying(parameters="{" + '"ab":{},' * WIDE + '"c":0}')),
        rewritten(lambda data: packed({"a" * WIDE: 1, "__metadata__": {}})),
        rewritten(item(shape=["9" * WIDE])),
        rewritten(item(shape=[1 << 62] * 60)),
        rewritten(saying(layout="x", rules=["y" * WIDE])),
        rewritten(saying(parameters={"y" * WIDE: 1})),
    ],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux")
def test_memory_stays_bounded_whatever_a_file_says(path, make):
    make(path)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024  # KiB


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


def mutated(data: st.DataObject, value: Any, most: int) -> Any:
    """The JSON with other values in up to ``most`` places."""
    for _ in range(data.draw(st.integers(1, most))):
        value = replaced(value, data.draw(st.sampled_from(places(value))), data.draw(values))
    return value


def sealed_where_possible(header: Any) -> Any:
    texts = header.get("__metadata__") if isinstance(header, dict) else None
    good = isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())
    return resealed(header) if good else header


def loaded_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for make in (numpy_holder, *([torch_holder] if "torch" in sys.modules else [])):
        holder = make()
        before = holder.contents()
        try:
            holder.load(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            assert holder.contents() == before
        except UserWarning:  # of other hyperparameters than the optimizer's
            assert holder.contents() == before or make is torch_holder


GOOD: dict[str, bytes] = {}
"""Files as they were before an example has changed them."""


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own")
@pytest.mark.filterwarnings("ignore:AdamW. group 0 keeps its own")
@OFTEN
@seed(0)
@given(data=st.data())
def test_metadata_may_say_anything(path, data):
    """Any value in any place, sealed, is refused in words or is a checkpoint."""
    good = GOOD.setdefault("metadata", path.read_bytes())
    name = data.draw(st.sampled_from(["rules", "parameters", "crc32"]))
    text = json.dumps(mutated(data, meant(good, name), 3))
    loaded_or_refused(path, said(good, **{name: text}))


@pytest.mark.filterwarnings("ignore:the optimizer keeps its own")
@OFTEN
@seed(0)
@given(data=st.data())
def test_a_header_may_say_anything(path, data):
    header, body = header_of(GOOD.setdefault("header", path.read_bytes()))
    changed = mutated(data, header, 3)
    if data.draw(st.booleans()):
        changed = sealed_where_possible(changed)
    loaded_or_refused(path, packed(changed, body))


@OFTEN
@seed(0)
@given(data=st.data())
def test_an_index_may_say_anything(sharded, data):
    good = GOOD.setdefault(str(sharded), sharded.read_bytes())
    index = json.loads(good)
    del index["format"]
    index = mutated(data, index, 2)
    if isinstance(index, dict):
        header = sealed_where_possible({"__metadata__": index.get("metadata")})
        index = index | ({"metadata": header["__metadata__"]} if "metadata" in index else {})
    text = json.dumps(index)
    whole = f'{{"format": "samestep index", {text[1:]}' if text[0] == "{" else text
    loaded_or_refused(sharded, whole.encode())


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
