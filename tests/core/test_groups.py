"""Masks and groups: the same parameters out of every framework.

The expected value of each parameter comes from a rule of its own, with its numbers and no groups.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

import samestep
from samestep import AdamW, AdEMAMix, Lion, Lookahead, schedules
from samestep.conformance.harness.refusals import refusals
from samestep.conformance.rules.test_groups import (
    SHAPES,
    TRAJECTORY,
    WITHIN,
    alone,
    assert_as_alone,
    grouped,
    in_encoder,
    is_small,
    is_weight,
    run,
)
from samestep.groups import refuse_apart
from samestep.parity import compare, record
from samestep.parity.backend import NumPy
from samestep.weight_decay import FAMILIES


class Pair(NamedTuple):
    """A node of a tree whose children have names."""

    left: object
    right: object


STRICT = "array-api-strict"
interpreted = pytest.mark.only(where=lambda backend: not backend.slow)
"""It says nothing about kernels."""

NAMES = {**globals(), **vars(samestep)}
"""What the tables of refusals name."""


@interpreted
@pytest.mark.parametrize(
    "mask", [is_weight, is_small, lambda p: "1" in p.path, lambda p: p.shape[0] == 4]
)
def test_predicates_of_shape_and_ndim_choose_the_same_everywhere(backend, mask):
    chooses_the_same(backend, mask)


def test_predicates_of_the_path_choose_the_same_everywhere(backend):
    chooses_the_same(backend, in_encoder)


def chooses_the_same(backend, mask):
    rule, half = AdamW(lr=0.1, weight_decay=0.5), [(mask, {"lr": 0.05})]
    assert_as_alone(grouped(rule, mask), backend, rule, mask)
    assert_as_alone(grouped(rule, None, half), backend, rule, None, half)


@pytest.mark.only(where=lambda backend: backend.name in ("torch", "optax", "mlx", STRICT))
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_means_the_same_for_every_family_in_every_framework(backend, family):
    rule = samestep.LAMB(lr=0.1, weight_decay=0.5, peak_lr=0.1, decay=family)
    assert_as_alone(grouped(rule, is_weight), backend, rule, is_weight)


@interpreted
@pytest.mark.filterwarnings("ignore:SGD. the predicate of group .*takes none of")
def test_a_parameter_of_several_groups_takes_the_first(backend):
    rule = samestep.SGD(lr=1.0, momentum=0.5)
    groups = [
        (in_encoder, {"lr": 0.5}),
        (is_weight, {"lr": 0.25, "momentum": 0.25}),
        (lambda p: True, {"lr": 0.125}),
        (in_encoder, {"lr": 99.0}),
    ]
    assert_as_alone(grouped(rule, None, groups), backend, rule, None, groups)


@pytest.mark.only(where=lambda backend: backend.name != "torch.compile")
def test_schedules_inside_groups_count_like_any_other(backend):
    """But in torch.compile, which takes its scalars from where torch does."""
    rule = AdamW(lr=0.1, weight_decay=0.1)
    ramp, fall = schedules.Linear(0.1, 0.9, 3), schedules.ExponentialDecay(0.1, 2, 0.5)
    groups = [(is_weight, {"lr": fall}), (in_encoder, {"betas": (ramp, 0.99)})]
    assert_as_alone(grouped(rule, None, groups), backend, rule, None, groups)


@pytest.mark.parametrize("order", [1, -1])
def test_sums_over_all_parameters_do_not_depend_on_their_order(order):
    """Two terms commute, so it would be the first parameter's numbers that decided."""
    plain = samestep.Prodigy(d0=1e-3, weight_decay=0.1)
    rule = plain.replace(groups=[(is_weight, {"lr": 0.5, "eps": 1e-3})])
    two = TRAJECTORY.taken({"encoder.0.weight", "encoder.0.bias"}).rounded("float32")
    turned = type(two)(
        dict(list(two.params.items())[::order]),
        [dict(list(step.items())[::order]) for step in two.grads],
    )
    found, expected = run(rule, NumPy(), turned), run(rule, NumPy(), two)
    for ours, theirs in zip(found, expected, strict=True):
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value, err_msg=str(key))


# Wrappers.


