"""The state of optimizers of schedulefree and pytorch_optimizer, from and to ours."""

from __future__ import annotations

import pytest

import samestep
from samestep.checkpoints import CheckpointError
from samestep.checkpoints.description import made
from samestep.conformance.integrations import OWN_WARNINGS
from samestep.conformance.integrations.test_native_optimi import (
    BEFORE,
    parameters,
    same_steps,
    train,
)

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

FREE = {"lr": 0.02, "weight_decay": 0.1, "r": 0.5}
CASES = {
    "schedulefree": [
        ("AdamWScheduleFree", {**FREE, "betas": (0.8, 0.95), "warmup_steps": 35}),
        ("RAdamScheduleFree", {**FREE, "silent_sgd_phase": False}),
        ("SGDScheduleFree", {**FREE, "momentum": 0.8}),
    ],
    "pytorch_optimizer": [
        ("ADOPT", {"lr": 0.02, "weight_decay": 0.1, "weight_decouple": True}),
        ("CAME", {"lr": 0.02, "weight_decay": 0.1}),
    ],
}
NAMED = [
    pytest.param(package, name, values, id=name)
    for package, several in CASES.items()
    for name, values in several
]


def begun(package, name, values, params):
    optimizer = getattr(pytest.importorskip(package), name)([*params.values()], **values)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return optimizer


@pytest.mark.parametrize(("package", "name", "values"), NAMED)
def test_ours_goes_on_from_theirs_and_back(package, name, values, tmp_path) -> None:
    """They count the steps of a group, so every parameter has all gradients."""
    tolerance = 1e-10 if name.startswith("RAdam") else 1e-12
    params = parameters(torch.float64)
    theirs = begun(package, name, values, params)
    train(theirs, params, range(BEFORE), late=0)
    samestep.save(tmp_path / "theirs", theirs, params)
    rule = made(samestep.checkpoint(theirs, params).parameters["w"].rule)
    own = parameters(torch.float64, seed=1)
    ours = adapter.bind(rule, own.items())
    samestep.load(tmp_path / "theirs", ours, own)
    same_steps(theirs, params, ours, own, tolerance)

    samestep.save(tmp_path / "ours", ours, own)
    back = parameters(torch.float64, seed=2)
    again = begun(package, name, {**values, "lr": 0.01}, back)
    samestep.load(tmp_path / "ours", again, back)
    same_steps(again, back, ours, own, tolerance)


def test_parameters_of_evaluation_are_not_carried() -> None:
    params = parameters(torch.float64)
    theirs = begun("schedulefree", *CASES["schedulefree"][0], params)
    train(theirs, params, range(3), late=0)
    theirs.eval()
    with pytest.raises(CheckpointError, match=r"is evaluating.*call its train\(\) before"):
        samestep.checkpoint(theirs, params)
