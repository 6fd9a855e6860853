"""The demonstration: its gradient, its figures, its page and its messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
from click.testing import CliRunner, Result

from samestep.command_line.demonstration import measurement, network
from samestep.command_line.demonstration.measurement import (
    FRAMEWORKS,
    Measured,
    frameworks,
    measure,
)
from samestep.command_line.main import commands
from samestep.parity.backend import Backend, Missing, backends

STEPS = 60
OTHERS = FRAMEWORKS[1:]

FLOAT32 = 1e-5
"""Relative error of float32 sums of 128 products, in another order."""
LEARNT = 0.9
"""Test accuracy after ``STEPS``."""

# Bounds in ULP, a few times what was measured.
ROOT = 8  # a square root that is not correctly rounded
ROUNDING = 100  # the same formula in another order; one step of other gradients
FLOAT32_SCALARS = 1000  # 1 - beta^t in float32
MANY_STEPS = 1e5  # of other gradients
OTHER_FORMULA = 1e6

FIGURES = 4
REFUSED = 2
"""Exit code."""


def samestep(*arguments: str) -> Result:
    return CliRunner().invoke(commands(), arguments)


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(STEPS, frameworks())


@pytest.mark.parametrize("framework", OTHERS)
def test_backpropagation_is_what_a_framework_differentiates(framework: str) -> None:
    """NumPy's gradient, written by hand, is every framework's to float32 accuracy."""
    given = network.problem(1)
    images, labels = given.batches[0]
    backend = backends()[framework]
    assert isinstance(backend, Backend)
    native = {path: backend.array(values, "float32") for path, values in given.params.items()}
    batch = backend.array(images, "float32"), backend.array(labels, "float32")
    value, grads = backend.value_and_grad(network.loss, native, *batch)
    by_hand, ours = network.backpropagation(given.params, images, labels)
    assert by_hand == pytest.approx(value, rel=FLOAT32)
    assert grads.keys() == ours.keys()
    for path, grad in ours.items():
        assert grad.dtype == numpy.float32
        scale = numpy.abs(grad).max()
        numpy.testing.assert_allclose(backend.numpy(grads[path]), grad, atol=FLOAT32 * scale)


def test_the_problem_is_the_same_every_time() -> None:
    one, two = network.problem(3), network.problem(3)
    for (images, _), (again, _) in zip(one.batches, two.batches, strict=True):
        numpy.testing.assert_array_equal(images, again)
    for path, values in one.params.items():
        assert values.dtype == numpy.float32
        numpy.testing.assert_array_equal(values, two.params[path])


def test_every_framework_learns(measured: Measured) -> None:
    assert [run.framework for run in measured.trained] == list(FRAMEWORKS)
    for run in measured.trained:
        assert run.accuracy > LEARNT
        assert len(run.losses) == STEPS
        assert run.losses[-1] == pytest.approx(measured.trained[0].losses[-1], rel=1e-4)


def test_on_the_same_gradients_only_the_libraries_differ(measured: Measured) -> None:
    """Ours keep what their backends promise, bit for bit or so but for a root; others part."""
    bounds = {"bit": 0, "sqrt": ROOT}
    for by_rule in measured.replayed.values():
        ours = {series.name: series.largest for series in by_rule if series.ours}
        assert list(ours) == list(OTHERS)
        for framework, largest in ours.items():
            backend = backends()[framework]
            assert isinstance(backend, Backend)
            assert largest <= bounds[backend.exact]
    adan, adamw = (
        {series.name: series.largest for series in by_rule}
        for by_rule in measured.replayed.values()
    )
    assert adan["optax.adan"] > OTHER_FORMULA
    assert adamw["mlx.optimizers.AdamW"] > OTHER_FORMULA
    assert adamw["torch.optim.AdamW"] < ROUNDING
    assert adamw["optax.adamw"] < FLOAT32_SCALARS


def test_gradients_differ_by_rounding_only(measured: Measured) -> None:
    assert [series.name for series in measured.training] == list(OTHERS)
    for series in measured.training:
        assert series.ulps[0] < ROUNDING
        assert series.largest < MANY_STEPS


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = samestep("demo", "--steps", "12", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.output.rstrip().endswith(str(out))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    page = out.read_text(encoding="utf-8")
    shown = [
        *(f"samestep on {name}" for name in OTHERS),
        "optax.adan",
        "torch.optim.AdamW",
        "optax.adamw",
        "mlx.optimizers.AdamW",
    ]
    for label in shown:
        assert label in result.output
        assert label in page.replace("<wbr>", "")
    assert page.count('<svg role="img"') == FIGURES
    assert "identical" in page
    assert "prefers-color-scheme: dark" in page
    assert "samestep demo --steps 12 --frameworks numpy,torch,jax,mlx" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!#)|@import|<script""", page)


def test_frameworks_can_be_chosen(tmp_path: Path) -> None:
    """NumPy alone has nothing to be compared with, and the page says so."""
    out = tmp_path / "page.html"
    result = samestep("demo", "--steps", "2", "--out", str(out), "--frameworks", "numpy")
    assert result.exit_code == 0, result.output
    assert "Only NumPy was run" in out.read_text(encoding="utf-8")
    assert "torch" not in result.output


def test_a_missing_framework_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = backends()
    found["jax"] = Missing("jax", ModuleNotFoundError("No module named 'optax'"))
    monkeypatch.setattr(measurement, "backends", lambda: found)
    out = tmp_path / "page.html"
    result = samestep("demo", "--steps", "2", "--out", str(out), "--frameworks", "jax,mlx")
    assert result.exit_code == 0, result.output
    assert re.search(r"jax .* missing .* No module named 'optax'", result.output)
    assert "samestep on mlx" in result.output
    page = out.read_text(encoding="utf-8")
    assert "Missing here" in page
    assert "optax&#39;" in page
    assert "samestep on mlx" in page


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["demo", "--frameworks", "pytorch"],
            "there is no framework 'pytorch'. Did you mean torch? "
            "The known ones are numpy, torch, jax, mlx.",
        ),
        (["demo", "--steps", "0"], "0 is not in the range x>=1"),
        (["demo", "--out", "nowhere/page.html"], "there is no folder nowhere"),
    ],
)
def test_mistakes_are_refused(arguments: list[str], sentence: str) -> None:
    result = samestep(*arguments)
    assert result.exit_code == REFUSED
    assert sentence in " ".join(result.output.split())
