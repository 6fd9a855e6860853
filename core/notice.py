"""Warnings that show the line from which samestep was called."""

from __future__ import annotations

import inspect
import warnings

__all__ = ["warn"]

OURS = ("samestep.", "torch.optim.optimizer")
"""The modules of an optimizer, of which torch's constructor adds the groups."""


def warn(words: str) -> None:
    """Warn, with the line from which samestep was called.

    The stack is walked since a warning comes from different depths, and ``skip_file_prefixes`` of
    ``warnings.warn`` needs Python 3.12.
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(words, UserWarning, stacklevel=level)
