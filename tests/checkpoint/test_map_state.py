"""Maps: the state of one model becomes the state of another, in other shapes and pieces."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

import numpy
import pytest

import samestep
from samestep import Checkpoint, CheckpointError, Map, Where, route
from samestep.checkpoints import Tensor
from samestep.conformance.harness.settings import all_rules, typical
from tests.checkpoint.trained import STEPS, arrays, checkpoint_of, follow, gradients, refused

PARAMS = arrays(
    {
        "fc.weight": (5, 4),
        "conv.weight": (6, 3, 2, 5),
        "fc.bias": (5,),
        "square.weight": (4, 4),
        "row.weight": (1, 5),
        "scale": (),
    }
)
AXES = {"Flax": {2: (1, 0), 4: (2, 3, 1, 0)}, "MLX": {4: (0, 2, 3, 1)}}
"""The order of torch's axes in the weights of other frameworks, by the number of dimensions."""

LAYOUTS = {"Flax": "io", "MLX": "oxi"}


def rules_of(framework):
    return [
        {"from": "{m...}.weight", "to": "{m...}.kernel", "ndim": n, "transpose": [*order]}
        for n, order in AXES[framework].items()
    ]


def turned(tree, framework="Flax"):
    """The effect of these rules, by hand."""
    found = {}
    for path, array in tree.items():
        axes = AXES[framework].get(array.ndim)
        name = path.replace("weight", "kernel") if axes else path
        found[name] = array if axes is None else array.transpose(axes).copy()
    return found


TURNED = rules_of("Flax")
TURN = Map(*TURNED)


def training(rule, params, steps, state=None, change=lambda grads: grads):
    """As ``follow``; a parameter has the same gradients whatever other parameters there are."""

    def given(params, step):
        grads = change(gradients(PARAMS, step))
        return {path: grads[path] for path in params}

    return follow(rule, params, steps, state, given)


@pytest.mark.parametrize("framework", AXES)
@pytest.mark.parametrize("name", [rule.__name__ for rule in all_rules()])
def test_training_goes_on_in_the_other_layout_as_if_nothing_had_been(name, framework):
    rule = typical(samestep.registry[name])
    dimensions = range(rule.min_ndim, 5)
    if getattr(rule, "axes", None) == "last":  # another order of axes is another step
        dimensions = range(rule.min_ndim, 3)
    params = {path: array for path, array in PARAMS.items() if array.ndim in dimensions}
    half, state = training(rule, params, range(STEPS))
    whole, last = training(rule, half, range(STEPS, 2 * STEPS), state)

    turn, change = Map(*rules_of(framework)), partial(turned, framework=framework)
    layouts = {"layout"} & {*rule.hypers} if framework == "Flax" or rule.tells_places else ()
    other = rule.replace(**dict.fromkeys(layouts, LAYOUTS[framework]))
    mapped = samestep.checkpoint(rule, half, state).mapped(turn)
    there, begun = samestep.restore(other, mapped, change(params))
    assert begun.step == STEPS
    for path, array in change(half).items():
        assert numpy.array_equal(there[path], array)
    there, end = training(other, there, range(STEPS, 2 * STEPS), begun, change)
    for path, array in change(whole).items():
        small = 1e-12 * numpy.abs(array).max()
        numpy.testing.assert_allclose(there[path], array, rtol=1e-9, atol=small)

    back = samestep.checkpoint(other, there, end).mapped(turn.inverse())
    again, _ = samestep.restore(rule, back, params)
    for path, array in whole.items():
        numpy.testing.assert_allclose(again[path], array, rtol=1e-9, atol=1e-12)
    alike = samestep.checkpoint(rule, whole, last)
    for path, own in back.parameters.items():
        wanted = alike.parameters[path].tensors()
        for (slot, tensor), (_, kept) in zip(own.tensors(), wanted, strict=True):
            small = 1e-11 * numpy.abs(kept.values()).max(initial=1e-30)
            numpy.testing.assert_allclose(
                tensor.values(), kept.values(), rtol=1e-9, atol=small, err_msg=slot
            )


def test_state_thrown_away_or_left_as_it_was_would_be_noticed():
    rule = samestep.Adafactor(momentum=0.9)
    half, state = training(rule, {"square.weight": PARAMS["square.weight"]}, range(STEPS))
    whole, _ = training(rule, half, range(STEPS, 2 * STEPS), state)
    v, m = (state.slots[slot]["square.weight"] for slot in "vm")
    wrong = samestep.State(
        state.step, {**state.slots, "v": {"square.kernel": v}, "m": {"square.kernel": m.T}}, {}
    )
    for start in (wrong, rule.init(turned(half))):
        there, _ = training(rule, turned(half), range(STEPS, 2 * STEPS), start, turned)
        assert numpy.abs(there["square.kernel"] - whole["square.weight"].T).max() > 1e-6


