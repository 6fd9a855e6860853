"""Fixtures of the tests of recordings."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a recording."""
    return tmp_path / "run.safetensors"


@pytest.fixture
def model() -> Any:
    """The network of the runs of torch."""
    pytest.importorskip("torch")
    return import_module("tests.recording.torch_runs").network()
