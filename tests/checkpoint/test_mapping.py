"""Maps: one model's checkpoint becomes that of another, state and values alike."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy
import pytest

import samestep
from samestep import Checkpoint, CheckpointError, Map, Where, route
from samestep.checkpoints import ParameterState, Tensor
from samestep.checkpoints.maps.steps import Transpose
from samestep.conformance.harness.settings import all_rules, typical
from samestep.parity.ulp import ulps

STEPS = 20


def normal(seed, shape):
    return numpy.random.default_rng(seed).standard_normal(shape)


def gradients(params, step):
    """Gradients that change sign and scale, with zeros in places."""
    found = {}
    for place, (path, param) in enumerate(params.items()):
        array = normal(1000 * step + place, param.shape) * 10.0 ** (step % 5 - 2)
        found[path] = numpy.where(normal(step + 7, param.shape) > 1.5, 0.0, array)
    return found


SHAPES = {
    "fc.weight": (5, 4),
    "conv.weight": (6, 3, 2, 5),
    "fc.bias": (5,),
    "square.weight": (4, 4),
    "row.weight": (1, 5),
    "scale": (),
}
PARAMS = {path: normal(place, shape) for place, (path, shape) in enumerate(SHAPES.items())}


TURNED = (
    {"from": "{m...}.weight", "to": "{m...}.kernel", "ndim": 2, "transpose": [1, 0]},
    {"from": "{m...}.weight", "to": "{m...}.kernel", "ndim": 4, "transpose": [2, 3, 1, 0]},
)
TURN = Map(*TURNED)


def turned(tree):
    """The same by hand."""
    found = {}
    for path, array in tree.items():
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim)
        name = path.replace("weight", "kernel")
        found[name] = array if axes is None else array.transpose(axes).copy()
    return found


def facing_the_other_way(rule):
    """The rule for the layout in which the output's axis is the last."""
    names = [name for name in ("layout", "clip_layout", "center_layout") if name in rule.hypers]
    return rule.replace(**dict.fromkeys(names, "io"))


def taking(rule, params):
    return {path: array for path, array in params.items() if array.ndim >= rule.min_ndim}


def symmetric(rule):
    """The rules for which another order of axes makes another step of more than two dimensions."""
    return getattr(rule, "axes", None) != "last"


def follow(rule, params, steps, state=None, change=None):
    state = state or rule.init(params)
    for step in steps:
        grads = gradients(PARAMS, step)
        grads = change(grads) if change else grads
        params, state = rule.update({path: grads[path] for path in params}, params, state)
    return params, state


@pytest.mark.parametrize("name", [rule.__name__ for rule in all_rules()])
def test_training_goes_on_in_the_other_layout_as_if_nothing_had_been(name):
    rule = typical(samestep.registry[name])
    params = taking(rule, PARAMS)
    if not symmetric(rule):
        params = {path: array for path, array in params.items() if array.ndim < 3}
    half, state = follow(rule, params, range(STEPS))
    whole, last = follow(rule, half, range(STEPS, 2 * STEPS), state)

    other = facing_the_other_way(rule)
    mapped = samestep.checkpoint(rule, half, state).mapped(TURN)
    there, begun = samestep.restore(other, mapped, turned(params))
    assert begun.step == STEPS
    for path, array in turned(half).items():
        assert numpy.array_equal(there[path], array)
    there, end = follow(other, there, range(STEPS, 2 * STEPS), begun, turned)
    sizes = {path: numpy.abs(array).max() for path, array in turned(whole).items()}
    for path, array in turned(whole).items():
        numpy.testing.assert_allclose(there[path], array, rtol=1e-9, atol=1e-12 * sizes[path])

    back = samestep.checkpoint(other, there, end).mapped(TURN.inverse())
    again, _ = samestep.restore(rule, back, params)
    for path, array in whole.items():
        numpy.testing.assert_allclose(again[path], array, rtol=1e-9, atol=1e-12)
    alike = samestep.checkpoint(rule, whole, last)
    for path, own in back.parameters.items():
        for (slot, tensor), (_, wanted) in zip(
            own.tensors(), alike.parameters[path].tensors(), strict=True
        ):
            size = numpy.abs(wanted.values()).max(initial=1e-30)
            numpy.testing.assert_allclose(
                tensor.values(), wanted.values(), rtol=1e-9, atol=1e-11 * size, err_msg=slot
            )


def test_state_thrown_away_or_left_as_it_was_would_be_noticed():
    rule = samestep.Adafactor(momentum=0.9)
    params = {"square.weight": PARAMS["square.weight"]}
    half, state = follow(rule, params, range(STEPS))
    whole, _ = follow(rule, half, range(STEPS, 2 * STEPS), state)
    wrong = samestep.State(state.step, {**state.slots}, {})
    wrong.slots["v"] = {"square.kernel": state.slots["v"]["square.weight"]}
    wrong.slots["m"] = {"square.kernel": state.slots["m"]["square.weight"].T}
    for start in (wrong, rule.init(turned(half))):
        there, _ = follow(rule, turned(half), range(STEPS, 2 * STEPS), start, turned)
        wide = numpy.abs(there["square.kernel"] - whole["square.weight"].T).max()
        assert wide > 1e-6


def checkpoint_of(rule, params, steps=5):
    state = rule.init(params)
    for step in range(steps):
        params, state = rule.update(gradients(params, step), params, state)
    return samestep.checkpoint(rule, params, state)


def refused(text, rules, rule, params, **keywords):
    with pytest.raises(CheckpointError, match=re.escape(text)) as caught:
        Map(*rules, **keywords).apply(checkpoint_of(rule, params))
    return str(caught.value)


