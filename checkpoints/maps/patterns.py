"""Patterns of dotted paths, with named gaps."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["Pattern"]

MANY = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for ``...`` inside, so that a dot is always one between parts."""

CAPTURE = re.compile(r"\{([A-Za-z_]\w*)(" + MANY + r"?)\}")


class Pattern:
    """A path with gaps: ``{i}`` is a part or a piece of it, ``{block...}`` any number of parts.

    ``layers_{i}.kernel`` matches ``layers_3.kernel``; ``{block...}.kernel`` matches ``kernel``,
    ``a.kernel`` and ``a.b.kernel``. With no parts there is no dot either.

    Raises:
        ValueError: braces without a name, a name used twice, or ``...`` next to other text.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = text.replace("...}", MANY + "}").split(".")
        found = [match for part in self._parts for match in CAPTURE.finditer(part)]
        self.captures = tuple(match[1] for match in found)
        twice = {name for name in self.captures if self.captures.count(name) > 1}
        if twice:
            raise ValueError(f"{text!r} has {{{min(twice)}}} twice")
        self._regex = re.compile("".join(map(self._part, self._parts)), re.DOTALL)

    def _part(self, part: str) -> str:
        begin = r"(?:\A|\.)"
        whole = CAPTURE.fullmatch(part)
        if whole and whole[2]:
            return f"(?:{begin}(?P<{whole[1]}>.+))?"
        if MANY in part:
            raise ValueError(
                f"{self.text!r}: {{name...}} stands for whole parts of a path, so it must be "
                "between dots"
            )
        pieces = CAPTURE.split(part)  # text, name, nothing, text, ...
        if any(brace in text for text in pieces[::3] for brace in "{}"):
            raise ValueError(
                f"{self.text!r}: a gap is {{name}} or {{name...}}, with a name of letters, digits "
                "and underscores"
            )
        gaps = (rf"(?P<{name}>[^.]+)" for name in pieces[1::3])
        texts = map(re.escape, pieces[::3])
        return begin + next(texts) + "".join(a + b for a, b in zip(gaps, texts, strict=True))

    def match(self, path: str) -> dict[str, str] | None:
        """The text in each gap, if the path matches; else ``None``."""
        found = self._regex.fullmatch(path)
        return found and {name: text or "" for name, text in found.groupdict().items()}

    def filled(self, captures: Mapping[str, str]) -> str:
        """The path with the given texts in its gaps."""
        made = (CAPTURE.sub(lambda gap: captures[gap[1]], part) for part in self._parts)
        pairs = zip(self._parts, made, strict=True)
        return ".".join(text for part, text in pairs if text or MANY not in part)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"
