"""A checkpoint in one file, and one that is spread over several."""

from __future__ import annotations

from pathlib import Path

import pytest

import samestep
from tests.checkpoint.file_bytes import RULE, trained


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good file."""
    found = tmp_path / "state.safetensors"
    samestep.save(found, RULE, *trained())
    return found


@pytest.fixture
def sharded(path: Path) -> Path:
    """The index of a good set of files."""
    samestep.save(path, RULE, *trained(), max_shard_bytes=24)
    return path