# Factors


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
    before = checkpoint_of(rule, {"a.weight": shape})
    after = before.mapped(TURN)
    (old,), (new,) = before.parameters.values(), after.parameters.values()
    slot = "mu" if isinstance(rule, samestep.SM3) else "v"
    olds, news = old.slots[slot], new.slots[slot]
    if len(olds) == 2 and not (rule.hypers.get("axes") == "largest" and shape[0] != shape[1]):
        olds = olds[::-1]
    for one, other in zip(olds, news, strict=True):
        assert numpy.array_equal(one.bits.T, other.bits)
    samestep.restore(rule, after, turned(arrays({"a.weight": shape})))


def test_factors_of_the_largest_axes_go_with_them():
    rule = samestep.Adafactor(axes="largest", batch_axes=())
    before = checkpoint_of(rule, {"a.weight": (7, 2, 3, 5)})
    after = before.mapped(TURN)
    olds, news = (
        one.parameters[path].slots["v"] for one, path in ((before, "a.weight"), (after, "a.kernel"))
    )
    assert [t.shape for t in olds] == [(1, 2, 3, 5), (7, 2, 3, 1)]
    assert [t.shape for t in news] == [(3, 5, 2, 1), (3, 1, 2, 7)]


KERNEL = samestep.Adafactor(batch_axes=())


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        (KERNEL, (6, 3, 2, 5)),
        (KERNEL.replace(axes="largest"), (3, 3, 3, 3)),
        (samestep.Lookahead(KERNEL), (6, 3, 2, 5)),
    ],
    ids=["last", "largest of a cube", "inside a wrapper"],
)
def test_factors_of_a_kernel_are_those_of_its_inputs_and_outputs(rule, shape):
    before = checkpoint_of(rule, {"a.weight": shape})
    after = before.mapped(TURN)
    olds, news = before.parameters["a.weight"].slots["v"], after.parameters["a.kernel"].slots["v"]
    assert [old.shape for old in olds] == [(1, *shape[1:]), (shape[0], 1, *shape[2:])]
    for old, new in zip(olds, news, strict=True):
        assert numpy.array_equal(old.bits.transpose(2, 3, 1, 0), new.bits)
    samestep.restore(
        rule, after, {"a.kernel": arrays({"k": (*shape[2:], shape[1], shape[0])})["k"]}
    )


def test_factors_of_other_axes_are_refused():
    """Those of torch.optim.Adafactor are the height and the width."""
    torch_s = samestep.Adafactor(like="torch")
    before = checkpoint_of(torch_s, {"a.weight": (3, 3, 3, 3)})
    after = before.mapped(TURN)
    assert after.parameters["a.kernel"].rule["values"]["layout"] == "ioxx"
    with pytest.raises(CheckpointError, match="layout is 'io' here and 'ioxx' there"):
        samestep.restore(torch_s, after, arrays({"a.kernel": (3, 3, 3, 3)}))
    samestep.restore(torch_s.replace(layout="ioxx"), after, arrays({"a.kernel": (3, 3, 3, 3)}))


MERGE = {"merge": {"axis": 0, "from": ["a", "b"]}, "to": "c"}


@pytest.mark.parametrize(
    ("text", "rule", "of", "shapes"),
    [
        (
            "slot mu of SM3: it is kept along axes [0] alone",
            {"from": "a", "reshape": [-1, 2]},
            samestep.SM3(),
            {"a": (4, 6)},
        ),
        (
            "one number for all of axis 0, which is cut",
            {"from": "a", "split": {"axis": 0, "into": ["p", "q"]}},
            samestep.Adafactor(),
            {"a": (4, 6)},
        ),
        (
            "all of axis 1, which is put together",
            {"merge": {"axis": 1, "from": ["a", "b"]}, "to": "c"},
            samestep.SM3(),
            {"a": (4, 6), "b": (4, 6)},
        ),
        (
            "factors other axes",
            {"from": "a", "reshape": [2, 3]},
            samestep.Adafactor(),
            {"a": (6,)},
        ),
    ],
    ids=["reshaped", "cut", "put together", "of a vector"],
)
def test_factors_are_not_changed_across_their_axis(text, rule, of, shapes):
    refused(text, [rule], of, shapes)


