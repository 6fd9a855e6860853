"""Maps: how rules are written, which parameters they match, and how they are undone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy
import pytest

import samestep
from samestep import CheckpointError, Map
from samestep.checkpoints.maps.steps import Transpose
from tests.checkpoint.trained import arrays, checkpoint_of, follow, refused

TURN = Map(
    {"from": "{m...}.weight", "to": "{m...}.kernel", "ndim": 2, "transpose": [1, 0]},
    {"from": "{m...}.weight", "to": "{m...}.kernel", "ndim": 4, "transpose": [2, 3, 1, 0]},
)


def shapes_of(checkpoint):
    return {path: own.shape for path, own in checkpoint.parameters.items()}


def test_names_follow_the_gaps_of_a_pattern():
    rules = Map(
        {"from": "layers.{i}.fc.{leaf}", "to": "params.layers_{i}.fc.{leaf}"},
        {"from": "{block...}.norm_{n}.weight", "to": "{block...}.n{n}.scale"},
        {"from": "x+.w", "to": "plus.w"},
        {"from": "a", "to": "b"},
        {"from": "b", "to": "a"},
    )
    names = {
        "layers.3.fc.bias": "params.layers_3.fc.bias",
        "layers.3.x.fc.bias": "layers.3.x.fc.bias",
        "norm_1.weight": "n1.scale",
        "deep.er.norm_1.weight": "deep.er.n1.scale",
        "deep.norm_1.weights": "deep.norm_1.weights",
        "layersX3.fc.bias": "layersX3.fc.bias",
        "xx.w": "xx.w",
        "x+.w": "plus.w",
        "a": "b",
        "b": "a",
    }
    before = checkpoint_of(samestep.SGD(), dict.fromkeys(names, (2,)))
    after, report = rules.apply(before)
    assert [*after.parameters] == [*names.values()]
    assert {*report.unmatched} == {path for path, name in names.items() if path == name}
    rules.check(before)


def test_the_first_rule_that_matches_has_a_parameter():
    rules = Map(
        {"from": "a.{x}", "to": "first.{x}", "ndim": 2}, {"from": "a.{x}", "to": "second.{x}"}
    )
    before = checkpoint_of(samestep.SGD(), {"a.w": (2, 2), "a.b": (2,)})
    assert [*before.mapped(rules).parameters] == ["first.w", "second.b"]


def test_captures_are_sizes_too():
    rule = {"from": "heads_{h}.w", "to": "w{h}", "reshape": ["{h}", -1], "was": [-1]}
    before = checkpoint_of(samestep.AdamW(), {"heads_3.w": (12,)})
    after = before.mapped(Map(rule))
    assert after.parameters["w3"].shape == (3, 4)
    Map(rule).inverse().check(after)
    Map(rule).check(before)
    text = refused("which are no numbers", [rule], samestep.AdamW(), {"heads_x.w": (12,)})
    assert "{'h': 'x'}" in text


def test_the_report_says_what_was_done():
    before = checkpoint_of(samestep.AdamW(), {"a.weight": (3, 2), "other": (3,)})
    _, report = TURN.apply(before)
    [move] = report.moves
    assert (move.sources, move.targets) == (("a.weight",), ("a.kernel",))
    assert str(report).splitlines() == [
        "Map: rules[0]: {m...}.weight of ndim 2 -> {m...}.kernel, transpose [1, 0]: 1, such as "
        "a.weight -> a.kernel",
        "no rule matched 1: other",
        "nothing matched Map: rules[1]: {m...}.weight of ndim 4 -> {m...}.kernel, transpose "
        "[2, 3, 1, 0]",
    ]


def test_a_map_and_then_another():
    first = Map({"from": "fc1.{leaf}", "to": "Dense_0.{leaf}"})
    both = first.then(Map.between("torch", "flax"))
    shapes = {"fc1.weight": (3, 2), "fc1.bias": (3,), "x.weight": (4,)}
    before = checkpoint_of(samestep.AdamW(), shapes)
    after, report = both.apply(before)
    assert shapes_of(after) == {
        "params.Dense_0.kernel": (2, 3),
        "params.Dense_0.bias": (3,),
        "params.x.scale": (4,),
    }
    assert report.unmatched == report.unused == () and after.layout == "jax"
    both.check(before)


# The way back


def test_values_that_do_not_come_back_are_noticed(monkeypatch):
    before = checkpoint_of(samestep.AdamW(), {"a.weight": (4, 4)})
    TURN.check(before)
    monkeypatch.setattr(Transpose, "inverse", lambda self: Transpose((0, 1)))
    with pytest.raises(CheckpointError, match=r"slots/m/a\.weight has other values"):
        TURN.check(before)


def test_the_inverse_of_a_map_from_flax_has_to_know_the_embeddings():
    shapes = {"params.tok.embedding": (7, 2), "params.fc.kernel": (2, 3)}
    before = checkpoint_of(samestep.AdamW(), shapes)
    assert [*before.mapped(Map.between("flax", "torch")).parameters] == ["tok.weight", "fc.weight"]
    Map.between("flax", "torch", embeddings="tok").check(before)
    with pytest.raises(CheckpointError, match="is not undone by its inverse"):
        Map.between("flax", "torch").check(before)


def test_an_inverse_that_does_not_undo_is_noticed():
    back = {"from": "{m}.z", "to": "{m}.x"}
    first = {"from": "a", "to": "n.x"}
    before = checkpoint_of(samestep.SGD(momentum=0.9), {"a": (2,), "b.z": (2,)})
    Map(first, {"from": "{m}.x", "to": "{m}.y"}, back).check(before)
    with pytest.raises(CheckpointError, match=r"not undone by its inverse: '(n.z|a)' is only in"):
        Map(back, first).check(before)
    unequal = Map({"merge": {"axis": 0, "from": ["a", "c"]}, "to": "d"})
    text = r"\d elements are not 2 equal parts|has another shape"
    with pytest.raises(CheckpointError, match=text):
        unequal.check(checkpoint_of(samestep.SGD(), {"a": (2,), "c": (4,)}))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"from": "{a}.{b}", "to": "{a}"}, "no way back, as {b} is not in the new name"),
        ({"from": "a", "reshape": [2, -1]}, "the way back from a reshape is not known; give was"),
    ],
)
def test_a_map_without_a_way_back_says_why(rule, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        Map({"from": "x", "to": "y"}, rule).inverse()
    assert str(caught.value).startswith("Map: rules[1]")


# Mistakes


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {"transposed": [1, 0]},
            "no key 'transposed'; there are from, to, ndim, merge, transpose, reshape, was, split. "
            "Did you mean 'transpose'?",
        ),
        ({"from": None}, "there is no from"),
        ({"to": 3}, "to is 3; it must be a text"),
        ({"transpose": [0, 2]}, "transpose is [0, 2]; it must have every axis from 0 to 1"),
        ({"transpose": [1, "0"]}, "it must be of whole numbers"),
        ({"transpose": "10"}, "transpose is '10'; it must be a list"),
        ({"ndim": 3, "transpose": [1, 0]}, "transpose has 2 axes, and ndim is 3"),
        ({"ndim": True}, "ndim is True; it must be a whole number >= 0"),
        ({"to": "{b}"}, "'{b}' has {b}; 'a' has no gaps"),
        ({"from": "{a}.{c}", "to": "{b}"}, "'{b}' has {b}; '{a}.{c}' has {a}, {c}"),
        ({"from": "{a}.{a}"}, "'{a}.{a}' has {a} twice"),
        ({"from": "{a"}, "a gap is {name} or {name...}"),
        ({"from": "x{a...}"}, "stands for whole parts of a path"),
        ({"reshape": [-1, -1]}, "only one may be -1"),
        ({"reshape": ["{h}"]}, "'{h}' has {h}; 'a' has no gaps"),
        ({"reshape": [1.5]}, "1.5 must be a size, -1, or '{name}' of a gap"),
        ({"was": [2]}, "was is given, and no reshape"),
        ({"to": "b", "split": {"axis": 0, "into": ["c"]}}, "to and split are both given"),
        (
            {"split": {"axis": 0, "int": ["c"]}},
            "split: there is no key 'int'; there are axis, into, sizes. Did you mean 'into'?",
        ),
        ({"split": {"into": ["c", "d"]}}, "axis is None; it must be a whole number"),
        ({"split": {"axis": 0, "into": ["c", "c"]}}, "it must have different paths"),
        ({"split": {"axis": 0, "into": ["c", "d"], "sizes": [1]}}, "it must have 2 numbers"),
        (
            {"from": None, "merge": {"axis": 0, "from": ["{a}.q", "{b}.k"]}, "to": "c"},
            "must have the same gaps as",
        ),
        (
            {"from": None, "to": None, "merge": {"axis": 0, "from": ["q", "k"]}},
            "there is no to, which what is merged needs",
        ),
        ("a", "is 'a'; it must be a table"),
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_place(more, text):
    """A rule has ``from``, and is refused for the entries that it has in addition."""
    rule = more
    if isinstance(more, dict):
        rule = {key: value for key, value in {"from": "a", **more}.items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        Map({"from": "x", "to": "y"}, rule)
    assert str(caught.value).startswith("Map: rules[1]")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {"transpose": [1, 2, 0]},
            "transpose [1, 2, 0] is for 3 dimensions, and its shape is (4, 6); ndim = 3 leaves "
            "others out",
        ),
        ({"reshape": [5, -1]}, "reshape [5, -1] does not fit its shape (4, 6)"),
        ({"reshape": [3, 3]}, "reshape [3, 3] does not fit its shape (4, 6)"),
        ({"reshape": [24], "was": [6, -1]}, "was is [6, -1], and its shape is (4, 6)"),
        ({"split": {"axis": 2, "into": ["c", "d"]}}, "no axis 2 in its shape (4, 6)"),
        ({"split": {"axis": 1, "into": ["c", "d", "e", "f"]}}, "6 elements are not 4 equal"),
        ({"split": {"axis": 1, "into": ["c", "d"], "sizes": [4, 4]}}, "not sizes [4, 4]"),
        ({"to": "b"}, "'a' and 'b' are both called 'b' after it"),
        ({"split": {"axis": 0, "into": ["c", "b"]}}, "'a' and 'b' are both called 'b'"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(more, text):
    rule = {"from": "a", **more}
    message = refused(text, [rule], samestep.AdamW(), {"a": (4, 6), "b": (2,)})
    assert message.startswith("Map: ") and "'a'" in message


def test_a_strict_map_leaves_nothing_out():
    text = "Map is strict, and no rule matches b"
    refused(text, [{"from": "a"}], samestep.SGD(), {"a": (2,), "b": (2,)}, strict=True)


def test_a_map_for_another_layout_is_refused():
    before = checkpoint_of(samestep.AdamW(), {"a.weight": (3, 2)})
    there = before.mapped(Map.between("torch", "flax"))
    text = "layout is that of jax; the map is for that of torch"
    with pytest.raises(CheckpointError, match=text):
        there.mapped(Map.between("torch", "flax"))
    assert there.mapped(Map.between("flax", "torch")).layout == "torch"


# Files

TOML = """
strict = true
between = { from = "torch", to = "flax", embeddings = ["tok"] }