@interpreted
def test_groups_of_a_wrapper_and_of_the_rule_inside_come_together(backend):
    plain = Lookahead(AdamW(lr=0.1, weight_decay=0.1), 2)
    outer, inner = [(in_encoder, {"sync_rate": 0.25})], [(is_weight, {"lr": 0.05})]
    rule = Lookahead(plain.rule.replace(groups=inner), 2, groups=outer)
    found = run(rule, backend, TRAJECTORY)
    for path, shape in SHAPES.items():
        seen = samestep.groups.Parameter(path, shape)
        own = plain.replace(
            **({"sync_rate": 0.25} if in_encoder(seen) else {}),
            **({"lr": 0.05} if is_weight(seen) else {}),
        )
        expected = run(own, backend, TRAJECTORY.taken({path}))[-1]
        for key, value in expected.items():
            np.testing.assert_allclose(found[-1][key], value, 0, WITHIN * np.abs(value).max())


@pytest.mark.parametrize("where", ["wrapper", "rule", "both", "group of the wrapper"])
def test_a_mask_means_the_same_on_a_wrapper_and_on_the_rule_inside(where):
    plain = AdamW(lr=0.1, weight_decay=0.5)
    rule = {
        "wrapper": Lookahead(plain, 2, mask=is_weight),
        "rule": Lookahead(plain.replace(mask=is_weight), 2),
        "both": Lookahead(plain.replace(mask=is_weight), 2, mask=is_weight),
        "group of the wrapper": Lookahead(
            plain, 2, groups=[(lambda p: not is_weight(p), {"weight_decay": 0.0})]
        ),
    }[where]
    assert_as_alone(rule, NumPy(), Lookahead(plain, 2), is_weight)


def test_a_wrapper_s_mask_holds_whatever_the_groups_inside_say():
    """As a rule's own mask does over its own groups."""
    groups = [(lambda p: True, {"weight_decay": 0.5})]
    plain = AdamW(lr=0.1, weight_decay=0.1)
    rule = Lookahead(plain.replace(groups=groups), 2, mask=is_weight)
    same = Lookahead(plain.replace(groups=groups, mask=is_weight), 2)
    assert (
        compare(run(rule, NumPy(), TRAJECTORY), run(same, NumPy(), TRAJECTORY), "float32").first
        is None
    )


# The rule that carries them.


def test_replace_keeps_mask_and_groups():
    groups = [(in_encoder, {"lr": 0.5})]
    rule = AdamW(mask=is_weight, groups=groups)
    other = rule.replace(lr=0.125)
    assert other.groups == rule.groups and other.hypers["lr"] == 0.125
    assert other.of("encoder.0.bias", (4,)) == AdamW(lr=0.5, weight_decay=0.0)
    assert other.of("head.weight", (3, 5)).hypers == AdamW(lr=0.125).hypers
    assert rule.replace(mask=None).of("head.bias", (4,)).hypers == AdamW().hypers
    assert rule.replace(groups=()).of("encoder.0.weight", (4, 3)).hypers == AdamW().hypers
    wrapped = Lookahead(rule, mask=in_encoder, groups=[(is_small, {"sync_rate": 0.1})])
    other = wrapped.replace(lr=0.125, sync_rate=0.25)
    assert other.groups == wrapped.groups and other.rule.groups == rule.groups
    assert other.of("scale", (1, 1)) == Lookahead(
        AdamW(lr=0.125, weight_decay=0.0, mask=is_weight, groups=groups), sync_rate=0.1
    )


def test_equality_and_repr_take_groups_into_account():
    groups = [(in_encoder, {"lr": 0.5})]
    assert AdamW(groups=groups) == AdamW(groups=groups) != AdamW()
    assert AdamW(mask=is_weight) != AdamW(mask=in_encoder)
    assert "is_weight" in repr(AdamW(mask=is_weight)) and "'lr': 0.5" in repr(AdamW(groups=groups))
    assert "groups" not in repr(AdamW()) and hash(AdamW(groups=groups)) == hash(AdamW())


