"""Calls that are refused, listed with the error that each must raise."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from doctest import DocTestParser
from typing import Any, NamedTuple

import pytest

__all__ = ["Refusal", "refusals"]


class Refusal(NamedTuple):
    """A call, as source text, and what it must raise."""

    call: str
    error: type[Exception]
    message: str

    def said(self, names: Mapping[str, Any]) -> str:
        """Make the call, with these names defined; the message of the error that it raises."""
        with pytest.raises(self.error) as raised:
            eval(self.call, dict(names))
        return str(raised.value)


def refusals(table: str) -> pytest.MarkDecorator:
    """Run a test with the ``refusal`` of every call in a table.

    Args:
        table: calls as in a doctest: ``>>>`` and the call, then ``ValueError: the message``, or a
            part of the message, on one line or several.
    """
    found = []
    for example in DocTestParser().get_examples(table):
        error, _, message = " ".join(example.want.split()).partition(": ")
        call = " ".join(example.source.split())
        found.append(Refusal(call, getattr(builtins, error), message))
    return pytest.mark.parametrize("refusal", found, ids=[each.call for each in found])
