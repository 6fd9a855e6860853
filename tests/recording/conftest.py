"""Fixtures of the tests of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a recording."""
    return tmp_path / "run.safetensors"