def test_factors_are_cut_along_an_axis_that_they_have():
    before = checkpoint_of(samestep.Adafactor(layout="io"), {"a": (4, 3, 2)})
    cut = {"from": "a", "split": {"axis": 0, "into": ["b", "c"], "sizes": [1, 3]}}
    after = before.mapped(Map(cut)).parameters
    for path, piece in (("b", slice(0, 1)), ("c", slice(1, 4))):
        news = after[path].slots["v"]
        for new, old in zip(news, before.parameters["a"].slots["v"], strict=True):
            assert numpy.array_equal(new.bits, old.bits[piece])


# Pieces


FUSED = {
    "from": "{b...}.qkv.weight",
    "split": {"axis": 0, "into": [f"{{b...}}.{part}.weight" for part in "qkv"]},
}
QKV = Map(
    FUSED, {"merge": {"axis": 0, "from": ["gate.weight", "up.weight"]}, "to": "gate_up.weight"}
)


@pytest.mark.parametrize(
    "rule",
    [samestep.AdamW(weight_decay=0.1), samestep.Adan(), samestep.Lookahead(samestep.Prodigy())],
)
def test_fused_weights_come_apart_and_go_together_with_their_state(rule):
    params = arrays({"0.qkv.weight": (6, 3), "gate.weight": (2, 3), "up.weight": (2, 3)})

    def apart(tree):
        q, k, v = numpy.split(tree["0.qkv.weight"], 3)
        both = numpy.concatenate([tree["gate.weight"], tree["up.weight"]])
        return {"0.q.weight": q, "0.k.weight": k, "0.v.weight": v, "gate_up.weight": both}

    def given(_, step):
        return apart(gradients(params, step))

    half, state = follow(rule, params, range(STEPS))
    saved = samestep.checkpoint(rule, half, state)
    QKV.check(saved)
    there, begun = samestep.restore(rule, saved.mapped(QKV), apart(params))
    rest = range(STEPS, 2 * STEPS)
    half, state = follow(rule, half, rest, state)
    there, begun = follow(rule, there, rest, begun, given)
    for path, array in apart(half).items():
        numpy.testing.assert_allclose(there[path], array, rtol=1e-11, atol=1e-13)
    fresh, _ = follow(rule, apart(half), rest[-1:], None, given)
    once, _ = follow(rule, half, rest[-1:], state)
    assert numpy.abs(fresh["0.q.weight"] - apart(once)["0.q.weight"]).max() > 1e-6


def test_a_rule_that_sums_over_a_parameter_is_remarked_on():
    _, report = QKV.apply(checkpoint_of(samestep.LAMB(), {"0.qkv.weight": (6, 3)}))
    assert report.remarks and "LAMB sums over a parameter" in str(report)
    _, report = QKV.apply(checkpoint_of(samestep.AdamW(), {"0.qkv.weight": (6, 3)}))
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
    refused("looks at the matrix as a whole", [FUSED], rule, {"0.qkv.weight": (6, 3)})


PAIR = {"a": (3, 2), "b": (3, 2)}


@pytest.mark.parametrize(
    ("text", "sizes", "rule", "shapes"),
    [
        (
            "different shapes: (3, 2), (3, 4)",
            {},
            samestep.AdamW(),
            {"a": (3, 2), "b": (3, 4)},
        ),
        (
            "parameters 'a', 'b': slot w_sum of TAdam: it is one number for all of a parameter, "
            "and differs",
            {},
            samestep.TAdam(),
            PAIR,
        ),
        (
            "different rules",
            {},
            route((Where(path="a"), samestep.AdamW()), samestep.AdamW(lr=3e-3)),
            PAIR,
        ),
        (
            "the sizes are [3, 3]; they must be [2, 4]",
            {"sizes": [2, 4]},
            samestep.AdamW(),
            PAIR,
        ),
    ],
    ids=["shapes", "a number", "rules", "sizes"],
)
def test_what_is_merged_must_be_alike(text, sizes, rule, shapes):
    refused(text, [{**MERGE, "merge": {**MERGE["merge"], **sizes}}], rule, shapes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"step": 3}, "different steps: 5, 3"),
        ({"dtype": "float32"}, "different dtypes: float64, float32"),
        (None, "a should be merged with b, and"),
    ],
)
def test_what_is_merged_must_be_there_and_of_the_same_age_and_dtype(change, text):
    parameters = dict(checkpoint_of(samestep.AdamW(), PAIR).parameters)
    other = parameters.pop("b")
    if change is not None:
        parameters["b"] = dataclasses.replace(other, **change)
    with pytest.raises(CheckpointError, match=text):
        Map(MERGE).apply(Checkpoint(parameters))