@refusals(
    """
    >>> AdamW(mask={'bias': False})
    TypeError: AdamW(mask={'bias': False}): mask must be a predicate of a parameter's path, shape
    and ndim, not a tree. A predicate is given one parameter, with path, shape and ndim, such as
    lambda p: p.ndim > 1
    >>> Lookahead(AdamW(), mask=1)
    TypeError: Lookahead(mask=1): mask must be
    >>> AdamW(groups=[{'lr': 1.0}])
    TypeError: AdamW(groups=...): {'lr': 1.0} must be a pair of a predicate and a dict of
    >>> AdamW(groups=[(is_weight,)])
    TypeError: must be a pair of a predicate
    >>> AdamW(groups=[('bias', {'lr': 1.0})])
    TypeError: ('bias', {'lr': 1.0}) must be
    >>> AdamW(groups=[(is_weight, 0.1)])
    TypeError: must be a pair of a predicate
    >>> AdamW(groups=(is_weight, {'lr': 1.0}))
    TypeError: must be a pair of a predic
    >>> AdamW(groups=5)
    TypeError: AdamW(groups=
    >>> AdamW(groups=[(is_small, {}), (is_weight, {'amsgrad': True})])
    ValueError: AdamW: group 1 changes amsgrad; a group may change lr, betas, eps, eps_root,
    weight_decay
    >>> AdamW(groups=[(is_weight, {'rate': 0.1})])
    ValueError: AdamW: group 0 changes rate; a group may change lr,
    >>> AdamW(groups=[(is_weight, {'like': 'mlx'})])
    ValueError: group 0 changes like
    >>> AdamW(groups=[(is_weight, {'lr': -1.0})])
    ValueError: AdamW(lr=-1.0): lr must
    >>> samestep.SGD(momentum=0.9, groups=[(is_weight, {'momentum': 0.0})])
    ValueError: SGD: group 0 changes momentum so that other slots are needed; all parameters of a
    rule have the same
    >>> samestep.SGD(groups=[(is_weight, {'momentum': 0.9})])
    ValueError: SGD: group 0 changes momentum so that other slots are needed
    >>> Lookahead(samestep.SGD(), groups=[(is_weight, {'momentum': 0.9})])
    ValueError: Lookahead: group 0 changes momentum so that other slots
    >>> Lookahead(AdamW(), groups=[(is_weight, {'decay': 'l2'})])
    ValueError: Lookahead: group 0 changes decay; a group may change
    >>> AdamW(groups=[(is_small, {'lr': 1.0}), (is_weight, {'lr': -1})])
    ValueError: AdamW: group 1: AdamW(lr=-1): lr must be >= 0 (step size)
    >>> AdamW(groups=[(is_small, {'betas': (0.9, 2.0)})])
    ValueError: AdamW: group 0: AdamW(betas=(0.9, 2.0)): betas must be in [0, 1)
    >>> Lookahead(AdamW(), groups=[(is_small, {'sync_rate': 2.0})])
    ValueError: Lookahead: group 0: Lookahead(sync_rate=2.0): sync_rate must be in [0, 1]
    """
)
def test_what_cannot_be_a_group_is_refused_by_name_and_place(refusal):
    assert refusal.message in refusal.said(NAMES)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(samestep.ClipGlobalNorm, AdamW()), "max_norm"),
        (partial(samestep.ClipGlobalNorm, AdamW()), "norm_eps"),
        (partial(samestep.Average, samestep.ClipGlobalNorm(AdamW())), "max_norm"),
        (partial(samestep.ClipGlobalNorm, samestep.route(AdamW())), "max_norm"),
        (samestep.Prodigy, "d0"),
        (samestep.Prodigy, "d_coef"),
        (samestep.Prodigy, "growth_rate"),
        (samestep.Prodigy, "beta3"),
        (partial(Lookahead, samestep.Prodigy()), "d0"),
        (partial(samestep.Scout, AdamW()), "sync_rate"),
    ],
)
def test_a_number_that_is_one_for_all_parameters_is_the_same_in_every_group(make, name):
    """It would be read from one of them, and the group's ignored."""
    value, other = make().hypers[name], 0.75 if name != "growth_rate" else 2.0
    with pytest.raises(ValueError, match=rf"group 1 has {name}={other}, the rule .* same for all"):
        make(groups=[(is_small, {}), (is_weight, {name: other})])
    with pytest.raises(ValueError, match=f"group 0 has {name}=.* same for all groups"):
        make(groups=[(is_weight, {name: lambda step: other})])
    same = make(groups=[(is_weight, {name: value})])
    assert same.of("w", (2, 2)).hypers == make().of("w", (2, 2)).hypers


def test_groups_made_apart_are_compared_as_well():
    """torch's parameter groups are rules of their own."""
    one, other = (samestep.ClipGlobalNorm(AdamW(), max_norm=norm) for norm in (1.0, 2.0))
    refuse_apart([one, samestep.ClipGlobalNorm(Lion(), norm_eps=0.0)])
    refuse_apart([AdamW(lr=0.1), samestep.Prodigy(d0=0.1), AdamW(lr=0.2)])
    with pytest.raises(ValueError, match=r"group 2 has max_norm=2\.0, group 0 1\.0; it must be"):
        refuse_apart([one, one, other])