@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (1, 4), (4, 1), (1, 1)])
@pytest.mark.parametrize(
    "rule",
    [
        samestep.SM3(),
        samestep.Adafactor(),
        samestep.Adafactor(min_dim=2),
        samestep.Adafactor(axes="largest"),
    ],
)
def test_factors_of_a_matrix_change_places(rule, shape):
    params = {"a.weight": normal(1, shape)}
    before = checkpoint_of(rule, params)
    after = before.mapped(TURN)
    (old,), (new,) = before.parameters.values(), after.parameters.values()
    slot = "mu" if isinstance(rule, samestep.SM3) else "v"
    olds, news = old.slots[slot], new.slots[slot]
    if len(olds) == 2 and not (rule.hypers.get("axes") == "largest" and shape[0] != shape[1]):
        olds = olds[::-1]
    assert len(olds) == len(news)
    for one, other in zip(olds, news, strict=True):
        assert numpy.array_equal(one.bits.T, other.bits)
    samestep.restore(rule, after, {"a.kernel": normal(2, shape[::-1])})


def test_factors_of_the_largest_axes_go_with_them():
    rule = samestep.Adafactor(axes="largest")
    before = checkpoint_of(rule, {"a.weight": normal(1, (7, 2, 3, 5))})
    after = before.mapped(TURN)
    assert [t.shape for t in before.parameters["a.weight"].slots["v"]] == [
        (1, 2, 3, 5),
        (7, 2, 3, 1),
    ]
    assert [t.shape for t in after.parameters["a.kernel"].slots["v"]] == [
        (3, 5, 2, 1),
        (3, 1, 2, 7),
    ]


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (samestep.Adafactor(), (6, 3, 2, 5)),
        (samestep.Adafactor(axes="largest"), (3, 3, 3, 3)),
        (samestep.Lookahead(samestep.Adafactor()), (6, 3, 2, 5)),
    ],
    ids=["last", "largest of a cube", "inside a wrapper"],
)
def test_a_transpose_after_which_other_axes_are_factored_is_refused(rule, shape):
    text = refused("the rule factors other axes", TURNED, rule, {"a.weight": normal(1, shape)})
    assert "rules[1]" in text and "'a.weight'" in text and "slot v" in text


def test_factors_are_not_reshaped_nor_cut_nor_put_together_across_their_axis():
    flat = {"from": "a.weight", "reshape": [-1, 2]}
    params = {"a.weight": normal(1, (4, 6)), "b.weight": normal(2, (4, 6))}
    refused("slot mu of SM3: it is kept along axes [0] alone", [flat], samestep.SM3(), params)
    cut = {"from": "a.weight", "split": {"axis": 0, "into": ["p", "q"]}}
    refused("one number for all of axis 0, which is cut", [cut], samestep.Adafactor(), params)
    both = {"merge": {"axis": 1, "from": ["a.weight", "b.weight"]}, "to": "c"}
    refused("all of axis 1, which is put together", [both], samestep.SM3(), params)
    vector = {"from": "a", "reshape": [2, 3]}
    refused("factors other axes", [vector], samestep.Adafactor(), {"a": normal(1, (6,))})


def test_factors_are_cut_along_an_axis_that_they_have():
    before = checkpoint_of(samestep.Adafactor(), {"a": normal(1, (4, 3, 2))})
    after = before.mapped(
        Map({"from": "a", "split": {"axis": 0, "into": ["b", "c"], "sizes": [1, 3]}})
    )
    row, column = (part.bits for part in before.parameters["a"].slots["v"])
    for path, piece in (("b", slice(0, 1)), ("c", slice(1, 4))):
        new = [part.bits for part in after.parameters[path].slots["v"]]
        assert numpy.array_equal(new[0], row[piece]) and numpy.array_equal(new[1], column[piece])


QKV = Map(
    {
        "from": "{b...}.qkv.weight",
        "split": {"axis": 0, "into": [f"{{b...}}.{part}.weight" for part in "qkv"]},
    },
    {"merge": {"axis": 0, "from": ["gate.weight", "up.weight"]}, "to": "gate_up.weight"},
)


@pytest.mark.parametrize(
    "rule",
    [samestep.AdamW(weight_decay=0.1), samestep.Adan(), samestep.Lookahead(samestep.Prodigy())],
)
def test_fused_weights_come_apart_and_go_together_with_their_state(rule):
    params = {
        "0.qkv.weight": normal(1, (6, 3)),
        "gate.weight": normal(2, (2, 3)),
        "up.weight": normal(3, (2, 3)),
    }

    def apart(tree):
        q, k, v = numpy.split(tree["0.qkv.weight"], 3)
        both = numpy.concatenate([tree["gate.weight"], tree["up.weight"]])
        return {"0.q.weight": q, "0.k.weight": k, "0.v.weight": v, "gate_up.weight": both}

    state, half = rule.init(params), params
    for step in range(STEPS):
        half, state = rule.update(gradients(params, step), half, state)
    QKV.check(samestep.checkpoint(rule, half, state))
    there, begun = samestep.restore(
        rule, samestep.checkpoint(rule, half, state).mapped(QKV), apart(params)
    )
    for step in range(STEPS, 2 * STEPS):
        grads = gradients(params, step)
        half, state = rule.update(grads, half, state)
        there, begun = rule.update(apart(grads), there, begun)
    for path, array in apart(half).items():
        numpy.testing.assert_allclose(there[path], array, rtol=1e-11, atol=1e-13)
    fresh, _ = rule.update(apart(grads), apart(half), rule.init(apart(half)))
    once, _ = rule.update(grads, half, state)
    assert numpy.abs(fresh["0.q.weight"] - apart(once)["0.q.weight"]).max() > 1e-6