def test_numbers_that_each_parameter_has_are_merged_where_they_are_the_same():
    rule = samestep.NAdam()
    before = checkpoint_of(rule, PAIR)
    after = before.mapped(Map(MERGE))
    old, new = (one.slots["product"] for one in (before.parameters["a"], after.parameters["c"]))
    assert new.bits == old.bits
    samestep.restore(rule, after, arrays({"c": (6, 2)}))


def test_one_number_per_parameter_stays_one_when_a_number_becomes_a_vector():
    before = checkpoint_of(samestep.TAdam(), {"a": ()})
    rule = Map({"from": "a", "reshape": [1], "was": []})
    slots = before.mapped(rule).parameters["a"].slots
    assert {name: slot.shape for name, slot in slots.items()} == {"m": (1,), "v": (1,), "w_sum": ()}
    rule.check(before)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_pieces_along_any_axis_go_together_again(axis):
    before = checkpoint_of(samestep.AdamW(), {"a": (4, 6)})
    sizes = {0: [1, 3], 1: [1, 5]}[axis % 2]
    cut = Map({"from": "a", "split": {"axis": axis, "into": ["c", "b"], "sizes": sizes}})
    cut.check(before)
    pieces = before.mapped(cut).parameters
    joined = numpy.concatenate([pieces[path].slots["v"].bits for path in "cb"], axis)
    assert numpy.array_equal(joined, before.parameters["a"].slots["v"].bits)


# Rules of matrices


def test_the_output_axis_of_a_matrix_rule_goes_where_the_transpose_puts_it():
    rule = samestep.Muon(batch_axes=())
    before = checkpoint_of(rule, {"a.weight": (6, 3, 2, 5)})

    def layout(axes):
        after = before.mapped(Map({"from": "a.weight", "transpose": axes}))
        return after.parameters["a.weight"].rule["values"]["layout"]

    assert layout([2, 3, 1, 0]) == "io"
    assert layout([0, 2, 3, 1]) == "oi"
    assert layout([1, 0, 2, 3]) == "ioii"
    with pytest.raises(CheckpointError, match="layout is 'oi' here and 'io' there"):
        there = rule.replace(layout="oi")
        samestep.restore(there, before.mapped(TURN), arrays({"a.kernel": (2, 5, 3, 6)}))
    samestep.restore(rule, before.mapped(TURN), arrays({"a.kernel": (2, 5, 3, 6)}))


def test_the_output_axis_is_turned_in_wrappers_and_inside_them():
    def around(layout):
        return samestep.AdaptiveClip(samestep.Lookahead(samestep.Muon()), layout=layout)

    shapes = {"a.weight": (6, 4)}
    after = checkpoint_of(around("oi"), shapes).mapped(TURN)
    description = after.parameters["a.kernel"].rule
    assert description["values"]["layout"] == "io"
    assert description["rule"]["rule"]["values"]["layout"] == "io"
    samestep.restore(around(None), after, turned(arrays(shapes)))
    with pytest.raises(CheckpointError, match="layout is 'oi' here and 'io' there"):
        samestep.restore(around("oi"), after, turned(arrays(shapes)))


@pytest.mark.parametrize("framework", AXES)
@pytest.mark.parametrize("inside", [samestep.Adafactor(), samestep.CAME(), samestep.SM3()])
def test_factors_of_a_rule_that_sees_the_outputs_first_move_as_it_sees_them(inside, framework):
    def around(layout):
        return samestep.AdaptiveClip(inside, layout=layout, batch_axes=())

    params = {"conv.weight": PARAMS["conv.weight"]}
    half, state = training(around("oi"), params, range(STEPS))
    whole, _ = training(around("oi"), half, range(STEPS, 2 * STEPS), state)
    mapped = samestep.checkpoint(around("oi"), half, state).mapped(Map(*rules_of(framework)))
    change = partial(turned, framework=framework)
    other = around(LAYOUTS[framework])
    there, begun = samestep.restore(other, mapped, change(params))
    there, _ = training(other, there, range(STEPS, 2 * STEPS), begun, change)
    (moved,), (expected,) = there.values(), change(whole).values()
    numpy.testing.assert_allclose(moved, expected, rtol=1e-12)


def test_a_matrix_rule_takes_a_reshape_after_which_the_matrix_is_the_same():
    shapes, rule = {"a": (6, 3, 2, 5)}, samestep.Muon(layout="oi", batch_axes=())
    same = Map({"from": "a", "reshape": [6, -1], "was": [6, 3, 2, 5]})
    same.check(checkpoint_of(rule, shapes))
    for sizes in ([18, -1], [-1]):
        text = "Muon (layout='oi') sees another matrix"
        refused(text, [{"from": "a", "reshape": sizes}], rule, shapes)


