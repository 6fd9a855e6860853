"""Subjects of a comparison: optimizers from anywhere, and refusals in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest

import samestep
from samestep.parity import compared, record
from samestep.parity.subjects.subject import SubjectError, subject
from tests.parity.packages import needed, options

# A user's own.

OWN = '''
import torch


class LateAdam(torch.optim.Adam):
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad.clone()
                param.grad = getattr(param, "before", torch.zeros_like(grad))
                param.before = grad
        super().step()


class Zorro(torch.optim.Optimizer):
    """The sign of the gradient; its name says nothing."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param -= group["lr"] * torch.sign(param.grad)


class Diverging(Zorro):
    def step(self, closure=None):
        super().step()
        with torch.no_grad():
            self.param_groups[0]["params"][0].mul_(float("nan"))


class Exploding(Zorro):
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param.data.add_(param.grad, alpha=-group["lr"]).mul_(group["lr"])


class Random(Zorro):
    def step(self, closure=None):
        super().step()
        for param in self.param_groups[0]["params"]:
            param.data.add_(torch.randn_like(param))


class Seeded(Random):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr)
        torch.manual_seed(0)


class Scribbling(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        for param in self.param_groups[0]["params"]:
            param.grad.mul_(0.0)


class Flat(Zorro):
    def step(self, closure=None):
        if any(param.ndim > 1 for group in self.param_groups for param in group["params"]):
            raise ValueError("vectors only")
        super().step()


class Broken(Zorro):
    def __init__(self, params, lr=1e-3):
        raise RuntimeError("no such device")
'''


@pytest.fixture
def own(tmp_path: Path) -> str:
    pytest.importorskip("torch")
    path = tmp_path / "own_optimizers.py"
    path.write_text(OWN, encoding="utf-8")
    return str(path)


def test_an_optimizer_from_a_file_is_diagnosed(own: str) -> None:
    found = compared(subject(f"{own}:LateAdam"), subject("torch.optim.Adam"))
    assert [*options(found)] == ["gradients one step late"]
    assert "steps along the gradient of the step before" in found.sentences[0]


def test_a_rule_is_found_for_a_name_that_says_nothing(own: str) -> None:
    found = compared(subject(f"{own}:Zorro"), subject(f"{own}:Flat"))
    assert found.verdict == "agree" and found.left_out.keys() == {"matrix", "kernel"}
    assert "vectors only" in found.left_out["matrix"]
    found = compared(subject(f"{own}:Zorro"), subject("samestep:SignSGD"))
    assert found.verdict == "agree"


@pytest.mark.parametrize(
    ("description", "arguments", "message"),
    [
        ("samestep:Adom", {}, "samestep:Adom: there is no such rule; there are ADOPT, AMSGrad"),
        ("torch.optim.Adom", {}, "torch.optim.Adom cannot be imported: "),
        ("no_such_package.Adam", {}, "no_such_package.Adam cannot be imported: "),
        ("no_such_file.py:Adam", {}, "no_such_file.py: there is no such file"),
        ("optax.adan", {"rate": 1e-3}, "optax.adan has no argument rate; it has b1, b2"),
        (
            "json.JSONDecoder",
            {},
            "json.JSONDecoder cannot be stepped; it must be an optimizer made with ",
        ),
    ],
)
def test_a_subject_that_cannot_be_had_is_refused(
    description: str, arguments: dict[str, Any], message: str
) -> None:
    needed("torch", "optax")
    with pytest.raises(SubjectError, match=re.escape(message)):
        subject(description, **arguments)


def test_a_subject_that_cannot_be_stepped_is_refused_by_name(own: str) -> None:
    with pytest.raises(SubjectError, match=r":Diverging gave NaN .* at step 1"):
        compared(subject(f"{own}:Diverging"), subject("samestep:SignSGD"))
    with pytest.raises(SubjectError, match=r":Broken cannot be .*RuntimeError: no such device"):
        compared(subject(f"{own}:Broken"), subject("samestep:SignSGD"))
    wrong = subject("samestep:AdamW", betas=(0.9, 1.5))
    with pytest.raises(
        SubjectError, match=r"samestep:AdamW \(a\) cannot be built.*betas must be in"
    ):
        compared(subject("samestep:AdamW"), wrong)


# What is made already.

MADE = """
import optax
import samestep

chain = optax.chain(optax.scale_by_adam(), optax.scale(-0.01))
wrapped = samestep.Lookahead(samestep.AdamW(lr=0.01), sync_period=3)
routed = samestep.route((lambda p: p.ndim > 1, samestep.AdamW(lr=0.01)), samestep.SGD(lr=0.1))


def lion(learning_rate=1e-2):
    return optax.lion(learning_rate)
"""


@pytest.fixture
def made(tmp_path: Path) -> str:
    pytest.importorskip("optax")
    path = tmp_path / "made_already.py"
    path.write_text(MADE, encoding="utf-8")
    return str(path)


def test_a_transformation_that_is_made_already_has_a_rate_of_its_own(made: str) -> None:
    found = compared(subject(f"{made}:chain"), subject("samestep:Adam"))
    assert options(found) == {"lr": (0.01, 0.001)}
    agreeing = compared(subject(f"{made}:chain"), subject("samestep:Adam", lr=0.01))
    assert agreeing.verdict == "agree"


def test_a_decay_that_cannot_be_chosen_is_found(made: str) -> None:
    found = compared(subject(f"{made}:lion"), subject("samestep:Lion"))
    assert options(found) == {"weight_decay": (0.001, 0.0)}


def test_wrappers_and_routes_are_compared_as_they_are(made: str) -> None:
    same = samestep.Lookahead(samestep.AdamW(lr=0.01), sync_period=3)
    found = compared(subject(f"{made}:wrapped"), subject(same))
    assert found.verdict == "agree" and found.distance == 0.0
    assert {slot for slot, _ in found.divergence.curves} == {"param", "m", "v", "slow"}
    other = compared(subject(f"{made}:wrapped"), subject(same.replace(sync_period=4)))
    assert other.verdict == "differ" and other.first is not None and other.first[0] == 3
    assert "has sync_period = 4" in other.sentences[0] and len(other.sentences) == 1
    inside = same.replace(lr=0.02)
    other = compared(subject(f"{made}:wrapped"), subject(inside))
    assert "is a rule around others, of which no variants are tried" in other.sentences[0]
    named = subject("samestep:Lookahead", rule="SGD", sync_period=3)
    assert named.target == samestep.Lookahead(samestep.SGD(), sync_period=3)
    route = compared(subject(f"{made}:routed"), subject("samestep:AdamW", lr=0.01))
    apart = route.by_parameter
    assert max(apart["matrix"], apart["kernel"]) == 0.0 < min(apart["bias"], apart["scalar"])


def test_a_rule_with_groups_is_compared_with_them() -> None:
    groups = [(lambda p: p.ndim > 1, {"lr": 0.5})]
    found = compared(
        subject(samestep.SGD(lr=0.25, groups=groups)), subject("samestep:SGD", lr=0.25)
    )
    apart = found.by_parameter
    assert apart["bias"] == apart["scalar"] == 0.0 < min(apart["matrix"], apart["kernel"])


def test_optimizers_of_mlx_and_keras_that_are_made_already_are_copied() -> None:
    optimizers = pytest.importorskip("mlx.optimizers")
    optimizer = optimizers.Lion(2.0**-10)
    one = subject(optimizer)
    for _ in range(2):
        assert compared(one, subject("samestep:Lion", lr=2.0**-10)).verdict == "agree"
    assert "bias" not in optimizer.state


# What is refused.


REFUSED = [
    ("torch.optim.LBFGS", "torch.optim.LBFGS cannot be compared: its step needs a closure"),
    ("optax.polyak_sgd", "optax.polyak_sgd cannot be compared: its step needs 'value'"),
    ("samestep:Lookahead", "samestep:Lookahead is a rule around another, which must be given"),
]


@pytest.mark.parametrize(("name", "message"), REFUSED)
def test_what_needs_more_than_gradients_is_refused(name: str, message: str) -> None:
    needed(name)
    with pytest.raises(SubjectError, match=re.escape(message)):
        compared(subject(name), subject("samestep:SGD"))


def test_an_optimizer_of_torch_that_is_made_already_is_refused() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(SubjectError, match="is made already, for parameters of its own; name its"):
        subject(optimizer)


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    needed("torch")
    with pytest.raises(SubjectError, match=r"there are .*\. Did you mean Yogi\?$"):
        subject("samestep:Yogy")
    with pytest.raises(SubjectError, match=r"has no argument epz; .*\. Did you mean eps\?$"):
        subject("torch.optim.Adam", epz=1e-8)
    with pytest.raises(SubjectError, match=r"\. Did you mean Adagrad\?$") as raised:
        subject("torch.optim.Adagrat")
    assert isinstance(raised.value.__cause__, AttributeError)


def test_what_an_optimizer_raises_is_the_cause(own: str) -> None:
    with pytest.raises(SubjectError) as raised:
        compared(subject("samestep:SignSGD"), subject(f"{own}:Broken"))
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_nan_names_the_side_and_says_what_to_do(own: str) -> None:
    what = r":Exploding gave (NaN|infinity) for a parameter of shape .* at step \d+; its arguments"
    with pytest.raises(SubjectError, match=what) as raised:
        compared(subject("samestep:SGD"), subject(f"{own}:Exploding", lr=1e300))
    said = "It is side b: try a smaller learning rate, such as b.lr=1e-4"
    assert str(raised.value).endswith(said) and "'lr': 1e+300" in str(raised.value)
    with pytest.raises(SubjectError, match=r"It is side a: try a smaller .* a\.lr=1e-4$"):
        compared(subject(f"{own}:Diverging"), subject("samestep:SignSGD"))


def test_what_is_left_to_chance_is_refused(own: str) -> None:
    with pytest.raises(SubjectError, match=":Random does not do the same twice: two runs"):
        compared(subject("samestep:SignSGD"), subject(f"{own}:Random"))
    seeded = compared(subject(f"{own}:Seeded"), subject(f"{own}:Seeded"))
    assert seeded.verdict == "agree" and seeded.distance == 0.0


# Neither side touches what the other is given.


class Scribbling(samestep.SGD, register=False):
    """Changes what it is given, in place."""

    def update(self, grads: Any, params: Any, state: Any) -> Any:  # type: ignore[override]
        result = super().update(grads, params, state)
        for array in (*grads.values(), *params.values()):
            array[...] = 0.0
        return result


def test_what_one_side_does_in_place_does_not_reach_the_other(own: str) -> None:
    plain = subject("samestep:SGD", lr=0.25)
    before = record(0, 40, {"w": (5, 4)})
    for wrong in (subject(Scribbling, lr=0.25), subject(f"{own}:Scribbling", lr=0.25)):
        for sides in ((wrong, plain), (plain, wrong)):
            found = compared(*sides, shapes={"w": (5, 4)})
            assert found.verdict == "agree", wrong.name
    numpy.testing.assert_array_equal(
        before.grads[3]["w"], record(0, 40, {"w": (5, 4)}).grads[3]["w"]
    )


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("optax.adamw", {"lr": 0.5, "epsilon": 0.25}, {"learning_rate": 0.5, "eps": 0.25}),
        ("samestep:Lion", {"learning_rate": 0.5, "wd": 0.25}, {"lr": 0.5, "weight_decay": 0.25}),
        ("torch.optim.AdamW", {"lr": 0.5}, {"lr": 0.5}),
    ],
)
def test_what_means_one_thing_everywhere_may_have_any_librarys_name(
    name: str, given: dict[str, float], taken: dict[str, float]
) -> None:
    needed(name)
    assert subject(name, **given).arguments == taken


def test_where_nothing_moves_there_is_nothing_to_compare() -> None:
    needed("torch.optim.SGD")
    with pytest.raises(SubjectError, match=r"neither samestep:SGD nor torch\.optim\.SGD moves"):
        compared(subject("samestep:SGD", lr=0.0), subject("torch.optim.SGD", lr=0.0))


@pytest.mark.parametrize("given", [{"dtype": "float23"}, {"ulp": float("nan")}, {"ulp": -1.0}])
def test_a_dtype_or_a_bound_that_is_none_is_refused(given: dict[str, Any]) -> None:
    sides = subject("samestep:SGD"), subject("samestep:Lion")
    (name,) = given
    with pytest.raises(ValueError, match=rf"^{name}=.*: it must be "):
        compared(*sides, **given)