def test_a_rule_that_sums_over_a_parameter_is_remarked_on():
    _, report = QKV.apply(checkpoint_of(samestep.LAMB(), {"0.qkv.weight": normal(1, (6, 3))}))
    assert report.remarks and "LAMB sums over a parameter" in str(report)
    _, report = QKV.apply(checkpoint_of(samestep.AdamW(), {"0.qkv.weight": normal(1, (6, 3))}))
    assert not report.remarks


@pytest.mark.parametrize(
    "rule",
    [
        samestep.Muon(),
        samestep.AdamP(),
        samestep.Lookahead(samestep.Muon()),
        samestep.AdaptiveClip(samestep.AdamW()),
    ],
)
def test_a_piece_of_a_matrix_is_no_matrix_of_the_same_rule(rule):
    params = {"0.qkv.weight": normal(1, (6, 3))}
    refused("looks at the matrix as a whole", [QKV_RULE], rule, params)


QKV_RULE = {"from": "{b...}.qkv.weight", "split": {"axis": 0, "into": ["q", "k", "v"]}}


def test_what_is_merged_must_be_alike():
    both = {"merge": {"axis": 0, "from": ["a", "b"]}, "to": "c"}
    a, b = normal(1, (3, 2)), normal(2, (3, 2))
    refused(
        "different shapes: (3, 2), (3, 4)",
        [both],
        samestep.AdamW(),
        {"a": a, "b": normal(2, (3, 4))},
    )
    text = refused(
        "slot w_sum of TAdam: it is one number for all of a parameter, and differs",
        [both],
        samestep.TAdam(),
        {"a": a, "b": b},
    )
    assert "'a', 'b'" in text
    refused(
        "different dtypes: float64, float32",
        [both],
        samestep.AdamW(),
        {"a": a, "b": b.astype("float32")},
    )
    ruled = route((Where(path="a"), samestep.AdamW()), samestep.AdamW(lr=3e-3))
    refused("different rules", [both], ruled, {"a": a, "b": b})
    torn = checkpoint_of(samestep.AdamW(), {"a": a, "b": b})
    own = torn.parameters["b"]
    behind = ParameterState(own.shape, own.dtype, 3, own.rule, own.slots, own.value)
    with pytest.raises(CheckpointError, match="different steps: 5, 3"):
        Map(both).apply(Checkpoint({**torn.parameters, "b": behind}))
    with pytest.raises(CheckpointError, match="a should be merged with b, and"):
        Map(both).apply(Checkpoint({"a": torn.parameters["a"]}))
    sized = {"merge": {"axis": 0, "from": ["a", "b"], "sizes": [2, 4]}, "to": "c"}
    refused(
        "the sizes are [3, 3]; they must be [2, 4]", [sized], samestep.AdamW(), {"a": a, "b": b}
    )


def test_numbers_that_each_parameter_has_are_merged_where_they_are_the_same():
    both = Map({"merge": {"axis": 0, "from": ["a", "b"]}, "to": "c"})
    rule = samestep.NAdam()
    before = checkpoint_of(rule, {"a": normal(1, (3, 2)), "b": normal(2, (3, 2))})
    after = before.mapped(both)
    assert (
        after.parameters["c"].slots["product"].bits == before.parameters["a"].slots["product"].bits
    )
    samestep.restore(rule, after, {"c": normal(1, (6, 2))})


def test_one_number_per_parameter_stays_one_when_a_number_becomes_a_vector():
    before = checkpoint_of(samestep.TAdam(), {"a": normal(1, ())})
    rule = Map({"from": "a", "reshape": [1], "was": []})
    slots = before.mapped(rule).parameters["a"].slots
    assert {name: slot.shape for name, slot in slots.items()} == {"m": (1,), "v": (1,), "w_sum": ()}
    rule.check(before)


def test_the_output_axis_of_a_matrix_rule_goes_where_the_transpose_puts_it():
    before = checkpoint_of(samestep.Muon(), {"a.weight": normal(1, (6, 3, 2, 5))})

    def mapped(axes):
        return before.mapped(Map({"from": "a.weight", "transpose": axes})).parameters["a.weight"]

    assert mapped([2, 3, 1, 0]).rule["values"]["layout"] == "io"
    assert mapped([0, 2, 3, 1]).rule["values"]["layout"] == "oi"
    with pytest.raises(
        CheckpointError, match=r"output's axis of Muon .layout='oi'. between others"
    ):
        mapped([1, 0, 2, 3])
    with pytest.raises(CheckpointError, match="layout is 'oi' here and 'io' there"):
        samestep.restore(
            samestep.Muon(), before.mapped(Map(*TURNED)), {"a.kernel": normal(1, (2, 5, 3, 6))}
        )


def test_the_output_axis_is_turned_in_wrappers_and_inside_them():
    params = {"a.weight": normal(1, (6, 4))}
    around = samestep.AdaptiveClip(samestep.Lookahead(samestep.Muon()))
    after = checkpoint_of(around, params).mapped(TURN)
    description = after.parameters["a.kernel"].rule
    assert description["values"]["clip_layout"] == "io"
    assert description["rule"]["rule"]["values"]["layout"] == "io"
    inner = samestep.Lookahead(samestep.Muon(layout="io"))
    samestep.restore(samestep.AdaptiveClip(inner, clip_layout="io"), after, turned(params))
    for other in (
        samestep.AdaptiveClip(inner),
        samestep.AdaptiveClip(around.rule, clip_layout="io"),
    ):
        with pytest.raises(CheckpointError, match="layout is 'oi' here and 'io' there"):
            samestep.restore(other, after, turned(params))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_pieces_along_any_axis_go_together_again(axis):
    before = checkpoint_of(samestep.AdamW(), {"a": normal(1, (4, 6))})
    sizes = {0: [1, 3], 1: [1, 5]}[axis % 2]
    cut = Map({"from": "a", "split": {"axis": axis, "into": ["c", "b"], "sizes": sizes}})
    cut.check(before)
    pieces = before.mapped(cut).parameters
    joined = numpy.concatenate([pieces[path].slots["v"].bits for path in "cb"], axis)
    assert numpy.array_equal(joined, before.parameters["a"].slots["v"].bits)