[[rules]]
from = "fc1.{leaf}"
to = "Dense_0.{leaf}"

[[rules]]
from = "tok.weight"

[[rules]]
from = "qkv.weight"
split = { axis = 0, into = ["q.weight", "k.weight", "v.weight"] }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "names.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_map_is_read_from_a_file(tmp_path):
    shapes = {"fc1.weight": (3, 2), "fc1.bias": (3,), "tok.weight": (7, 2), "qkv.weight": (6, 2)}
    before = checkpoint_of(samestep.AdamW(), shapes)
    found = Map.read(write(tmp_path, TOML))
    found.check(before)
    assert shapes_of(before.mapped(found)) == {
        "params.Dense_0.kernel": (2, 3),
        "params.Dense_0.bias": (3,),
        "params.tok.embedding": (7, 2),
        "params.q.kernel": (2, 2),
        "params.k.kernel": (2, 2),
        "params.v.kernel": (2, 2),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules = [", "this is no TOML: "),
        (
            "[[rule]]\nfrom = 'a'",
            "there is no key 'rule'; there are strict, between, rules. Did you mean",
        ),
        ("rules = 3", "rules is 3; it must be a list"),
        ("strict = 1", "strict is 1; it must be true or false"),
        ("[[rules]]\nfrom = 'a'\nsplit = 3", "rules[0]: split is 3; it must be a table"),
        ("between = { from = 'torch' }", "between must have from and to"),
        (
            "between = { from = 'torch', to = 'flux' }",
            "no layers of 'flux'; there are torch, equinox, mlx, flax, nnx. Did you mean 'flax'?",
        ),
        ("between = { from = 'torch', too = 'mlx' }", "between: there is no key 'too'"),
        ("between = { from = 'torch', to = 'flax', embeddings = [3] }", "embeddings"),
        ("[[rules]]\nfrom = 'a'\nto = '{b}'", "rules[0]: '{b}' has {b}"),
    ],
)
def test_a_file_that_is_no_map_is_refused_by_its_name(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Map.read(path)
    assert str(caught.value).startswith(str(path))


def test_loading_through_a_map_names_what_is_left_over(tmp_path):
    rule, path = samestep.AdamW(), tmp_path / "state.safetensors"
    shapes = {"fc.weight": (3, 2), "emb.weight": (5, 2)}
    params, state = follow(rule, arrays(shapes), range(3))
    samestep.save(path, rule, params, state)
    wanted = {"fc": {"kernel": numpy.ones((2, 3))}, "emb": {"embedding": numpy.ones((5, 2))}}
    toml = write(tmp_path, "between = { from = 'torch', to = 'nnx', embeddings = 'emb' }")
    m, v = state.slots["m"], state.slots["v"]
    for chosen in (toml, str(toml), Map.between("torch", "nnx", embeddings=["emb"])):
        there, begun = samestep.load(path, rule, wanted, map=chosen)
        assert begun.step == 3
        assert numpy.array_equal(there["fc"]["kernel"], params["fc.weight"].T)
        assert numpy.array_equal(begun.slots["v"]["fc"]["kernel"], v["fc.weight"].T)
        assert numpy.array_equal(begun.slots["m"]["emb"]["embedding"], m["emb.weight"])
    with pytest.raises(CheckpointError, match=r"emb\.embedding") as caught:
        samestep.load(path, rule, wanted, map=Map.between("torch", "nnx"))
    text = str(caught.value)
    assert text.startswith(str(path)) and "after the map" in text
    assert "not in the checkpoint: emb.embedding" in text
    assert "only in the checkpoint: emb.kernel" in text
    wanted["fc"]["kernels"] = wanted["fc"].pop("kernel")
    with pytest.raises(CheckpointError, match=re.escape("fc.kernels (is it fc.kernel?)")):
        samestep.load(path, rule, wanted, map=toml)
    with pytest.raises(FileNotFoundError):
        samestep.load(path, rule, wanted, map=tmp_path / "none.toml")