@pytest.mark.parametrize("answer", [None, 1, "yes", np.asarray([True]), np.asarray(True)])
def test_a_predicate_answers_true_or_false(answer):
    params = {"w": np.ones((2, 2))}
    with pytest.raises(
        TypeError, match=r"AdamW: mask gave .* for parameter 'w'; it must give True"
    ):
        AdamW(mask=lambda p: answer).init(params)
    with pytest.raises(
        TypeError, match=r"AdamW: the predicate of group 0 gave .*; it must give True"
    ):
        AdamW(groups=[(lambda p: answer, {"lr": 1.0})]).init(params)
    AdamW(mask=lambda p: np.bool_(True)).init(params)


# Paths.


def tree(kind=np.asarray):
    """A tree with dicts and lists; every leaf as ``kind`` makes it."""
    leaves = {path: kind(array.astype(np.float32)) for path, array in TRAJECTORY.params.items()}
    return {
        "encoder": [
            {"weight": leaves["encoder.0.weight"], "bias": leaves["encoder.0.bias"]},
            {"weight": leaves["encoder.1.weight"]},
        ],
        "head": {"weight": leaves["head.weight"]},
        "scale": leaves["scale"],
    }


def seeing(seen):
    def mask(parameter):
        seen.add((parameter.path, parameter.shape, parameter.ndim))
        return parameter.path not in ("scale", "pair.left")

    return AdamW(mask=mask)


EXPECTED = {(path, shape, len(shape)) for path, shape in SHAPES.items()}


def test_numpy_paths():
    seen = set()
    rule, params = seeing(seen), tree()
    rule.update(params, params, rule.init(params))
    assert seen == EXPECTED


@pytest.mark.parametrize("compiled", [False, True])
def test_jax_paths(compiled):
    jax = pytest.importorskip("jax")
    seen = set()
    optimizer, params = samestep.jax.bind(seeing(seen)), tree(jax.numpy.asarray)
    step = jax.jit(optimizer.update) if compiled else optimizer.update
    step(params, optimizer.init(params), params)
    assert seen == EXPECTED
    assert all(type(size) is int for _, shape, _ in seen for size in shape)


def test_mlx_paths():
    mx, nn = pytest.importorskip("mlx.core"), pytest.importorskip("mlx.nn")
    seen = set()
    model = nn.Module()
    for name, value in tree(mx.array).items():
        setattr(model, name, value)
    samestep.mlx.bind(seeing(seen)).update(model, model.trainable_parameters())
    assert seen == EXPECTED


def test_torch_paths():
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):
        def __init__(self, arrays):
            super().__init__()
            for name, value in arrays.items():
                setattr(self, name, torch.nn.Parameter(value))

    seen = set()
    arrays = tree(torch.tensor)
    model = Layer({"scale": arrays["scale"]})
    model.encoder = torch.nn.ModuleList(map(Layer, arrays["encoder"]))
    model.head = Layer(arrays["head"])
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    samestep.torch.bind(seeing(seen), model.named_parameters()).step()
    assert seen == EXPECTED
    with pytest.raises(ValueError, match=r"mask: parameter 0 has no name, .*named_parameters"):
        samestep.torch.bind(seeing(seen), model.parameters())


def test_a_named_tuple_s_fields_are_called_alike_in_numpy_and_jax():
    jax = pytest.importorskip("jax")
    here, there = set(), set()
    params = {"pair": Pair(np.ones(2, np.float32), np.ones(3, np.float32))}
    rule = seeing(here)
    rule.update(params, params, rule.init(params))
    native = jax.tree.map(jax.numpy.asarray, params)
    optimizer = samestep.jax.bind(seeing(there))
    optimizer.update(native, optimizer.init(native), native)
    assert here == there == {("pair.left", (2,), 1), ("pair.right", (3,), 1)}


# torch's own groups.


def torch_params(torch, paths):
    return [(p, torch.nn.Parameter(torch.tensor(TRAJECTORY.params[p]).float())) for p in paths]


def torch_train(torch, optimizer, named):
    for grads in TRAJECTORY.grads:
        for path, param in named:
            param.grad = torch.tensor(grads[path]).float()
        optimizer.step()