def test_a_matrix_rule_takes_a_reshape_after_which_the_matrix_is_the_same():
    params = {"a": normal(1, (6, 3, 2, 5))}
    same = Map({"from": "a", "reshape": [6, -1], "was": [6, 3, 2, 5]})
    same.check(checkpoint_of(samestep.Muon(), params))
    other = {"from": "a", "reshape": [18, -1]}
    refused("Muon (layout='oi') sees another matrix", [other], samestep.Muon(), params)
    refused("sees another matrix", [{"from": "a", "reshape": [-1]}], samestep.Muon(), params)


def test_a_slot_of_unknown_shape_is_not_carried():
    class Gram(samestep.Rule):
        """Keeps a matrix per axis.

        Source: none, 2024.
        """

        needs = "factored"
        lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
        gram = samestep.slot(
            "of rows",
            init=samestep.Initial(
                lambda xp, param, rule: xp.matmul(param, param.T),
                lambda shape, rule: (shape[0],) * 2,
            ),
        )

        def direction(self, xp, grad, param, state, s):
            return grad, {"gram": state.gram}

    try:
        params = {"a.weight": normal(1, (4, 4))}
        text = refused("slot gram of Gram: its shape (4, 4)", TURNED, Gram(), params)
        assert "does not have the axes" in text
        Map({"from": "a.weight", "to": "b"}).check(checkpoint_of(Gram(), params))
    finally:
        del samestep.registry["Gram"]


def test_bfloat16_and_parameters_without_state_are_carried():
    bits = numpy.arange(12, dtype=numpy.uint16).reshape(3, 4) + 16000
    description = checkpoint_of(samestep.AdamW(), {"a": normal(1, (3, 4))}).parameters["a"].rule
    own = ParameterState((3, 4), "bfloat16", 0, description, None, Tensor(bits, "bfloat16"))
    new = Checkpoint({"a.weight": own}).mapped(TURN).parameters["a.kernel"]
    assert (new.shape, new.dtype, new.slots, new.value.dtype) == (
        (4, 3),
        "bfloat16",
        None,
        "bfloat16",
    )
    assert numpy.array_equal(new.value.bits, bits.T) and new.value.bits.flags.c_contiguous


def test_a_slot_that_is_not_of_its_shape_is_refused_by_name():
    own = checkpoint_of(samestep.AdamW(), {"a": normal(1, (3, 4))}).parameters["a"]
    slots = {**own.slots, "m": Tensor(numpy.zeros(5), "float64")}
    bad = ParameterState(own.shape, own.dtype, own.step, own.rule, slots, own.value)
    with pytest.raises(CheckpointError, match=r"'a.weight': slot m of AdamW: it has shape \(5,\)"):
        TURN.apply(Checkpoint({"a.weight": bad}))


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
    before = checkpoint_of(samestep.SGD(), {path: normal(1, (2,)) for path in names})
    after, report = rules.apply(before)
    assert [*after.parameters] == [*names.values()]
    assert {*report.unmatched} == {path for path, name in names.items() if path == name}
    rules.check(before)


def test_the_first_rule_that_matches_has_a_parameter():
    rules = Map(
        {"from": "a.{x}", "to": "first.{x}", "ndim": 2}, {"from": "a.{x}", "to": "second.{x}"}
    )
    before = checkpoint_of(samestep.SGD(), {"a.w": normal(1, (2, 2)), "a.b": normal(1, (2,))})
    assert [*before.mapped(rules).parameters] == ["first.w", "second.b"]


def test_captures_are_sizes_too():
    rule = {"from": "heads_{h}.w", "to": "w{h}", "reshape": ["{h}", -1], "was": [-1]}
    before = checkpoint_of(samestep.AdamW(), {"heads_3.w": normal(1, (12,))})
    after = before.mapped(Map(rule))
    assert after.parameters["w3"].shape == (3, 4)
    Map(rule).inverse().check(after)
    Map(rule).check(before)
    text = refused(
        "which are no numbers", [rule], samestep.AdamW(), {"heads_x.w": normal(1, (12,))}
    )
    assert "{'h': 'x'}" in text


def test_values_that_do_not_come_back_are_noticed(monkeypatch):
    before = checkpoint_of(samestep.AdamW(), {"a.weight": normal(1, (4, 4))})
    TURN.check(before)
    monkeypatch.setattr(Transpose, "inverse", lambda self: Transpose((0, 1)))
    with pytest.raises(CheckpointError, match=r"slots/m/a\.weight has other values"):
        Map(TURNED[0]).check(before)


def test_the_inverse_of_a_map_from_flax_has_to_know_the_embeddings():
    params = {"params.tok.embedding": normal(1, (7, 2)), "params.fc.kernel": normal(2, (2, 3))}
    before = checkpoint_of(samestep.AdamW(), params)
    assert [*before.mapped(Map.between("flax", "torch")).parameters] == ["tok.weight", "fc.weight"]
    Map.between("flax", "torch", embeddings="tok").check(before)
    with pytest.raises(CheckpointError, match="is not undone by its inverse"):
        Map.between("flax", "torch").check(before)


