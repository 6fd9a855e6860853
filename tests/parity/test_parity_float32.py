"""Differences that only float32 shows, and bounds that a user sets."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from samestep.parity import compared, record, subject
from samestep.parity.bounds import BOUND, EPS
from samestep.parity.trajectory import Trajectory
from tests.parity.packages import marked, needed, options

NARROW = [
    ("torch.optim.Adam", "optax.adam", 114),
    ("optax.lamb", "samestep:LAMB", 113),
    ("torch.optim.AdamW", "optax.adamw", 114, "thorough"),
    ("optax.adabelief", "samestep:AdaBelief", 64, "thorough"),
    ("samestep.jax:Adam", "optax.adam", 114, "thorough"),
]


@pytest.mark.parametrize(("a", "b", "ulp"), marked(NARROW, 3))
def test_what_float64_does_not_show_is_found_in_float32(a: str, b: str, ulp: int) -> None:
    needed(a, b)
    one, other = subject(a), subject(b)
    compared(one, other, steps=2)  # imports
    before = time.process_time()
    found = compared(one, other)
    assert time.process_time() - before < 10  # 5 where no other worker shares the core
    assert (found.verdict, found.dtype) == ("agree", "float64")
    narrow = found.narrow
    assert narrow is not None and (narrow.verdict, narrow.dtype) == ("differ", "float32")
    assert narrow.first is not None and narrow.first[0] == 1
    assert ulp - 3 <= narrow.ulps[1] <= ulp + 3
    who, whole = sorted((a, b), key=lambda name: not name.startswith("optax."))
    assert options(narrow) == {"correction in float32": (a == who, b == who)}
    (sentence,) = found.sentences
    assert sentence.startswith(f"In float32 they are {narrow.ulps[1]:.0f} ULP apart after step 1: ")
    assert f"{who} computes 1 - beta^t in float32" in sentence
    assert f"{whole} computes 1 - beta^t in float64" in sentence


def test_radam_s_rho_is_found_in_float32() -> None:
    needed("optax.radam")
    found = compared(subject("optax.radam"), subject("samestep:RAdam"))
    assert found.verdict == "agree" and found.narrow is not None
    assert [reason.option for reason in found.narrow.reasons] == ["rho in float32"]
    assert found.narrow.first is not None and found.narrow.first[0] == 5
    assert "optax.radam computes rho and 1 - beta^t in float32" in found.sentences[0]


ALIKE = [
    ("torch.optim.AdamW", "samestep:AdamW"),
    ("torch.optim.Adafactor", "samestep:Adafactor"),
    ("torch.optim.RMSprop", "samestep:RMSprop"),
    ("torch.optim.NAdam", "samestep:NAdam"),
    ("optax.lion", "mlx.optimizers.Lion"),
    ("optax.adamax", "torch.optim.Adamax"),
    ("optax.sgd", "torch.optim.SGD", "thorough"),
    ("samestep.jax:AdamW", "torch.optim.AdamW", "thorough"),
]


@pytest.mark.parametrize(("a", "b"), marked(ALIKE, 2))
def test_rounding_alone_is_no_difference_in_float32(a: str, b: str) -> None:
    needed(a, b)
    found = compared(subject(a), subject(b))
    assert found.verdict == "agree" and found.sentences == []
    narrow = found.narrow
    assert narrow is not None and (narrow.verdict, narrow.dtype) == ("agree", "float32")
    assert max(narrow.ulps[1:6]) <= 10  # where the bound begins at 16
    assert len(narrow.ulps) == len(narrow.bounds) == found.steps + 1
    pairs = zip(narrow.growth, narrow.bounds, strict=True)
    assert all(apart < bound / 1.3 for apart, bound in pairs)


def test_float32_alone_decides_where_it_is_asked_for() -> None:
    needed("torch", "optax")
    found = compared(subject("torch.optim.Adam"), subject("optax.adam"), dtype="float32")
    assert (found.verdict, found.dtype, found.narrow) == ("differ", "float32", None)
    assert found.sentences == [
        "torch.optim.Adam computes 1 - beta^t in float64; optax.adam computes 1 - beta^t in float32"
    ]


def test_in_float32_what_is_large_and_what_is_small_are_both_named() -> None:
    needed("optax")
    found = compared(subject("optax.amsgrad"), subject("samestep:AMSGrad"), dtype="float32")
    assert {reason.option for reason in found.reasons} == {
        "maximum of the corrected v",
        "correction in float32",
    }


def test_what_no_variant_does_in_float32_is_unexplained() -> None:
    """A rate that is wrong by 1e-5 is nothing that anybody has made a name for."""
    torch = pytest.importorskip("torch")

    class Rounded(torch.optim.AdamW):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            off = 1 + 1e-5 * (self.param_groups[0]["params"][0].dtype == torch.float32)
            for group in self.param_groups:
                group["lr"] *= off
            super().step()
            for group in self.param_groups:
                group["lr"] /= off

    found = compared(subject(Rounded), subject("samestep:AdamW"))
    assert found.verdict == "agree" and found.narrow is not None
    assert found.narrow.verdict == "differ" and not found.narrow.reasons
    assert re.fullmatch(
        r"In float32 they are \d+ ULP apart after step \d+: unexplained: none of .*",
        found.sentences[0],
    )


def test_what_fails_in_float32_alone_is_said() -> None:
    torch = pytest.importorskip("torch")

    class Wide(torch.optim.SGD):  # type: ignore[misc, name-defined]
        def step(self, closure: Any = None) -> None:
            if self.param_groups[0]["params"][0].dtype != torch.float64:
                raise ValueError("float64 only")
            super().step()

    found = compared(subject(Wide), subject("samestep:SGD"))
    assert found.verdict == "agree" and found.narrow is None
    assert re.fullmatch(r"In float32 .*Wide cannot take .*float64 only", found.sentences[0])


def test_the_bound_of_float32_is_one_that_grows_and_that_of_float64_does_not() -> None:
    assert BOUND["float32"].after(1) == 17 * EPS["float32"]
    assert BOUND["float32"].after(40) == 56 * EPS["float32"]
    assert BOUND["float64"].after(1) == BOUND["float64"].after(40) == 1e-10


def test_a_bound_in_ulp_goes_before_the_kit_s_own() -> None:
    needed("torch", "optax")
    one, other = subject("torch.optim.Adam"), subject("optax.adam")
    loose = compared(one, other, dtype="float32", ulp=300)
    assert loose.verdict == "agree" and loose.first is None and 100 < max(loose.ulps) < 300
    tight = compared(one, other, dtype="float32", ulp=50)
    assert tight.verdict == "differ" and tight.first is not None and tight.first[0] == 1
    assert [reason.option for reason in tight.reasons] == ["correction in float32"]
    exact = compared(one, other, ulp=0)
    assert (exact.verdict, exact.dtype) == ("differ", "float64")
    assert max(exact.ulps) > 0 and not exact.reasons
    assert exact.sentences[0].startswith("unexplained: no option tells them apart; ")
    assert compared(subject("samestep:AdamW"), subject("samestep.mlx:AdamW"), ulp=0).ulps


def test_ulp_are_counted_of_parameters() -> None:
    """By hand: steps of 2^-10 from zero, of which one side's are longer by one in 2^20."""
    found = compared(
        subject("samestep:SignSGD", lr=2.0**-10),
        subject("samestep:SignSGD", lr=2.0**-10 * (1 + 2.0**-20)),
        steps=2,
        shapes={"w": (500,)},
        dtype="float32",
        ulp=1,
    )
    start: Trajectory = record(0, 2, {"w": (500,)}).rounded("float32")
    zero = (start.params["w"] == 0) & (start.grads[0]["w"] != 0)
    assert zero.any()
    assert found.ulps[1] == 8.0  # 2^-30 in units of 2^-33, for a step of 2^-10