def test_batch_axes_go_with_a_transpose_and_stay_out_of_a_reshape():
    rule = samestep.LAMB(batch_axes=(0,))
    before = checkpoint_of(rule, {"a": (3, 5, 4)})
    after = before.mapped(Map({"from": "a", "transpose": [1, 2, 0]}))
    assert after.parameters["a"].rule["values"]["batch_axes"] == [2]
    samestep.restore(rule.replace(batch_axes=2), after, arrays({"a": (5, 4, 3)}))
    with pytest.raises(CheckpointError, match=r"batch_axes is \[0\] here and \[2\] there"):
        samestep.restore(rule, after, arrays({"a": (5, 4, 3)}))
    text = "LAMB (batch_axes=(0,)) sees another matrix"
    refused(text, [{"from": "a", "reshape": [15, -1]}], rule, {"a": (3, 5, 4)})


# Slots and values of other forms


def test_a_slot_of_unknown_shape_is_not_carried():
    class Gram(samestep.Rule):
        """Keeps a matrix per axis.

        Source: none, 2024.
        """

        needs = "factored"
        min_ndim = 2
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
        shapes = {"a.weight": (4, 4)}
        text = refused("slot gram of Gram: its shape (4, 4)", TURNED, Gram(), shapes)
        assert "does not have the axes" in text
        Map({"from": "a.weight", "to": "b"}).check(checkpoint_of(Gram(), shapes))
    finally:
        del samestep.registry["Gram"]


def test_bfloat16_and_parameters_without_state_are_carried():
    bits = numpy.arange(12, dtype=numpy.uint16).reshape(3, 4) + 16000
    made = checkpoint_of(samestep.AdamW(), {"a": (3, 4)}).parameters["a"]
    value = Tensor(bits, "bfloat16")
    own = dataclasses.replace(made, dtype="bfloat16", step=0, slots=None, value=value)
    new = Checkpoint({"a.weight": own}).mapped(TURN).parameters["a.kernel"]
    assert (new.shape, new.dtype, new.slots) == ((4, 3), "bfloat16", None)
    assert new.value.dtype == "bfloat16"
    assert numpy.array_equal(new.value.bits, bits.T) and new.value.bits.flags.c_contiguous


def test_a_slot_that_is_not_of_its_shape_is_refused_by_name():
    own = checkpoint_of(samestep.AdamW(), {"a": (3, 4)}).parameters["a"]
    slots = {**own.slots, "m": Tensor(numpy.zeros(5), "float64")}
    bad = Checkpoint({"a.weight": dataclasses.replace(own, slots=slots)})
    with pytest.raises(CheckpointError, match=r"'a.weight': slot m of AdamW: it has shape \(5,\)"):
        TURN.apply(bad)


def test_a_rule_that_does_everything_is_undone_step_by_step():
    rule = Map(
        {
            "merge": {"axis": 1, "from": ["{m}.a", "{m}.b"]},
            "ndim": 4,
            "transpose": [0, 2, 3, 1],
            "reshape": [6, -1],
            "was": [6, 2, 5, 4],
            "split": {"axis": 0, "into": ["{m}.c", "{m}.d"], "sizes": [1, 5]},
        }
    )
    shapes = dict.fromkeys(map(".".join, itertools.product("xy", "ab")), (6, 2, 2, 5))
    before = checkpoint_of(samestep.Adan(), shapes)
    after = before.mapped(rule)
    assert [*after.parameters] == ["x.c", "x.d", "y.c", "y.d"]
    one, other = (before.parameters[path].value.bits for path in ("x.a", "x.b"))
    by_hand = numpy.concatenate([one, other], 1).transpose(0, 2, 3, 1)
    assert numpy.array_equal(after.parameters["x.d"].value.bits, by_hand.reshape(6, 40)[1:])
    rule.check(before)
    rule.inverse().check(after)


def test_a_rule_that_changes_nothing_is_not_taken_for_a_frozen_parameter():
    rule = samestep.SGD(lr=0.0)
    before = checkpoint_of(rule, {"fc.weight": (5, 4)})
    frozen = {"frozen.weight": before.parameters["fc.weight"].value}
    after = dataclasses.replace(before, others=frozen).mapped(TURN)
    assert {*after.parameters} == {"fc.kernel"} and {*after.others} == {"frozen.kernel"}
    assert after.parameters["fc.kernel"].rule == before.parameters["fc.weight"].rule
    alone = dataclasses.replace(after, others={})
    _, state = samestep.restore(rule, alone, arrays({"fc.kernel": (4, 5)}))
    assert state.step == before.step == 5