def test_a_rule_that_does_everything_is_undone_step_by_step():
    rule = {
        "merge": {"axis": 1, "from": ["{m}.a", "{m}.b"]},
        "ndim": 4,
        "transpose": [0, 2, 3, 1],
        "reshape": [6, -1],
        "was": [6, 2, 5, 4],
        "split": {"axis": 0, "into": ["{m}.c", "{m}.d"], "sizes": [1, 5]},
    }
    params = {
        f"{m}.{leaf}": normal(place, (6, 2, 2, 5))
        for place, (m, leaf) in enumerate([("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")])
    }
    before = checkpoint_of(samestep.Adan(), params)
    after = before.mapped(Map(rule))
    by_hand = numpy.concatenate([params["x.a"], params["x.b"]], 1).transpose(0, 2, 3, 1)
    fresh = samestep.checkpoint(samestep.SGD(), params, samestep.SGD().init(params)).mapped(
        Map(rule)
    )
    assert numpy.array_equal(fresh.parameters["x.d"].value.bits, by_hand.reshape(6, 40)[1:])
    assert [*after.parameters] == ["x.c", "x.d", "y.c", "y.d"]
    Map(rule).check(before)
    Map(rule).inverse().check(after)


def test_the_report_says_what_was_done():
    before = checkpoint_of(
        samestep.AdamW(), {"a.weight": normal(1, (3, 2)), "other": normal(1, (3,))}
    )
    _, report = TURN.apply(before)
    assert [(move.sources, move.targets) for move in report.moves] == [
        (("a.weight",), ("a.kernel",))
    ]
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
    params = {
        "fc1.weight": normal(1, (3, 2)),
        "fc1.bias": normal(2, (3,)),
        "x.weight": normal(3, (4,)),
    }
    before = checkpoint_of(samestep.AdamW(), params)
    after, report = both.apply(before)
    assert {path: own.shape for path, own in after.parameters.items()} == {
        "params.Dense_0.kernel": (2, 3),
        "params.Dense_0.bias": (3,),
        "params.x.scale": (4,),
    }
    assert report.unmatched == report.unused == () and after.layout == "jax"
    both.check(before)


