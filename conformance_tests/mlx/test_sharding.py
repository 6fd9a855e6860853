"""Parameters that are divided among two ranks of MLX's ring."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

import samestep
import samestep.mlx
from samestep import Where
from samestep.conformance.harness.ranks import started

sharded = pytest.mark.sharded
CUT = {"w": 0, "u": 1, "b": 0}
SHARDS = [(Where(path=name), axis) for name, axis in CUT.items()]
SHAPES = {"w": (7, 12), "u": (4, 9), "n": (4, 3), "b": (9,), "c": (3,)}
RELATIVE = {"float32": 1e-6, "float64": 1e-14}
ROUTE = samestep.route(
    (Where(min_ndim=2), samestep.Muon(lr=0.02, layout="oi")), samestep.AdamW(lr=0.01)
)
ranks = started("mlx", 2)


def arrays(seed, dtype, cut=False):
    """Arrays of either sign over four decades; with ``cut`` the pieces of this rank."""
    random, found, group = np.random.default_rng(seed), {}, mx.distributed.init()
    for name, shape in SHAPES.items():
        values = random.standard_normal(shape) * 10.0 ** random.integers(-3, 1, shape)
        if cut and name in CUT:
            values = np.array_split(values, group.size(), axis=CUT[name])[group.rank()]
        found[name] = mx.array(values, getattr(mx, dtype))
    return found


def trained(rank, rule, dtype, steps, execution, divided):
    """The parameters and shared state after some steps; with ``divided`` of the pieces."""
    mx.set_default_device(mx.cpu)
    group = {"group": mx.distributed.init(), "shards": SHARDS} if divided else {}
    optimizer = samestep.mlx.bind(rule, execution=execution, **group)
    params = arrays(0, dtype, divided)
    for t in range(steps):
        params = optimizer.apply_gradients(arrays(1 + t, dtype, divided), params)
        mx.eval(params, optimizer.state)
    shared = optimizer.state.get("shared_state", {})
    return [{name: np.array(x) for name, x in tree.items()} for tree in (params, shared)]


def each_need():
    """A rule of parameters that need everything that can be needed."""
    return samestep.ClipGlobalNorm(
        samestep.route(
            (Where(path="w"), samestep.Muon(lr=0.02, layout="oi", weight_decay=0.1)),
            (Where(path="u"), samestep.Adafactor(lr=0.01, momentum=0.9)),
            (Where(path="n"), samestep.SM3(lr=0.01)),
            (Where(path="b"), samestep.Cautious(samestep.LAMB(lr=0.01))),
            samestep.TAdam(lr=0.01),
        )
    )


@sharded
@pytest.mark.parametrize(
    "execution", ["reference", pytest.param("auto", marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize(
    "rule", [each_need(), ROUTE, samestep.Prodigy(), samestep.AdamW(lr=0.01, weight_decay=0.1)]
)
def test_pieces_take_the_steps_of_whole_parameters(rule, dtype, execution, ranks):
    whole, *_ = ranks.run(trained, rule, dtype, 20, execution, False)
    found = ranks.run(trained, rule, dtype, 20, execution, True)
    for name, expected in whole[0].items():
        pieces = [params[name] for params, _ in found]
        joined = np.concatenate(pieces, CUT[name]) if name in CUT else pieces[0]
        off = np.abs(joined - expected).max() / np.abs(expected).max()
        assert off <= (0 if rule.needs == "element" else RELATIVE[dtype]), (name, off)
        if name not in CUT:
            np.testing.assert_array_equal(*pieces)
    for name, expected in whole[1].items():
        one, other = (shared[name] for _, shared in found)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, expected, rtol=RELATIVE[dtype])


def mistaken(rank, name, at):
    """What each rank is told when the second does something else, in its first step or a later one.

    Then both step the same again.
    """
    optimizer = samestep.mlx.bind(
        getattr(samestep, name)(), group=mx.distributed.init(), shards=[(Where(path="w"), 0)]
    )
    words, params = [], {name: mx.ones((4, 4)) for name in ("w", "v", "u")}

    def steps(grads, **more):
        nonlocal params
        params = optimizer.apply_gradients(grads, {**params, **more})
        mx.eval(params, optimizer.state)

    def says(act, *given, **more):
        with pytest.raises((TypeError, ValueError)) as refusal:
            act(*given, **more)
        words.append(str(refusal.value))

    given = {**params}
    for _ in range(at):
        steps(given)
    turned = {name: given[name] for name in ("u", "v", "w")}
    little = {"w": given["w"]}
    for other in (turned, little, {**given, "x": mx.ones((4, 4))}, {**given, "v": 1.0}):
        before = {**params}
        says(steps, other if rank else given, **({"x": mx.ones((4, 4))} if "x" in other else {}))
        assert all(mx.array_equal(params[name], before[name]).item() for name in before)
    more = {"y": mx.ones((4, 3 + rank))}
    says(
        *((optimizer.init, given | more) if rank else (steps, given | more)),
        **({} if rank else more),
    )
    steps(given)
    return words, {name: np.array(value) for name, value in params.items()}


@sharded
@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("name", ["LAMB", "Prodigy"])
def test_ranks_with_other_parameters_or_gradients_are_refused_on_each(ranks, name, at):
    (first, params), (second, same) = ranks.run(mistaken, name, at, seconds=30)
    turned, little, more, failed, _ = first
    assert first[:3] == second[:3]
    assert "the same ones in another order" in turned
    assert "step different parameters: 'v' of shape (4, 4)" in little
    assert "'x' of shape (4, 4)" in more and "in 1 only" in more
    assert f"{name}: process 1 of 2 cannot take the step" in failed
    assert "its gradient" in second[3] or "the gradient of" in second[3]
    assert first[4] == second[4] and "'y' of shape (4, 4)" in first[4]
    np.testing.assert_array_equal(params["v"], same["v"])


def apart(rank, name):
    """A rank has another number, in its first step or a later one, or NaN in what all have."""
    rule = samestep.SkipNonFinite(samestep.ClipGlobalNorm(samestep.AdamW(lr=0.125)))
    optimizer = samestep.mlx.bind(rule, group=mx.distributed.init(), shards=[(Where(path="w"), 0)])
    params, words = {name: mx.ones((4, 4)) for name in ("w", "v")}, []
    for step in range(2):
        grads = {**params}
        if name == "NaN" and rank:
            grads["v"] = grads["v"] * mx.nan
        usual = optimizer.betas
        if rank and name != "NaN":
            setattr(optimizer, name, {"learning_rate": 0.25, "betas": (0.5, 0.99)}[name])
        if name == "NaN":
            found = optimizer.apply_gradients(grads, params)
            assert all(mx.array_equal(found[path], params[path]).item() for path in params)
            assert optimizer.state["shared_state"]["skipped"].item() == step + 1
            continue
        with pytest.raises(ValueError) as refusal:
            optimizer.apply_gradients(grads, params)
        words.append(str(refusal.value))
        optimizer.learning_rate, optimizer.betas = 0.125, usual
        params = optimizer.apply_gradients(grads, params)
    return words


@sharded
@pytest.mark.parametrize(
    ("name", "number"),
    [("learning_rate", "lr = 0.25"), ("betas", "betas = (0.5, 0.99)"), ("NaN", "")],
)
def test_numbers_and_copies_of_one_rank_are_told(ranks, name, number):
    first, second = ranks.run(apart, name, seconds=30)
    assert first == second and len(first) == (0 if name == "NaN" else 2)
    assert all(f"{number} in 1 only" in words for words in first), first


def added_later(rank):
    """A step of an element rule exchanges nothing, even of a parameter that one rank has alone."""
    optimizer = samestep.mlx.bind(samestep.AdamW(), group=mx.distributed.init(), shards=0)
    params = {"w": mx.ones((4, 3))}
    params = optimizer.apply_gradients(params, params)
    params |= {"v": mx.ones((4, 3))} if rank else {}
    params = optimizer.apply_gradients(params, params)
    mx.eval(params, optimizer.state)
    with pytest.raises(samestep.CheckpointError, match="process"):
        samestep.checkpoint(optimizer, params)
    typo = samestep.mlx.AdamW(group=mx.distributed.init(), shards=[(Where(path="x"), 0)])
    with pytest.warns(UserWarning, match="AdamW: shards= chooses none of the parameters w"):
        typo.init({"w": params["w"]})
    return np.array(params["w"])


@sharded
def test_an_element_rule_meets_once(ranks):
    np.testing.assert_array_equal(*ranks.run(added_later, seconds=30))


def saved(rank, rule, folder):
    """Steps of pieces and a file of them; then steps after a file of one rank, and its parameters.

    An element rule steps a parameter that comes later, of which it need not know the place.
    """
    group = {"group": mx.distributed.init(), "shards": SHARDS}
    first, other = (samestep.mlx.bind(rule, **group) for _ in range(2))
    params, late = arrays(0, "float32", True), rule.needs == "element"
    for t in range(3):
        own = {n: x for n, x in params.items() if not (late and n == "u" and t == 0)}
        grads = {n: x for n, x in arrays(1 + t, "float32", True).items() if n in own}
        params |= first.apply_gradients(grads, own)
    samestep.save(folder / "two", first, params)
    found = samestep.load(folder / "one", other, arrays(9, "float32", True))
    for t in range(3, 5):
        found = other.apply_gradients(arrays(1 + t, "float32", True), found)
    samestep.save(folder / "end", other, found)
    if rank:
        found["x"] = mx.ones((3,))
    with pytest.raises(samestep.CheckpointError) as refusal:
        samestep.save(folder / "other", other, found)
    return str(refusal.value)


@sharded
@pytest.mark.parametrize("rule", [each_need(), samestep.AdamW(lr=0.01, weight_decay=0.1)])
def test_a_file_of_pieces_is_that_of_one_rank(rule, ranks, tmp_path):
    """And the other way round."""
    mx.set_default_device(mx.cpu)
    optimizer, params = samestep.mlx.bind(rule), arrays(0, "float32")
    for t in range(5):
        late = rule.needs == "element" and t == 0
        grads = {n: x for n, x in arrays(1 + t, "float32").items() if not (late and n == "u")}
        params |= optimizer.apply_gradients(grads, params)
        if t == 2:
            samestep.save(tmp_path / "one", optimizer, params)
    samestep.save(tmp_path / "five", optimizer, params)
    first, second = ranks.run(saved, rule, tmp_path, seconds=60)
    assert "'x' of shape (3), " in first and first == second, first
    assert not (tmp_path / "other").exists()
    for file, wanted in (("two", "one"), ("end", "five")):
        one, other = (samestep.checkpoints.read(tmp_path / name) for name in (file, wanted))
        assert one.parameters.keys() == other.parameters.keys() and one.calls == other.calls
        for path, own in one.parameters.items():
            alike = other.parameters[path]
            assert own.step == alike.step and own.shape == alike.shape
            pairs = zip(own.tensors(), alike.tensors(), strict=True)
            for a, b in [(own.value, alike.value), *((a, b) for (_, a), (_, b) in pairs)]:
                a, b = a.values(), b.values()  # noqa: PLW2901
                off = np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)
                assert off <= (0 if rule.needs == "element" else 1e-6), (file, path)
    back = samestep.load(tmp_path / "end", optimizer, arrays(9, "float32"))
    assert all(back[name].shape == params[name].shape for name in params)


def test_one_rank_has_everything():
    """A group of one exchanges nothing."""
    group, params = mx.distributed.init(), {"w": mx.ones((4, 3)), "b": mx.ones((3,))}
    rule = samestep.LAMB(lr=0.1)
    ends = []
    for more in ({}, {"group": group, "shards": 0}):
        optimizer = samestep.mlx.bind(rule, **more)
        ends.append(optimizer.apply_gradients(params, params))
    for name in params:
        assert mx.array_equal(ends[0][name], ends[1][name]).item()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shards": 0}, r"LAMB\(shards=0\): give the group too"),
        ({"group": True}, r"LAMB\(group=...\).*needs 'tensor'.*shards=0.*average_gradients"),
        ({"group": True, "shards": [0]}, r"LAMB\(shards=\[0\]\): shards must be an axis, or pairs"),
    ],
)
def test_what_is_not_said_is_refused(given, words):
    more = {**given, "group": mx.distributed.init()} if "group" in given else given
    with pytest.raises((ValueError, TypeError), match=words):
        samestep.mlx.LAMB(lr=0.1, **more)
