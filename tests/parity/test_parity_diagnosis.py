"""The diagnosis: what differs between two optimizers is found, named, and never guessed."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import samestep
from samestep.conformance.faults.planted import faulty
from samestep.parity import record
from samestep.parity.comparison import Comparison, compared
from samestep.parity.subjects.subject import Subject, subject
from samestep.parity.variants.variant import Variant, changes
from samestep.rule import registry
from samestep.wrapper import Wrapper
from tests.parity.packages import marked, needed, options


def named(description: str) -> Subject:
    """``name, argument=value, ...`` as a subject."""
    name, *given = description.split(", ")
    pairs = (item.split("=") for item in given)
    return subject(name, **{argument: {"True": True}.get(v, v) for argument, v in pairs})


# Real packages.

DIFFER = """
optax.adan | samestep:Adan
    {"difference by 1 - beta2": (True, False), "decay": ('in_update', 'proximal')}
    optax.adan weights the gradient difference by 1 - b2 = 0.08; samestep:Adan weights the
    gradient difference by b2 = 0.92
optax.rprop | torch.optim.Rprop
    {"one step late": (True, False)}
    optax.rprop applies the update of the step before; torch.optim.Rprop applies each update at
    once
mlx.optimizers.Adam | torch.optim.Adam
    {"bias_correction": (False, True)}
    mlx.optimizers.Adam does not correct its averages for their start at zero; torch.optim.Adam
    corrects its averages for their start at zero
mlx.optimizers.Adamax | torch.optim.Adamax
    {"bias_correction": (False, True), "eps_at": ('outside', 'inside')}
    mlx.optimizers.Adamax adds eps = 1e-08 to the divisor, after the maximum
optax.amsgrad | torch.optim.Adam, amsgrad=True
    {"maximum of the corrected v": (True, False)}
    optax.amsgrad divides by the largest v so far, taken after its correction; torch.optim.Adam
    divides by the largest v so far, taken before its correction
optax.rmsprop | torch.optim.RMSprop
    {"eps_at": ('inside', 'outside')}
    optax.rmsprop adds eps = 1e-08 under the root; torch.optim.RMSprop adds eps = 1e-08 to the
    root
optax.adagrad | torch.optim.Adagrad
    {"eps_at": ('inside', 'outside')}
    optax.adagrad adds eps = 1e-10 under the root
keras.optimizers.Adagrad | mlx.optimizers.Adagrad
    {"eps_at": ('inside', 'outside'), "initial_v": (0.1, 0.0)}
    keras.optimizers.Adagrad has initial_v = 0.1 (v before the first step)
optax.nadam | torch.optim.NAdam
    {"momentum_schedule": (False, True)}
    optax.nadam keeps the momentum at beta1 = 0.9