def test_an_inverse_that_does_not_undo_is_noticed():
    lossy = Map(
        {"from": "a", "to": "n.x"},
        {"from": "{m}.x", "to": "{m}.y"},
        {"from": "{m}.z", "to": "{m}.x"},
    )
    before = checkpoint_of(
        samestep.SGD(momentum=0.9), {"a": normal(1, (2,)), "b.z": normal(2, (2,))}
    )
    lossy.check(before)
    with pytest.raises(CheckpointError, match=r"not undone by its inverse: '(n.z|a)' is only in"):
        Map({"from": "{m}.z", "to": "{m}.x"}, {"from": "a", "to": "n.x"}).check(before)
    unequal = Map({"merge": {"axis": 0, "from": ["a", "c"]}, "to": "d"})
    with pytest.raises(
        CheckpointError, match=r"\d elements are not 2 equal parts|has another shape"
    ):
        unequal.check(checkpoint_of(samestep.SGD(), {"a": normal(1, (2,)), "c": normal(1, (4,))}))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            {"from": "a", "transposed": [1, 0]},
            "no key 'transposed'; there are from, to, ndim, merge, "
            "transpose, reshape, was, split. Did you mean 'transpose'?",
        ),
        ({"to": "a"}, "there is no from"),
        ({"from": "a", "to": 3}, "to is 3; it must be a text"),
        (
            {"from": "a", "transpose": [0, 2]},
            "transpose is [0, 2]; it must have every axis from 0 to 1",
        ),
        ({"from": "a", "transpose": [1, "0"]}, "it must be of whole numbers"),
        ({"from": "a", "transpose": "10"}, "transpose is '10'; it must be a list"),
        ({"from": "a", "ndim": 3, "transpose": [1, 0]}, "transpose has 2 axes, and ndim is 3"),
        ({"from": "a", "ndim": True}, "ndim is True; it must be a whole number >= 0"),
        ({"from": "a", "to": "{b}"}, "'{b}' has {b}; 'a' has no gaps"),
        ({"from": "{a}.{c}", "to": "{b}"}, "'{b}' has {b}; '{a}.{c}' has {a}, {c}"),
        ({"from": "{a}.{a}", "to": "b"}, "'{a}.{a}' has {a} twice"),
        ({"from": "{a", "to": "b"}, "a gap is {name} or {name...}"),
        ({"from": "x{a...}", "to": "b"}, "stands for whole parts of a path"),
        ({"from": "a", "reshape": [-1, -1]}, "only one may be -1"),
        ({"from": "a", "reshape": ["{h}"]}, "'{h}' has {h}; 'a' has no gaps"),
        ({"from": "a", "reshape": [1.5]}, "1.5 must be a size, -1, or '{name}' of a gap"),
        ({"from": "a", "was": [2]}, "was is given, and no reshape"),
        (
            {"from": "a", "to": "b", "split": {"axis": 0, "into": ["c"]}},
            "to and split are both given",
        ),
        (
            {"from": "a", "split": {"axis": 0, "int": ["c"]}},
            "split: there is no key 'int'; there are axis, into, sizes. Did you mean 'into'?",
        ),
        ({"from": "a", "split": {"into": ["c", "d"]}}, "axis is None; it must be a whole number"),
        ({"from": "a", "split": {"axis": 0, "into": ["c", "c"]}}, "it must have different paths"),
        (
            {"from": "a", "split": {"axis": 0, "into": ["c", "d"], "sizes": [1]}},
            "it must have 2 numbers",
        ),
        (
            {"merge": {"axis": 0, "from": ["{a}.q", "{b}.k"]}, "to": "c"},
            "must have the same gaps as",
        ),
        ({"merge": {"axis": 0, "from": ["q", "k"]}}, "there is no to, which what is merged needs"),
        ("a", "is 'a'; it must be a table"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_place(rule, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        Map({"from": "x", "to": "y"}, rule)
    assert str(caught.value).startswith("Map: rules[1]")


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            {"from": "a", "transpose": [1, 2, 0]},
            "transpose [1, 2, 0] is for 3 dimensions, and its "
            "shape is (4, 6); ndim = 3 leaves others out",
        ),
        ({"from": "a", "reshape": [5, -1]}, "reshape [5, -1] does not fit its shape (4, 6)"),
        ({"from": "a", "reshape": [3, 3]}, "reshape [3, 3] does not fit its shape (4, 6)"),
        ({"from": "a", "reshape": [24], "was": [6, -1]}, "was is [6, -1], and its shape is (4, 6)"),
        ({"from": "a", "split": {"axis": 2, "into": ["c", "d"]}}, "no axis 2 in its shape (4, 6)"),
        (
            {"from": "a", "split": {"axis": 1, "into": ["c", "d", "e", "f"]}},
            "6 elements are not 4 equal",
        ),
        (
            {"from": "a", "split": {"axis": 1, "into": ["c", "d"], "sizes": [4, 4]}},
            "not sizes [4, 4]",
        ),
        ({"from": "a", "to": "b"}, "'a' and 'b' are both called 'b' after it"),
        (
            {"from": "a", "split": {"axis": 0, "into": ["c", "b"]}},
            "'a' and 'b' are both called 'b'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rule, text):
    params = {"a": normal(1, (4, 6)), "b": normal(2, (2,))}
    message = refused(text, [rule], samestep.AdamW(), params)
    assert message.startswith("Map: ") and "'a'" in message


def test_a_strict_map_leaves_nothing_out():
    refused(
        "Map is strict, and no rule matches b",
        [{"from": "a"}],
        samestep.SGD(),
        {"a": normal(1, (2,)), "b": normal(1, (2,))},
        strict=True,
    )


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
    params = {
        "fc1.weight": normal(1, (3, 2)),
        "fc1.bias": normal(2, (3,)),
        "tok.weight": normal(3, (7, 2)),
        "qkv.weight": normal(4, (6, 2)),
    }
    before = checkpoint_of(samestep.AdamW(), params)
    found = Map.read(write(tmp_path, TOML))
    found.check(before)
    assert {path: own.shape for path, own in before.mapped(found).parameters.items()} == {
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
    pytest.importorskip("safetensors")
    rule, path = samestep.AdamW(), tmp_path / "state.safetensors"
    params = {"fc.weight": normal(1, (3, 2)), "emb.weight": normal(2, (5, 2))}
    state = rule.init(params)
    for step in range(3):
        params, state = rule.update(gradients(params, step), params, state)
    samestep.save(path, rule, params, state)
    wanted = {"fc": {"kernel": normal(3, (2, 3))}, "emb": {"embedding": normal(3, (5, 2))}}
    toml = write(tmp_path, "between = { from = 'torch', to = 'nnx', embeddings = 'emb' }")
    for chosen in (toml, str(toml), Map.between("torch", "nnx", embeddings=["emb"])):
        there, begun = samestep.load(path, rule, wanted, map=chosen)
        assert begun.step == 3
        assert numpy.array_equal(there["fc"]["kernel"], params["fc.weight"].T)
        assert numpy.array_equal(begun.slots["v"]["fc"]["kernel"], state.slots["v"]["fc.weight"].T)
        assert numpy.array_equal(
            begun.slots["m"]["emb"]["embedding"], state.slots["m"]["emb.weight"]
        )
    with pytest.raises(CheckpointError, match=r"emb\.embedding") as caught:
        samestep.load(path, rule, wanted, map=Map.between("torch", "nnx"))
    text = str(caught.value)
    assert text.startswith(str(path)) and "after the map" in text
    assert (
        "not in the checkpoint: emb.embedding" in text
        and "only in the checkpoint: emb.kernel" in text
    )
    wanted["fc"]["kernels"] = wanted["fc"].pop("kernel")
    with pytest.raises(CheckpointError, match=re.escape("fc.kernels (is it fc.kernel?)")):
        samestep.load(path, rule, wanted, map=toml)
    with pytest.raises(FileNotFoundError):
        samestep.load(path, rule, wanted, map=tmp_path / "none.toml")


def test_a_map_for_another_layout_is_refused():
    before = checkpoint_of(samestep.AdamW(), {"a.weight": normal(1, (3, 2))})
    there = before.mapped(Map.between("torch", "flax"))
    with pytest.raises(
        CheckpointError, match="layout is that of jax; the map is for that of torch"
    ):
        there.mapped(Map.between("torch", "flax"))
    assert there.mapped(Map.between("flax", "torch")).layout == "torch"


# Against the real layers: torch.nn, mlx.nn, and what Flax's compute, written with lax.

INPUTS = {
    "line": (2, 4, 9),
    "conv": (2, 3, 6, 7),
    "box": (1, 2, 4, 5, 6),
    "fc": (2, 4),
    "norm": (2, 6),
}
"""Channels second, as in torch; ``line`` is a convolution of two groups."""
TOKENS = [[0, 3], [6, 1]]


def torch_model():
    nn = pytest.importorskip("torch").nn
    model = nn.ModuleDict(
        {
            "tok": nn.Embedding(7, 4),
            "line": nn.Conv1d(4, 6, 2, groups=2),
            "conv": nn.Conv2d(3, 4, (2, 3)),
            "box": nn.Conv3d(2, 2, (2, 1, 3)),
            "norm": nn.LayerNorm(6),
            "fc": nn.Linear(4, 5),
        }
    )
    filled = pytest.importorskip("torch").nn.init.normal_
    for param in model.parameters():
        filled(param, std=0.5)
    return model


def mlx_model():
    nn = pytest.importorskip("mlx.nn")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok, self.norm, self.fc = nn.Embedding(7, 4), nn.LayerNorm(6), nn.Linear(4, 5)
            self.line, self.conv = nn.Conv1d(4, 6, 2, groups=2), nn.Conv2d(3, 4, (2, 3))
            self.box = nn.Conv3d(2, 2, (2, 1, 3))

    return Model()


def jax_params(framework):
    """Of the shapes that layers of Flax (Linen, NNX) or Equinox have, with no values yet."""
    xp = pytest.importorskip("jax.numpy")
    kernels = {"line": (2, 2, 6), "conv": (2, 3, 3, 4), "box": (2, 1, 3, 2, 2), "fc": (4, 5)}
    weights = {"line": (6, 2, 2), "conv": (4, 3, 2, 3), "box": (2, 2, 2, 1, 3), "fc": (5, 4)}
    outputs = {"line": 6, "conv": 4, "box": 2, "fc": 5}
    if framework == "equinox":
        found = {name: {"weight": weights[name], "bias": (outputs[name],)} for name in weights}
        found |= {"tok": {"weight": (7, 4)}, "norm": {"weight": (6,), "bias": (6,)}}
    else:
        found = {name: {"kernel": kernels[name], "bias": (outputs[name],)} for name in kernels}
        found |= {"tok": {"embedding": (7, 4)}, "norm": {"scale": (6,), "bias": (6,)}}
    made = {name: {leaf: xp.zeros(s) for leaf, s in own.items()} for name, own in found.items()}
    return {"params": made} if framework == "flax" else made


def torch_outputs(model):
    torch = pytest.importorskip("torch")
    found = {"tok": model["tok"](torch.tensor(TOKENS)).detach().numpy()}
    for place, (name, shape) in enumerate(INPUTS.items()):
        x = torch.tensor(normal(place, shape), dtype=torch.float32)
        found[name] = model[name](x).detach().numpy()
    return found


def mlx_outputs(model):
    mx = pytest.importorskip("mlx.core")
    found = {"tok": numpy.array(model["tok"](mx.array(TOKENS)))}
    for place, (name, shape) in enumerate(INPUTS.items()):
        x = numpy.moveaxis(normal(place, shape), 1, -1).astype("float32")
        found[name] = numpy.moveaxis(numpy.array(model[name](mx.array(x))), -1, 1)
    return found


def jax_outputs(params, framework):
    jax = pytest.importorskip("jax")
    first = framework == "equinox"
    params = params.get("params", params)
    names = ("weight",) * 3 if first else ("kernel", "scale", "embedding")
    kernel, scale, embedding = names
    found = {"tok": numpy.asarray(params["tok"][embedding][numpy.array(TOKENS)])}
    for place, (name, shape) in enumerate(INPUTS.items()):
        x = normal(place, shape).astype("float32")
        own = params[name]
        if name == "norm":
            centred = x - x.mean(axis=-1, keepdims=True)
            y = centred / numpy.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * own[scale]
        elif name == "fc":
            y = x @ (own[kernel].T if first else own[kernel])
        else:
            space = "DHW"[-(x.ndim - 2) :]
            order = (f"NC{space}", f"OI{space}", f"NC{space}")
            if not first:
                x, order = numpy.moveaxis(x, 1, -1), (f"N{space}C", f"{space}IO", f"N{space}C")
            groups = 2 if name == "line" else 1
            y = jax.lax.conv_general_dilated(
                x,
                own[kernel],
                (1,) * len(space),
                "VALID",
                dimension_numbers=order,
                feature_group_count=groups,
            )
            y = y if not first else numpy.moveaxis(y, 1, -1)
        y = y + own["bias"]
        found[name] = numpy.asarray(y if y.ndim < 3 else numpy.moveaxis(y, -1, 1))
    return found


def stepped(model):
    """An optimizer of torch that has state, and the model after it."""
    torch = pytest.importorskip("torch")
    optimizer = pytest.importorskip("samestep.torch").AdamW(model.named_parameters(), lr=1e-2)
    for step in range(3):
        for place, param in enumerate(model.parameters()):
            param.grad = torch.tensor(normal(100 * step + place, param.shape), dtype=torch.float32)
        optimizer.step()
    return optimizer


def test_every_layout_computes_what_torch_does():
    model = torch_model()
    begun = samestep.checkpoint(stepped(model), model)
    expected, now, here = torch_outputs(model), begun, "torch"
    for there in (
        "flax",
        "mlx",
        "equinox",
        "nnx",
        "torch",
        "mlx",
        "nnx",
        "equinox",
        "flax",
        "torch",
    ):
        between = Map.between(here, there, embeddings="tok")
        between.check(now)
        now, here = now.mapped(between), there
        if there == "mlx":
            other = mlx_model()
            optimizer = pytest.importorskip("samestep.mlx").AdamW(lr=1e-2)
            samestep.restore(optimizer, now, other)
            found = mlx_outputs(other)
        elif there == "torch":
            other = torch_model()
            optimizer = pytest.importorskip("samestep.torch").AdamW(
                other.named_parameters(), lr=1e-2
            )
            samestep.restore(optimizer, now, other)
            found = torch_outputs(other)
        else:
            optimizer = pytest.importorskip("samestep.jax").AdamW(lr=1e-2)
            params, _ = samestep.restore(optimizer, now, jax_params(there))
            found = jax_outputs(params, there)
        for name, output in expected.items():
            numpy.testing.assert_allclose(found[name], output, rtol=2e-5, atol=2e-6, err_msg=name)
    assert now.parameters.keys() == begun.parameters.keys() and now.layout == "torch"
    for path, own in begun.parameters.items():
        for (_, mine), (_, theirs) in zip(
            own.tensors(), now.parameters[path].tensors(), strict=True
        ):
            assert numpy.array_equal(mine.bits, theirs.bits)


MATRICES = Where(min_ndim=2)
ROUTE = {
    "AdamW": lambda layout: samestep.AdamW(lr=1e-2, weight_decay=0.1),
    "Adafactor": lambda layout: samestep.Adafactor(weight_decay=0.1, axes="largest", momentum=0.9),
    "SM3": lambda layout: samestep.SM3(weight_decay=0.1),
    "LAMB": lambda layout: samestep.LAMB(lr=1e-2, weight_decay=0.1),
    "AdamP": lambda layout: samestep.AdamP(lr=1e-2, weight_decay=0.1, layout=layout),
    "TAdam": lambda layout: samestep.TAdam(lr=1e-2, weight_decay=0.1),
    "Muon": lambda layout: route(
        (MATRICES, samestep.Muon(weight_decay=0.1, layout=layout)), samestep.NAdam(lr=1e-2)
    ),
    "around": lambda layout: samestep.ClipGlobalNorm(
        samestep.Lookahead(samestep.Adafactor(axes="largest", weight_decay=0.1)), max_norm=1.0
    ),
}
SIZES = {"conv.weight": (6, 3, 2, 5), "fc.weight": (5, 4), "fc.bias": (5,), "norm.weight": (4,)}
FLAX = {"conv.weight": (2, 3, 1, 0), "fc.weight": (1, 0)}
MLX = {"conv.weight": (0, 2, 3, 1)}
CALLED = {"conv.weight": "conv.kernel", "fc.weight": "fc.kernel", "norm.weight": "norm.scale"}


def laid_out(tree, axes):
    """By hand, from torch's names and shapes."""
    names = CALLED if axes is FLAX else {}
    return {
        names.get(path, path): numpy.ascontiguousarray(array.transpose(axes[path]))
        if path in axes
        else array
        for path, array in tree.items()
    }


def float32(tree):
    return {path: array.astype("float32") for path, array in tree.items()}


def torch_training(rule, params, start=None, steps=STEPS):
    torch = pytest.importorskip("torch")
    named = {path: torch.nn.Parameter(torch.tensor(array)) for path, array in params.items()}
    optimizer = pytest.importorskip("samestep.torch").bind(rule, named.items())
    if start is not None:
        samestep.restore(optimizer, start, named)
    first = 0 if start is None else start.step
    for step in range(first, first + steps):
        for path, grad in gradients(params, step).items():
            named[path].grad = torch.tensor(grad, dtype=torch.float32)
        optimizer.step()
    return samestep.checkpoint(optimizer, named)


def jax_training(rule, params, start, steps=STEPS):
    jax = pytest.importorskip("jax")
    optimizer = pytest.importorskip("samestep.jax").bind(rule)
    tree = {path: jax.numpy.asarray(array) for path, array in laid_out(params, FLAX).items()}
    tree, state = samestep.restore(optimizer, start, tree)
    for step in range(start.step, start.step + steps):
        grads = laid_out(float32(gradients(params, step)), FLAX)
        updates, state = optimizer.update(grads, state, tree)
        tree = jax.tree.map(jax.numpy.add, tree, updates)
    return samestep.checkpoint(optimizer, tree, state)


def mlx_training(rule, params, start, steps=STEPS):
    mx = pytest.importorskip("mlx.core")
    optimizer = pytest.importorskip("samestep.mlx").bind(rule)
    tree = {path: mx.array(array) for path, array in laid_out(params, MLX).items()}
    tree = samestep.restore(optimizer, start, tree)
    for step in range(start.step, start.step + steps):
        grads = laid_out(float32(gradients(params, step)), MLX)
        tree = optimizer.apply_gradients({n: mx.array(g) for n, g in grads.items()}, tree)
    return samestep.checkpoint(optimizer, tree)


@pytest.mark.parametrize("name", ROUTE)
def test_torch_then_jax_then_mlx_then_torch_is_torch_all_along(name):
    params = {
        path: normal(n, shape).astype("float32") for n, (path, shape) in enumerate(SIZES.items())
    }
    make = ROUTE[name]
    begun = torch_training(make("oi"), params)
    alone = torch_training(make("oi"), params, steps=4 * STEPS)
    to_flax, to_mlx = Map.between("torch", "nnx"), Map.between("nnx", "mlx")
    in_jax = jax_training(make("io"), params, begun.mapped(to_flax))
    in_mlx = mlx_training(make("oi"), params, in_jax.mapped(to_mlx))
    ended = torch_training(make("oi"), params, in_mlx.mapped(Map.between("mlx", "torch")))
    assert ended.step == alone.step == 4 * STEPS
    for path, own in ended.parameters.items():
        wanted, found = alone.parameters[path].value.values(), own.value.values()
        scale = numpy.full(
            wanted.shape, max(numpy.abs(wanted).max(), numpy.abs(params[path]).max())
        )
        assert ulps(found, wanted, scale, "float32").max() <= 8, path


def test_a_rule_that_changes_nothing_is_not_taken_for_a_frozen_parameter():
    rule, params = samestep.SGD(lr=0.0), {"fc.weight": PARAMS["fc.weight"]}
    before = checkpoint_of(rule, params)
    frozen = {"frozen.weight": before.parameters["fc.weight"].value}
    after = dataclasses.replace(before, others=frozen).mapped(TURN)
    assert {*after.parameters} == {"fc.kernel"} and {*after.others} == {"frozen.kernel"}
    assert after.parameters["fc.kernel"].rule == before.parameters["fc.weight"].rule
    _, state = samestep.restore(rule, dataclasses.replace(after, others={}), turned(params))
    assert state.step == before.step == 5
