"""Compilers that fail: a rule is executed without them then, and a test of them shows nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from samestep.execution import FAILED

__all__ = ["everything_compiles", "watch"]

failures: list[str] = []
"""What the log was told of compilers that failed, since the last test."""


class _Failures(logging.Handler):
    """Keeps the warnings of compilers that failed."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning of a compiler."""
        if record.msg == FAILED:
            failures.append(record.getMessage())


_handler = _Failures()


def watch() -> None:
    """Listen to what the log is told of compilers."""
    logging.getLogger("samestep").addHandler(_handler)


@contextmanager
def everything_compiles(expected: bool) -> Iterator[None]:
    """Fail a test in which, or before which, a compiler failed, unless it is expected."""
    try:
        yield
        if failures and not expected:
            pytest.fail("\n".join(failures), pytrace=False)
    finally:
        failures.clear()
