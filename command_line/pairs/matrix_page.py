"""The matrix as a page: one HTML file, which needs no network and no scripts."""

from __future__ import annotations

from samestep.command_line.pages import filled

from .curves import COLOURS
from .matrix import Matrix
from .matrix_words import (
    about,
    beside_ours,
    columns_of,
    detail,
    facts,
    libraries,
    mark,
    rows_of,
    sentences,
    word,
)

__all__ = ["matrix_page"]


def matrix_page(matrix: Matrix) -> str:
    """The page."""
    return filled(
        __package__,
        "matrix.html",
        matrix=matrix,
        about=about(matrix),
        libraries=libraries(matrix),
        beside_ours=beside_ours,
        columns_of=columns_of,
        facts=facts,
        rows_of=rows_of,
        sentences=sentences,
        mark=mark,
        word=word,
        detail=detail,
        colours=COLOURS,
    )
