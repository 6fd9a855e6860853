"""The page on checkpoints has the optimizers whose states are converted."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from samestep.rule import registry

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "checkpoints.md"
CALLED = {"muon": "muon-optimizer"}
"""The names of libraries on the page that are not those of their packages."""


def row(library: str) -> set[str]:
    """The words in the row of a library."""
    (found,) = re.findall(rf"^\| {re.escape(library)} \| (.*?)[;|]", PAGE.read_text(), re.M)
    return {*re.findall(r"\w+", found)}


@pytest.mark.parametrize(
    ("framework", "library"), [("keras", "Keras 3"), ("mlx", "mlx.optimizers"), ("torch", "")]
)
def test_the_page_has_the_classes_of_a_library(framework: str, library: str) -> None:
    tables = pytest.importorskip(f"samestep.{framework}.tables")
    found = {library: getattr(tables, framework.upper())}
    if framework == "torch":
        libraries = import_module("samestep.torch.libraries").LIBRARIES.values()
        found = {CALLED.get(one.name, one.name): one.table for one in libraries}
    for name, table in found.items():
        assert row(name) - {"MultiOptimizer"} == {*table}


def test_the_page_has_the_functions_of_optax() -> None:
    kept = pytest.importorskip("samestep.jax.natives").KEPT
    rules = (registry[name] for name in kept if "optax" in registry[name].dialects)
    for rule in rules:
        assert row("optax") | row("around them in optax") >= {
            name.rpartition(".")[2] for name in rule.dialects["optax"].of.split(" and ")
        }
