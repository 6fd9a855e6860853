"""Routes: the rule of each parameter in every framework, and the messages about it."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep import (
    SGD,
    AdamW,
    Average,
    ClipGlobalNorm,
    ClipNorm,
    Lion,
    Lookahead,
    Muon,
    Prodigy,
    SkipNonFinite,
    Where,
    route,
    tree,
)
from samestep.groups import Parameter
from samestep.parity.backend import NUMPY

SHAPES = {"embed": (6, 4), "block.w": (4, 5), "block.b": (4,), "head.w": (3, 4)}
MATRICES = Where(min_ndim=2) & ~(Where(path="embed*") | Where(path="head.*"))
ROUTED = route(
    (MATRICES, Muon(lr=0.02, weight_decay=0.1, layout="oi")),
    (Where(max_ndim=1), AdamW(lr=0.01, weight_decay=0.0)),
    AdamW(lr=0.01, weight_decay=0.1),
)
OWN = {
    "embed": AdamW(lr=0.01, weight_decay=0.1),
    "block.w": Muon(lr=0.02, weight_decay=0.1, layout="oi"),
    "block.b": AdamW(lr=0.01, weight_decay=0.0),
    "head.w": AdamW(lr=0.01, weight_decay=0.1),
}
STEPS = 12


def arrays(seed, dtype="float32"):
    random = numpy.random.default_rng(seed)
    sign = 1 if seed % 3 else -10
    return {n: (sign * random.standard_normal(s)).astype(dtype) for n, s in SHAPES.items()}


def nested(flat):
    """The same parameters in a tree whose paths are their names."""
    found = {}
    for name, array in flat.items():
        *outer, last = name.split(".")
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = array
    return found


def apart(rules=None):
    """Every parameter by itself, under its own rule."""
    found = {}
    for name, rule in (rules or OWN).items():
        param = arrays(0)[name]
        state = rule.init(param)
        for step in range(1, STEPS + 1):
            param, state = rule.update(arrays(step)[name], param, state)
        found[name] = param
    return found


def stepped(rule, backend=NUMPY):
    run = backend.start(rule, arrays(0), "float32")
    for step in range(1, STEPS + 1):
        run.step(arrays(step))
    return {name: backend.numpy(array) for name, array in run.params().items()}


in_every_framework = pytest.mark.only(
    where=lambda backend: backend.name in ("numpy", "torch (packed)", "jax.jit", "mx.compile")
)


def close(some, others):
    assert some.keys() == others.keys()
    for name, one in some.items():
        numpy.testing.assert_allclose(one, others[name], rtol=3e-5, atol=3e-6, err_msg=name)


@in_every_framework
def test_every_parameter_steps_as_under_its_own_rule(backend):
    close(stepped(ROUTED, backend), apart())


def test_a_tree_steps_like_its_parameters():
    params, state = nested(arrays(0)), ROUTED.init(nested(arrays(0)))
    for step in range(1, STEPS + 1):
        params, state = ROUTED.update(nested(arrays(step)), params, state)
    close({tree.dotted(path): array for path, array in tree.leaves(params)}, apart())


@in_every_framework
def test_a_wrapper_goes_around_a_route(backend):
    own = {name: Lookahead(rule, sync_period=5) for name, rule in OWN.items()}
    close(stepped(Lookahead(ROUTED, sync_period=5), backend), apart(own))


@in_every_framework
def test_a_rule_that_sums_does_so_over_its_own_parameters(backend):
    matrices, rest = ("embed", "block.w", "head.w"), ("block.b",)
    rule = route((Where(ndim=2), Prodigy(d0=1e-3)), Lion(lr=0.01))
    params = {name: arrays(0)[name] for name in matrices}
    alone = Prodigy(d0=1e-3)
    state = alone.init(params)
    for step in range(1, STEPS + 1):
        grads = {name: arrays(step)[name] for name in matrices}
        params, state = alone.update(grads, params, state)
    found = stepped(rule, backend)
    close({name: found[name] for name in matrices}, params)
    close({n: found[n] for n in rest}, apart({n: Lion(lr=0.01) for n in rest}))


@in_every_framework
@pytest.mark.parametrize("first", [True, False])
def test_a_wrapper_with_shared_state_goes_around_a_rule_that_has_some(backend, first):
    """Whichever of the routes it is; with no parameter of its own there is nothing to sum."""
    summing, other = Prodigy(d0=1e-3), Lion(lr=0.01)
    rules = (summing, other) if first else (other, summing)
    rule = route((Where(ndim=2), rules[0]), rules[1])
    close(stepped(SkipNonFinite(rule), backend), stepped(rule))


def test_the_first_route_that_holds_has_the_parameter():
    rule = route((Where(path="block.*"), Lion(lr=0.1)), (Where(ndim=1), Muon(lr=0.1)), AdamW())
    assert [type(rule.of(n, s)).__name__ for n, s in SHAPES.items()] == [
        "AdamW",
        "Lion",
        "Lion",
        "AdamW",
    ]


def test_groups_and_masks_of_a_routed_rule_see_the_same_paths():
    decayed = AdamW(
        lr=0.1,
        weight_decay=0.5,
        mask=Where(path="*.w"),
        groups=[(Where(path="head.*"), {"lr": 0.2})],
    )
    rule = route(decayed)
    found = {n: rule.of(n, s) for n, s in SHAPES.items()}
    assert {n: (r.lr, r.weight_decay) for n, r in found.items()} == {
        "embed": (0.1, 0.0),
        "block.w": (0.1, 0.5),
        "block.b": (0.1, 0.0),
        "head.w": (0.2, 0.5),
    }


def test_the_table_says_which_rule_why_and_how_much_state():
    table = ROUTED.table(nested(arrays(0)))
    rows = [line.split() for line in table.splitlines()]
    assert rows[0][:4] == ["parameter", "shape", "layout", "rule"]
    assert ["embed", "6", "x", "4", "AdamW", "the", "rest", "192"] in rows
    assert any(
        row[0] == "block.w" and row[4:6] == ["oi", "Muon"] and row[-1] == "80" for row in rows
    )
    assert any(row[0] == "block.b" and "1:" in row and row[-1] == "32" for row in rows)
    assert rows[-1] == ["total", str(192 + 80 + 32 + 96)]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_the_table_takes_named_parameters_and_narrow_ones():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(4, 3).bfloat16()
    table = route(AdamW()).table(layer.named_parameters())
    assert table.splitlines()[1].split()[-1] == str(2 * 2 * 12)
    wide = route(AdamW(state_dtype="float32")).table(layer.named_parameters())
    assert wide.splitlines()[1].split()[-1] == str(2 * 4 * 12)


def test_every_rule_has_a_table_and_a_wrapper_s_has_its_own_slots():
    inside = Muon(lr=0.02, layout="oi", groups=[(Where(path="head.*"), {"lr": 0.01})])
    rule = Average(route((Where(ndim=2), inside), AdamW()), mask=Where(ndim=2))
    rows = {line.split()[0]: line.split() for line in rule.table(nested(arrays(0))).splitlines()}
    assert rows["block.w"][4:] == ["oi", "Average(Muon)", "0:", "Where(ndim=2)", "160"]
    because = ["0:", "Where(ndim=2),", "group", "0"]
    assert rows["head.w"][4:] == ["oi", "Average(Muon)", *because, "96"]
    assert rows["block.b"][2:] == ["Average(AdamW)", "the", "rest,", "not", "in", "mask", "48"]
    rows = SGD(momentum=0.9).table(nested(arrays(0))).splitlines()
    assert rows[1].split() == ["embed", "6", "x", "4", "SGD", "every", "parameter", "96"]
    assert SGD().table(arrays(0)["embed"]).splitlines()[-1].split() == ["total", "0"]


def test_the_table_refuses_what_init_refuses():
    for rule, params in ((AdamW(), {"i": numpy.ones(3, int)}), (Muon(), {"b": numpy.ones(3)})):
        with pytest.raises((TypeError, ValueError)) as of_init:
            rule.init(params)
        with pytest.raises(of_init.type) as of_table:
            rule.table(params)
        assert str(of_table.value) == str(of_init.value)


@pytest.mark.parametrize("params", [5, {"w": "embed"}, [numpy.ones(3), object()]])
def test_the_table_of_what_is_no_tree_says_so(params):
    with pytest.raises(TypeError, match=r"AdamW\.table: .* give a tree .*named_parameters"):
        AdamW().table(params)


def test_the_table_of_a_module_says_what_to_give():
    torch = pytest.importorskip("torch")
    for module in (torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2))):
        with pytest.raises(TypeError, match=rf"params is {type(module).__name__}; give a tree"):
            route(AdamW()).table(module)
    assert route(AdamW()).table(list(module.parameters())).count("AdamW") == 2


@in_every_framework
def test_a_parameter_that_goes_nowhere_is_named(backend):
    rule = route((Where(ndim=2), AdamW()))
    with pytest.raises(ValueError, match=r"'block\.b' of shape \(4,\) goes nowhere.*Where\(ndim=2"):
        stepped(rule, backend)


@in_every_framework
def test_a_rule_refuses_what_it_cannot_take(backend):
    with pytest.raises(ValueError, match=r"Muon: parameter 'block\.b' has shape \(4,\)"):
        stepped(route(Muon(lr=0.1, layout="oi")), backend)


@pytest.mark.parametrize(
    ("routes", "error", "words"),
    [
        ((), TypeError, "give pairs of a predicate and a rule"),
        ((AdamW(), Lion()), TypeError, "stands without a predicate before others"),
        (((AdamW(), Where(ndim=1)),), TypeError, "route 0 is .* must be a pair of a predicate"),
        ((("*.w", AdamW()),), TypeError, "must be a pair of a predicate and a rule"),
        ((route(AdamW()),), TypeError, "leads to another"),
        (((Where(), ClipNorm(route(AdamW()))), Lion()), TypeError, "route 0 leads to another, Cli"),
        (((Where(ndim=1), Prodigy()), Prodigy()), ValueError, "each of these sums over all"),
    ],
)
def test_a_route_that_means_nothing_is_refused(routes, error, words):
    with pytest.raises(error, match=words):
        route(*routes)


def test_a_predicate_must_give_true_or_false():
    with pytest.raises(TypeError, match=r"route 0 gave 'yes' for parameter 'w'"):
        route((lambda parameter: "yes", AdamW())).of("w", (3,))


@pytest.mark.parametrize("around", [lambda rule: rule, ClipNorm, Lookahead])
def test_a_route_has_nothing_to_replace(around):
    with pytest.raises(TypeError, match=r"route: there is no lr to replace.*Muon, AdamW"):
        around(ROUTED).replace(lr=0.1)


def test_what_is_around_a_route_can_be_replaced():
    rule = Average(ClipGlobalNorm(ROUTED), average_decay=0.5)
    changed = rule.replace(max_norm=2.0, average_start=3)
    assert changed == Average(
        ClipGlobalNorm(ROUTED, max_norm=2.0), average_decay=0.5, average_start=3
    )
    assert rule.replace(like="torch").rule == ClipGlobalNorm(ROUTED, like="torch")
    with pytest.raises(
        ValueError, match=r"Average\(like='keras'\): .* Average has 'optax', 'torch'"
    ):
        rule.replace(like="keras")


def test_what_is_around_a_route_can_have_groups():
    rule = ClipNorm(ROUTED, clip_norm=3.0, groups=[(Where(ndim=1), {"clip_norm": 0.5})])
    assert rule.of("block.b", (4,)) == ClipNorm(OWN["block.b"], clip_norm=0.5)
    assert rule.of("block.w", (4, 5)) == ClipNorm(OWN["block.w"], clip_norm=3.0)


def test_what_is_around_a_route_can_be_set_in_mlx():
    optimizer = pytest.importorskip("samestep.mlx").bind(ClipNorm(ROUTED))
    optimizer.clip_norm = 2.0
    assert optimizer.rule == ClipNorm(ROUTED, clip_norm=2.0)


def test_a_wrapper_that_is_inside_as_well_is_refused_when_it_is_made():
    for inside in (ClipNorm(AdamW()), Lookahead(AdamW())):
        with pytest.raises(ValueError, match=rf"both have .*; {inside.name} cannot wrap route"):
            type(inside)(route((Where(ndim=2), inside), AdamW()))


def test_what_a_route_does_not_have_is_no_attribute():
    for rule in (ROUTED, ClipNorm(ROUTED), Lookahead(ClipNorm(ROUTED))):
        assert not any(hasattr(rule, n) for n in ("lr", "weight_decay", "decay", "maximize"))
        with pytest.raises(AttributeError, match=r"there is no weight_decay; .* Muon, AdamW"):
            _ = rule.weight_decay


def test_a_route_of_the_routes_of_another():
    assert route(*ROUTED.routes) == ROUTED
    with pytest.raises(TypeError, match=r"AdamW.* stands without a predicate before others"):
        route((None, AdamW()), Lion())


def test_a_step_checks_no_route_again(monkeypatch):
    made = route((Where(ndim=2), Prodigy()), AdamW(lr=lambda step: 0.1 * step))
    monkeypatch.setattr(type(made), "__init__", None)
    assert made.at(3).branches[1].lr == pytest.approx(0.3)
    assert made.map_numbers(lambda number: number).routes == made.routes
    assert made.bare.name == "route"


@pytest.mark.parametrize("framework", ["numpy", "jax"])
def test_a_state_of_another_route_is_refused(framework):
    """The other has more slots, none of which may be lost."""
    params = {"w": numpy.ones((2, 2), "float32"), "b": numpy.ones(2, "float32")}
    rule = route((Where(ndim=1), SGD()), AdamW())
    state = route(AdamW()).init(params)
    with pytest.raises(ValueError, match=r"SGD: the state of 'b' has slots m, v; SGD keeps"):
        if framework == "jax":
            pytest.importorskip("samestep.jax").bind(rule).update(params, state, params)
        rule.update(params, params, state)


def test_wrappers_are_shown_as_they_are_made():
    for rule in (
        Average(Lookahead(ClipNorm(SGD(), clip_norm=2.0)), average_decay=0.5),
        Lookahead(SGD(lr=0.5, groups=[(Where(), {"lr": 0.2})])),
        ClipNorm(ROUTED),
    ):
        names = {**vars(samestep), "Where": Where, "route": route}
        assert eval(repr(rule), names) == rule


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (Where(), True),
        (Where(path="a.*.w"), True),
        (Where(path="a.*"), True),
        (Where(path="*.b"), False),
        (Where(path="A.*"), False),
        (Where(ndim=2), True),
        (Where(ndim=1), False),
        (Where(min_ndim=2, max_ndim=2), True),
        (Where(min_ndim=3), False),
        (Where(max_ndim=1), False),
        (~Where(ndim=2), False),
        (Where(ndim=2) & Where(path="*.b"), False),
        (Where(ndim=2) | Where(path="*.b"), True),
        (Where(ndim=1) | (lambda parameter: parameter.shape == (3, 4)), True),
    ],
)
def test_where(where, holds):
    assert where(Parameter("a.0.w", (3, 4))) is holds


def test_predicates_are_asked_only_until_the_answer_is_known():
    wide = Where(min_ndim=2) & (lambda parameter: parameter.shape[1] > 3)
    other = (lambda parameter: parameter.ndim < 2) | ~Where(path="*") | Where(min_ndim=2)
    assert [wide(Parameter("w", shape)) for shape in [(3,), (2, 4), (2, 2)]] == [0, 1, 0]
    assert other(Parameter("w", (3,))) and other(Parameter("w", (3, 3)))
    narrow = Where(max_ndim=1) | (lambda parameter: parameter.shape[1] > 3)
    assert narrow(Parameter("w", (3,)))


@pytest.mark.parametrize("place", [Where().__and__, Where(ndim=9).__or__, Where().__rand__])
def test_predicates_that_are_combined_must_give_true_or_false(place):
    with pytest.raises(TypeError, match=r"gave 1 for parameter 'w'; it must give True or False"):
        place(lambda parameter: 1)(Parameter("w", (3,)))
    with pytest.raises(TypeError, match=r"gave None for parameter 'w'"):
        (~place(lambda parameter: None))(Parameter("w", (3,)))
    with pytest.raises(TypeError, match=r"Where\(.*\) [&|] 'embed': both must be predicates"):
        place("embed")


@pytest.mark.parametrize("asked", [{"min_ndim": "2"}, {"path": 3}, {"ndim": True}, {"ndim": 1.5}])
def test_where_asks_for_patterns_and_whole_numbers(asked):
    (name, value), *_ = asked.items()
    with pytest.raises(TypeError, match=rf"Where\({name}={value!r}\): {name} must be a "):
        Where(**asked)


def test_an_error_in_a_predicate_says_which_and_for_what_parameter():
    with pytest.raises(IndexError) as error:
        route((lambda parameter: parameter.shape[1] > 3, AdamW())).of("b", (3,))
    (note,) = error.value.__notes__
    assert note == "route: the predicate of route 0 was asked about parameter 'b' of shape (3,)"


def test_predicates_say_what_they_ask_for_and_are_values():
    where = Where(min_ndim=2) & ~Where(path="*.b")
    assert repr(where) == "(Where(min_ndim=2) & ~Where(path='*.b'))"
    assert where == Where(min_ndim=2) & ~Where(path="*.b") != Where(min_ndim=2)
    assert route((where, AdamW())) == route((Where(min_ndim=2) & ~Where(path="*.b"), AdamW()))
    assert hash(route((where, AdamW()))) == hash(route((where, AdamW())))