keras.optimizers.Nadam | torch.optim.NAdam
    {"momentum_decay": (1.0, 0.004), "decay": ('decoupled', 'l2')}
    keras.optimizers.Nadam has momentum_decay = 1 (pace of the momentum's schedule)
keras.optimizers.Nadam | optax.nadam
    {"momentum_schedule": (True, False)}
    keras.optimizers.Nadam lets the momentum grow as beta1 (1 - 0.96^(t 1) / 2)
keras.optimizers.Adam | torch.optim.Adam
    {"eps_at": ('uncorrected', 'outside'), "decay": ('decoupled', 'l2')}
    keras.optimizers.Adam adds eps = 1e-08 to the root before its correction
torch.optim.Adam | torch.optim.AdamW
    {"decay": ('l2', 'decoupled')}
    torch.optim.Adam adds weight_decay times the parameter to the gradient
mlx.optimizers.Adam, bias_correction=True | torch.optim.Adam
    {"correction in float32": (True, False)}
    mlx.optimizers.Adam computes 1 - beta^t in float32
optax.radam | torch.optim.RAdam
    {"eps_at": ('outside', 'uncorrected')}
    torch.optim.RAdam adds eps = 1e-08 to the root before its correction
keras.optimizers.Lamb | optax.lamb
    {"decay": ('decoupled', 'in_update')}
    optax.lamb adds weight_decay times the parameter to the update
optax.contrib.prodigy | samestep:Prodigy
    {"bias_correction": (True, False)}
    optax.contrib.prodigy corrects its averages for their start at zero
torch.optim.Muon | samestep:Muon
    {"iterates in bfloat16": (True, False)}
    torch.optim.Muon orthogonalises in bfloat16; samestep:Muon does not
optax.contrib.muon | samestep:Muon
    {"layout": ('io', 'oi'), "look ahead, both corrected": (True, False),\
 "ns_guard": (('sum', 1e-08), ('sum', 1e-07))}
    this does not explain kernel, to which they may apply another rule
mlx.optimizers.Muon | samestep:Muon
    {"decay": ('l2', 'decoupled')}
    mlx.optimizers.Muon adds weight_decay times the parameter to the gradient
keras.optimizers.Muon | samestep:Muon
    {"scale": ('match_rms', 'shape'), "momentum_form": ('sum', 'mean')}
    keras.optimizers.Muon multiplies the step by 0.2 sqrt(max(outputs, inputs))
optax.adafactor | torch.optim.Adafactor
    {"min_dim": (128, 1), "decay": ('absolute', 'decoupled')}
    optax.adafactor is reproduced up to
holocron.optim.Adan | samestep:Adan
    {"previous gradient not kept": (True, False), "decays twice": (True, False)}
    holocron.optim.Adan never stores the gradient of the step before
holocron.optim.LAMB | samestep:LAMB
    {"bias_correction": (False, True)}
    holocron.optim.LAMB does not correct its averages for their start at zero
jax.example_libraries.optimizers.adagrad | samestep:Adagrad
    {"eps": (0.0, 1e-10)}
    jax.example_libraries.optimizers.adagrad has eps = 0
jax.example_libraries.optimizers.rmsprop_momentum | samestep:RMSprop
    {"eps_at": ('inside', 'outside')}
    jax.example_libraries.optimizers.rmsprop_momentum adds eps = 1e-08 under the root
"""
"""Two optimizers, the options in which they differ, and a part of what is said of them."""


def cases(table: str) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """The cases of ``DIFFER``."""
    for case in re.split(r"\n(?=\S)", table.strip()):
        sides, expected, *words = case.splitlines()
        a, b = sides.split(" | ")
        yield a, b, ast.literal_eval(expected.strip()), " ".join(map(str.strip, words))


@pytest.mark.parametrize(
    ("a", "b", "expected", "words"), [*cases(DIFFER)], ids=lambda v: str(v)[:40]
)
def test_what_differs_between_libraries_is_found(
    a: str, b: str, expected: dict[str, Any], words: str
) -> None:
    needed(a, b)
    one, other = named(a), named(b)
    before = time.process_time()
    found = compared(one, other)
    assert found.verdict == "differ"
    assert options(found) == expected
    assert any(sentence.startswith(words) or words in sentence for sentence in found.sentences)
    assert time.process_time() - before < 10  # 5 where no other worker shares the core


AGREE = [
    ("torch.optim.AdamW", "samestep:AdamW"),
    ("torch.optim.Adafactor", "samestep:Adafactor"),
    ("optax.lion", "mlx.optimizers.Lion"),
    ("optax.sgd", "torch.optim.SGD"),
    ("optax.adadelta", "mlx.optimizers.AdaDelta"),
    ("samestep.torch:Adan", "samestep:Adan"),
    ("samestep.jax:AdamW", "torch.optim.AdamW"),
    ("timm.optim.Adan", "samestep:Adan"),
    ("pytorch_optimizer.Adan", "samestep:Adan"),
    ("jax.example_libraries.optimizers.momentum", "samestep:SGD"),
]


@pytest.mark.parametrize(("a", "b"), AGREE)
def test_what_agrees_up_to_rounding_agrees(a: str, b: str) -> None:
    needed(a, b)
    found = compared(named(a), named(b))
    assert (found.verdict, found.dtype, found.sentences) == ("agree", "float64", [])
    assert 0 <= found.distance < 1e-13
    assert found.first is None


def test_a_diagnosis_holds_the_first_step_the_growth_and_the_slots() -> None:
    pytest.importorskip("torch")
    changed = subject("samestep:AdamW", bias_correction=False)
    found = compared(subject("torch.optim.AdamW"), changed)
    assert found.first in {(1, "bias"), (1, "scalar")}
    assert len(found.growth) == found.steps + 1 == 41
    assert found.growth[0] == 0 < found.growth[1]
    assert max(found.growth) == found.distance == max(found.by_parameter.values())
    assert found.by_parameter.keys() == {"scalar", "bias", "matrix", "kernel"}
    worst = found.divergence.worst
    assert worst["param"].ulp > 1e9 and max(worst["m"].ulp, worst["v"].ulp) < 1e3
    other = subject("samestep:AdamW", betas=(0.9, 0.99))
    found = compared(subject("torch.optim.AdamW", betas=(0.9, 0.999)), other)
    worst = found.divergence.worst
    assert min(worst["param"].ulp, worst["v"].ulp) > 1e9 and worst["m"].ulp < 1e3
    assert options(found) == {"betas": ((0.9, 0.999), (0.9, 0.99))}


SLOTS = [
    ("torch.optim.AdamW", "optax.adamw", {"m", "v"}),
    ("keras.optimizers.Adam", "mlx.optimizers.Adam", {"m", "v"}, "thorough"),
    ("torch.optim.Adafactor", "samestep:Adafactor", {"v.0", "v.1"}),
    ("torch.optim.SGD", "mlx.optimizers.SGD", {"m"}),
    ("torch.optim.SGD", "keras.optimizers.SGD", set()),  # which has lr in its momentum
    ("optax.rmsprop", "keras.optimizers.RMSprop", {"m with lr", "v"}, "thorough"),
    ("optax.lars", "samestep:LARS", {"m with lr"}),
    ("optax.adan", "samestep:Adan", {"m", "v", "n", "prev"}, "thorough"),
    ("optimi.Adan", "samestep:Adan", {"m", "v", "n", "prev"}),
    ("pytorch_optimizer.Adan", "optax.adan", {"m", "v", "n"}),
    ("optax.contrib.prodigy", "samestep:Prodigy", {"m", "v", "s", "p0"}, "thorough"),
    ("samestep.mlx:Adan", "samestep.torch:Adan", {"m", "v", "n", "prev"}),
]


@pytest.mark.parametrize(("a", "b", "expected"), marked(SLOTS, 3))
def test_what_both_keep_is_compared_under_our_names(a: str, b: str, expected: set[str]) -> None:
    """Whatever they call it; an average that is kept divided, or with its sign turned, is not."""
    needed(a, b)
    one, other = (subject(name) for name in (a, b))
    known = {name for name in ("weight_decay", "wd") for side in (one, other)}
    sides = [side.having(**{n: 0.0 for n in known if n in side.declared}) for side in (one, other)]
    found = compared(*sides, steps=6)
    kept = {slot for slot, _ in found.divergence.curves} - {"param"}
    assert kept == expected
    for (slot, path), curve in found.divergence.curves.items():
        assert len(curve) == 7
        if slot in {"m", "m with lr", "prev", "p0"} and "decay" not in options(found):
            assert max(curve) < 1e-6, (slot, path)


def test_a_slot_that_differs_is_the_one_that_is_named() -> None:
    pytest.importorskip("torch")
    one = subject("torch.optim.Adamax", betas=(0.9, 0.99), weight_decay=0.0)
    found = compared(one, subject("samestep:Adamax", betas=(0.9, 0.98)))
    assert {slot for slot, _ in found.divergence.curves} == {"param", "m", "u"}
    worst = {slot: difference.relative for slot, difference in found.divergence.worst.items()}
    assert worst["u"] > 1e-3 and worst.get("m", 0.0) < 1e-12


def test_both_get_the_same_numbers_where_both_let_them_be_chosen() -> None:
    needed("torch", "optax", "keras")
    found = compared(named("keras.optimizers.RMSprop"), named("torch.optim.RMSprop"))
    assert found.a.arguments == {
        "learning_rate": 2.0**-7,
        "rho": 0.99,
        "momentum": 0.9,
        "epsilon": 1e-8,
        "weight_decay": 0.1,
    }
    assert found.b.arguments["alpha"] == 0.99 and found.b.arguments["lr"] == 2.0**-7
    assert found.shared["alpha"] == 0.99 and found.own == {}
    assert options(found) == {"eps_at": ("inside", "outside"), "decay": ("decoupled", "l2")}
    given = compared(subject("optax.adam", b2=0.99), subject("torch.optim.Adam", eps=1e-3))
    assert given.verdict == "agree"
    assert given.a.arguments["eps"] == 1e-3 and given.b.arguments["betas"] == (0.9, 0.99)
    assert given.own["eps_root"] == (0.0, None)
    apart = compared(subject("optax.adam", b2=0.99), subject("torch.optim.Adam", betas=(0.9, 0.9)))
    assert options(apart) == {"betas": ((0.9, 0.99), (0.9, 0.9))}
    assert "optax.adam has betas = (0.9, 0.99)" in apart.sentences[0]


# Planted faults. The conformance suite plants all that anybody has thought of in every rule.

ADAMW = {"lr": 0.01, "eps": 1e-3, "betas": (0.8, 0.99)}
BOUNDED = "over_root: A + B => numpy.maximum(A, B)"


def planted(rule: str, pattern: str, **numbers: Any) -> Comparison:
    """A rule with a fault, and the rule."""
    made: Any = registry[rule]
    wrong = faulty(made, made(**numbers), pattern)
    return compared(subject(wrong, **numbers), subject(f"samestep:{rule}", **numbers))


FAULTS = {
    "look ahead, m corrected as in this step": (
        "AdamW",
        "X.unbias_m * A => s.unbias_m * (s.beta1[0] * A + s.beta1[1] * grad)",
        ADAMW,
    ),
    "no lr": ("SignSGD", f"coefficients: self.lr => {samestep.SignSGD.lr.default}", {"lr": 0.5}),
    "difference by 1 - beta2": (
        "Adan",
        "grad + s.ahead * D => grad + (1 - s.ahead) * D & scalars: beta2 / V => (1 - beta2) / V",
        {},
    ),
    "previous gradient not kept": ("Adan", "choose(X, F, grad, P) => 0 * grad", {}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    rule, pattern, numbers = FAULTS[name]
    found = planted(rule, pattern, **numbers)
    assert found.verdict == "differ"
    assert [*options(found)] == [name], found.sentences
    assert len(found.sentences) == 1 and "unexplained" not in found.sentences[0]


def test_what_the_numbers_do_not_tell_apart_is_said_with_an_or() -> None:
    """An eps that bounds a root of 1e-5 from below does nothing, as if it were not there."""
    (sentence,) = planted("AdamW", BOUNDED).sentences
    assert "ignores eps = 1e-08 or " in sentence
    assert " or takes eps = 1e-08 as the least value of the divisor; " in sentence
    sharper = planted("AdamW", BOUNDED, eps=1e-3)
    assert [*options(sharper)] == ["eps as a bound"] and " or " not in sharper.sentences[0]


def test_what_is_the_same_whatever_the_numbers_is_said_once() -> None:
    found = compared(subject("samestep:Adan", like="optax"), subject("samestep:Adan"))
    assert len(found.sentences) == 2 and not any(" or " in text for text in found.sentences)


def test_a_small_fault_beside_large_ones_is_named_too() -> None:
    pytest.importorskip("pytorch_optimizer")
    found = compared(subject("pytorch_optimizer.Lamb"), subject("samestep:LAMB"))
    wanted = {"correction after the ratio", "decay", "eps in the ratio"}
    assert options(found).keys() == wanted
    assert not any("unexplained" in sentence for sentence in found.sentences)


def test_what_is_left_beside_an_explanation_is_said_to_be_unexplained() -> None:
    """A fault of 1e-7, together with another decay."""
    pattern = "descend: _times((X.rate,), D) => (1 + 3e-7) * X.rate * D"
    wrong = faulty(samestep.AdamW, samestep.AdamW(lr=0.01, decay="l2"), pattern)
    found = compared(subject(wrong, lr=0.01, decay="l2"), subject("samestep:AdamW", lr=0.01))
    assert options(found) == {"decay": ("l2", "decoupled")}
    rest = r".* is reproduced up to .e-0[67]; the rest is unexplained"
    assert re.fullmatch(rest, found.sentences[1])
    alone = planted("AdamW", pattern, lr=0.01)
    assert alone.verdict == "differ" and not alone.reasons
    assert alone.sentences[0].startswith("unexplained: none of ")


def test_two_planted_faults_are_both_named() -> None:
    ascends = "prepared: A if self.maximize else B => B if self.maximize else A"
    found = planted("AdamW", f"{ascends} & debias(X, B, T) => debias(X, B, T + 1)", **ADAMW)
    assert options(found).keys() == {"maximize", "correction one step later"}


def halved(step: Any) -> Any:
    return 0.01 * 0.5 ** (step / 10)


@pytest.mark.parametrize(
    ("a", "b"), [("torch.optim.AdamW", "optax.adamw"), ("mlx.optimizers.Lion", "optax.lion")]
)
def test_a_schedule_goes_to_both(a: str, b: str) -> None:
    needed(a, b)
    rate = {"torch": "lr"}.get(a.partition(".")[0], "learning_rate")
    found = compared(subject(a, **{rate: halved}), subject(b))
    assert found.verdict == "agree" or found.distance < 1e-6  # MLX keeps rates in float32
    constant = compared(subject(a, **{rate: halved}), subject(b, learning_rate=0.01))
    assert constant.verdict == "differ"


SIGNS = "numpy.sign(numpy.random.default_rng(A.size).normal(size=A.shape))"
NOT_KNOWN = {
    "m to another power": "X.unbias_m * A => s.unbias_m * A**3",
    "eps is one percent more": "X.eps => 1.01 * X.eps",
    "a random pattern of signs": f"X.unbias_m * A => s.unbias_m * A * {SIGNS}",
}


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_what_no_variant_does_is_unexplained(name: str) -> None:
    before = time.process_time()
    found = planted("AdamW", NOT_KNOWN[name], lr=0.01)
    assert found.verdict == "differ" and not found.explained and not found.reasons
    assert len(found.sentences) == 1
    assert found.sentences[0].startswith("unexplained: none of ")
    assert found.findings is not None and found.findings[1].variant is not None
    assert time.process_time() - before < 10  # 5 where no other worker shares the core


def test_something_of_another_kind_is_unexplained() -> None:
    torch = pytest.importorskip("torch")

    class RandomSigns(torch.optim.SGD):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for param in group["params"]:
                    torch.manual_seed(param.numel())
                    param.grad *= torch.where(torch.rand(param.shape) < 0.5, 1.0, -1.0)
            super().step()

    found = compared(subject(RandomSigns), subject("samestep:SGD"))
    assert found.sentences[0].startswith("unexplained: none of ")


# The search itself.


@pytest.mark.parametrize("name", sorted(registry))
def test_every_deviation_of_every_rule_changes_it_or_is_refused(name: str) -> None:
    """None of them is the rule itself under another name, where it applies."""
    rule = registry[name]
    numbers: dict[str, Any] = {
        n: f.typical
        for n, f in rule.fields().items()
        if getattr(f, "typical", None) is not None and n != "lr_decay"
    }
    if issubclass(rule, Wrapper):
        numbers["rule"] = samestep.SGD(lr=0.01)
    base = Variant(rule, tuple(sorted(numbers.items())))
    for change in changes(rule, numbers):
        variant = base.with_changes(change)
        assert variant.changes == (change,)
        made = variant.made()
        assert made is None or type(made).__name__ == name
        assert name not in type(made).__mro__[0].__module__
    assert registry[name] is rule


def test_the_search_leaves_the_rules_as_they_are() -> None:
    trajectory = record(seed=5, steps=1, shapes={"w": (7,)})
    rule = samestep.AdamW(lr=0.01)

    def once() -> Any:
        return rule.update(trajectory.grads[0], trajectory.params, rule.init(trajectory.params))

    before = once()[0]["w"]
    made = [Variant(samestep.AdamW, (), (change,)).made() for change in changes(samestep.AdamW, {})]
    assert sum(type(one) is not samestep.AdamW for one in made) > 10
    assert (once()[0]["w"] == before).all()
    assert registry["AdamW"] is samestep.AdamW