def test_torch_s_own_groups_combine_with_the_rule_s():
    torch = pytest.importorskip("torch")
    first, second = torch_params(torch, list(SHAPES)[:3]), torch_params(torch, list(SHAPES)[3:])
    groups = [(in_encoder, {"betas": (0.5, 0.5)}), (is_small, {"lr": 0.5})]
    optimizer = samestep.torch.AdamW(
        [{"params": first, "lr": 0.25, "eps": 1e-3}, {"params": second, "weight_decay": 0.3}],
        lr=0.125,
        weight_decay=0.1,
        mask=is_weight,
        groups=groups,
    )
    torch_train(torch, optimizer, [*first, *second])
    for members, values in ((first, {"lr": 0.25, "eps": 1e-3}), (second, {"weight_decay": 0.3})):
        plain = AdamW(**{"lr": 0.125, "weight_decay": 0.1, **values})
        rules = alone(plain, is_weight, groups)
        for path, param in members:
            named = torch_params(torch, [path])
            torch_train(torch, samestep.torch.bind(rules[path], named), named)
            assert torch.equal(param, named[0][1]), path


@pytest.mark.parametrize(
    "name, value", [("like", "torch"), ("mask", is_weight), ("groups", [(is_weight, {"lr": 1.0})])]
)
def test_a_torch_group_takes_nothing_that_is_for_the_whole_optimizer(name, value):
    torch = pytest.importorskip("torch")
    words = f"AdamW: a parameter group has '{name}'; it is for the whole optimizer"
    with pytest.raises(TypeError, match=words):
        samestep.torch.AdamW([{"params": [torch.nn.Parameter(torch.ones(2))], name: value}])
    optimizer = samestep.torch.AdamW([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(TypeError, match=words):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], name: value})
    assert len(optimizer.param_groups) == 1


@pytest.mark.only(where=lambda backend: backend.name in ("torch", "optax", "mlx"))
def test_native_classes_take_mask_and_groups(backend):
    adapter = pytest.importorskip(f"samestep.{'jax' if backend.name == 'optax' else backend.name}")
    groups = [(in_encoder, {"lr": 0.5})]
    params = torch_params(pytest.importorskip("torch"), SHAPES) if backend.name == "torch" else None
    optimizer = adapter.AdamW(*filter(None, [params]), mask=is_weight, groups=groups)
    assert optimizer.rule == AdamW(mask=is_weight, groups=groups)


# AdEMAMix's slow start.


@interpreted
@pytest.mark.parametrize("begin", [0, 3])
def test_slow_start_is_where_alpha_s_and_beta3_s_schedules_begin_and_no_other(backend, begin):
    """By hand: the paper's Algorithm 1, with both schedules begun late and lr's from step 0."""
    seen = {"alpha": [], "beta3": [], "lr": [], "beta1": []}

    def noted(name, schedule):
        def value(step):
            seen[name].append(step)
            return schedule(step)

        return value

    lr = schedules.Linear(0.1, 0.02, 8)
    alpha, beta3 = schedules.Linear(0.0, 5.0, 4), schedules.HalfLife(0.9, 0.9999, 4)
    beta1 = schedules.Linear(0.5, 0.9, 8)
    rule = AdEMAMix(
        lr=noted("lr", lr),
        betas=(noted("beta1", beta1), 0.999, noted("beta3", beta3)),
        alpha=noted("alpha", alpha),
        slow_start=begin,
        weight_decay=0.1,
    )
    trajectory = record(seed=2, steps=8, shapes={"a": (3, 2)}, decades=(-1, 1)).rounded("float32")
    found = run(rule, backend, trajectory)
    param = trajectory.params["a"]
    m1, m2, v = (np.zeros_like(param) for _ in range(3))
    for t, grads in enumerate(trajectory.grads):
        grad, late = grads["a"], max(t - begin, 0)
        b1, b3 = 0.5 + 0.4 * t / 8, beta3(late)
        m1, v = b1 * m1 + (1 - b1) * grad, 0.999 * v + 0.001 * grad**2
        m2 = b3 * m2 + (1 - b3) * grad
        rate = 0.1 - 0.08 * t / 8
        mixed = m1 / (1 - b1 ** (t + 1)) + 5 * min(late / 4, 1) * m2
        with np.errstate(invalid="ignore"):
            step = mixed / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
        param = param - rate * 0.1 * param - rate * step
        np.testing.assert_allclose(found[t + 1]["param", "a"], param, rtol=0, atol=3e-5)
        np.testing.assert_allclose(found[t + 1]["m2", "a"], m2, rtol=1e-4, atol=1e-6)
    if backend.exact != "bound":
        steps = set(range(8))
        assert set(seen["lr"]) >= steps and set(seen["beta1"]) >= steps
        assert set(seen["alpha"]) | set(seen["beta3"]) <= {t - begin for t in steps if t >= begin}
