"""A folder of its own for a test of commands that read and write files."""

import pytest


@pytest.fixture
def in_own_folder(tmp_path, monkeypatch):
    """The test runs in ``tmp_path``, so that it can call its files by their names."""
    monkeypatch.chdir(tmp_path)
