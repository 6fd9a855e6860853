"""Quirks: what a library does otherwise, as a value of a rule; and what old states say instead."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy
import pytest

import samestep
from samestep.checkpoints.description import describe, differing_options, made
from samestep.conformance.harness.settings import typical
from samestep.parity import record
from samestep.parity.float64 import oracle
from samestep.quirks import Quirk, applied, calls, changed, updated, with_calls, with_coefficients
from samestep.rule import Rule, registry
from samestep.vocabulary import debias, ema, hyper, slot, weights

QUIRKS = [
    (rule, quirk.name) for rule in sorted(registry) for quirk in registry[rule].quirks_known()
]
LIKE = [(r, n) for r in sorted(registry) for n, d in registry[r].dialects.items() if d.quirks]
OPTAX = samestep.Adan(like="optax")
NAME = "difference by 1 - beta2"


def walked(rule: Rule) -> list[numpy.ndarray]:
    trajectory = record(steps=12)
    sized = {path for path, value in trajectory.params.items() if value.ndim >= rule.min_ndim}
    taken = oracle(rule, trajectory.taken(sized))[-1]
    return [value for (name, _), value in sorted(taken.items()) if name == "param"]


def same(a: Rule, b: Rule) -> bool:
    return all(map(numpy.array_equal, walked(a), walked(b)))


@pytest.mark.parametrize(("rule", "name"), QUIRKS)
def test_a_quirk_changes_what_a_rule_computes(rule: str, name: str) -> None:
    switched = {
        "SGD": {"momentum": 0.0},
        "Adafactor": {"decay": "decoupled"},
        "Muon": {"scale": "unit_rms"},
    }.get(rule, {})
    fields = registry[rule].fields()
    on = {"amsgrad": True} if name.startswith("maximum") and "amsgrad" in fields else switched
    plain = typical(registry[rule], **on)
    assert not same(plain, plain.replace(quirks=(name,)))
    assert plain.replace(quirks=(name,)).replace(quirks=()) == plain


@pytest.mark.parametrize(
    "turn",
    [
        *(copy.copy, copy.deepcopy, lambda rule: pickle.loads(pickle.dumps(rule))),
        lambda rule: rule.published()(quirks=rule.quirks[::-1]).replace(**rule.hypers),
        lambda rule: rule.published()().replace(like=rule.dialect),
    ],
)
def test_a_rule_with_quirks_is_a_value(turn: Any) -> None:
    for rule, name in LIKE:
        whole = registry[rule](like=name)
        again = turn(whole)
        assert type(again) is type(whole) and again.quirks == whole.quirks, (rule, name)
    again = turn(OPTAX)
    assert isinstance(OPTAX, samestep.Adan) and OPTAX.name == "Adan" and OPTAX.dialect == "optax"
    assert samestep.Adan(eps_root=1e-8, decay="in_update") != OPTAX
    assert eval(repr(OPTAX), {"Adan": samestep.Adan}) == OPTAX
    assert OPTAX.replace(lr=0.1) == samestep.Adan(lr=0.1, like="optax")
    assert OPTAX.replace(like="paper").quirks == ()
    assert samestep.Lookahead(samestep.Adan()).replace(like="optax").rule == OPTAX


def test_an_unknown_quirk_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"Adan\(quirks=\('x',\)\).* Adan has 'difference by 1"):
        samestep.Adan(quirks=("x",))
    with pytest.raises(ValueError, match=r"ClipNorm has none"):
        samestep.ClipNorm(samestep.SGD(), quirks=("x",))
    with pytest.raises(TypeError, match="there is no keep_previous"):
        samestep.Adan(keep_previous=False)


@pytest.mark.parametrize(("rule", "name"), QUIRKS)
def test_a_description_with_the_option_that_a_quirk_was_is_read(rule: str, name: str) -> None:
    cls = registry[rule]
    quirk = next(quirk for quirk in cls.quirks_known() if quirk.name == name)
    assert quirk.formerly is not None
    option, value, without = quirk.formerly
    plain, quirky = typical(cls), typical(cls, quirks=(name,))
    if option in cls.fields():
        plain, quirky = (r.replace(**{option: without}) for r in (plain, quirky))
    for ours, given in ((plain, without), (quirky, value)):
        old = describe(ours)
        old["values"] = {**old["values"], option: given}
        old["values"].pop("quirks", None)
        assert made(old) == ours
        assert differing_options(ours, old) == []
    assert updated(cls, {option: value})["quirks"] == (name,)
    old = describe(plain)
    assert any(name in text for text in differing_options(quirky, old))


def test_an_old_torch_state_dict_is_loaded_where_it_fits() -> None:
    torch = pytest.importorskip("torch")
    ours = pytest.importorskip("samestep.torch")

    def stepped(**like: Any) -> Any:
        param = torch.nn.Parameter(torch.ones(3))
        optimizer = ours.Adan([param], lr=0.1, **like)
        param.grad = torch.arange(3.0)
        optimizer.step()
        return optimizer

    published, forgetting = stepped(), stepped(quirks=("previous gradient not kept",))
    for optimizer, kept in ((published, True), (forgetting, False)):
        saved = optimizer.state_dict()
        for group in saved["param_groups"]:
            group.pop("quirks", None)
            group |= {"keep_previous": kept, "difference_weight": "beta2"}
        optimizer.load_state_dict(saved)
        assert "keep_previous" not in optimizer.param_groups[0]
        other = forgetting if optimizer is published else published
        with pytest.raises(ValueError, match="the quirks"):
            other.load_state_dict(saved)


class Averaging(Rule, register=False):
    """A user's rule."""

    lr = hyper(0.1, "step size", unit="parameter", ge=0)
    beta = hyper(0.9, "decay per step of m", unit="1/step", ge=0, lt=1)
    m = slot("mean of the gradient")

    def scalars(self, xp: Any, t: Any) -> dict[str, Any]:
        return {"pair": weights(self.beta)}

    def direction(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        m = ema(state.m, grad, s.pair)
        return m, {"m": m}


def test_a_quirk_works_on_a_rule_of_a_user_s() -> None:
    other = Quirk("sum", "", "", with_calls({ema: lambda now: lambda m, g, pair: pair[0] * m + g}))
    half = Quirk("half", "", "", with_coefficients(lambda rule, s: {**s, "rate": s["rate"] / 2}))

    def begun(cls: Any) -> dict[str, Any]:
        def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
            return cls.direction(self, xp, grad, param, changed(state, m=grad), s)

        return {"direction": direction}

    grad, param = numpy.asarray([1.0, 2.0]), numpy.zeros(2)

    def first(*quirks: Quirk) -> Any:
        rule = applied(Averaging, quirks)()
        return -rule.update(grad, param, rule.init(param))[0] / grad

    assert calls(Averaging, ema) and calls(Averaging, weights) is not False
    for quirks, expected in (
        ((), 0.01),
        ((other,), 0.1),
        ((half,), 0.005),
        ((other, half), 0.05),
        ((Quirk("begun", "", "", begun),), 0.1),
        ((Quirk("begun", "", "", begun), other), 0.19),
    ):
        assert numpy.allclose(first(*quirks), expected, rtol=1e-12), quirks


def test_a_pickle_of_an_option_that_is_no_more_is_translated_or_refused() -> None:
    for option, wrote in (("lag", None), ("flux", "samestep 0.1"), ("flux", None)):
        state = samestep.Rprop().__getstate__()
        state["_values"] = state["_values"] | {option: True}
        if wrote is None:
            del state["_written_by"]  # as before it was noted
        made = object.__new__(samestep.Rprop)
        if option == "lag":
            made.__setstate__(state)
            assert made == samestep.Rprop(quirks=made.quirks)
            assert made.quirks
        else:
            said = rf"Rprop: it was pickled by {wrote or 'another version'}.*, which had flux; make"
            with pytest.raises(TypeError, match=said):
                made.__setstate__(state)


def test_a_subclass_of_a_rule_with_quirks_is_a_rule_of_its_own() -> None:
    class Own(type(OPTAX), register=False):  # type: ignore[misc]
        pass

    assert Own.published() is Own
    assert Own(lr=0.5).quirks == (NAME,)


def test_a_decay_of_all_after_the_step_leaves_nothing() -> None:
    """As in pytorch_optimizer; 1 - lr * weight_decay, which is 0, divides nothing."""
    rule = samestep.LaProp(lr=0.5, weight_decay=2.0, like="pytorch_optimizer")
    param = numpy.asarray([1.0, -3.0])
    new, state = rule.update(numpy.ones(2), param, rule.init(param))
    assert (new == 0).all() and numpy.isfinite(state.slots["m"]).all()
    s = rule.coefficients(numpy, 1)
    assert s["lost"] == (1.0,) and s["shrink"] == (0.0,)


def test_a_quirk_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"there is no quirk 'nope'; Adan has 'difference by"):
        samestep.Adan(quirks=(NAME, "nope"))


def test_a_quirk_that_would_change_nothing_is_refused() -> None:
    idle = Quirk("idle", "a", "b", with_calls({debias: lambda now: now}))

    class Plain(samestep.Rule, register=False):
        lr = hyper(0.1, "step size", unit="parameter/gradient")
        dialects = {"idle": samestep.preset(quirks=(idle,))}  # noqa: RUF012

        def direction(self, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
            return grad, {}

    said = "Plain: the quirk 'idle' replaces debias, which is not called by name in"
    with pytest.raises(ValueError, match=said):
        Plain(like="idle")
