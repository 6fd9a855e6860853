"""The page that says which planted faults are named: counts, and an example of every kind."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy

from samestep.version import __version__

__all__ = ["written"]

VERDICTS = ("right", "unexplained", "wrong")

INTRODUCTION = """\
# Planted faults

`samestep parity` says in words what two optimizers do differently. Whether it says so rightly is
tested with planted faults. A fault is described once, as a pattern of code, and is planted in every
rule that runs something of that form, if the rule then computes something else. The faulty rule is
compared with the rule. The outcome is *right* if exactly the fault is named; *unexplained* if no
variant of the rule reproduces the faulty rule, and that is what is said; *wrong* if anything else
is named.

Wrappers, such as Lookahead, are not in the table. Where both sides wrap the same rule, the
wrapper's own options and numbers are tried; all else in them is unexplained.
"""


def written(found: Iterable[tuple[Any, Any]]) -> str:
    """The page in Markdown, of rows and their outcomes."""
    outcomes = list(found)
    return "\n".join(_lines(outcomes)) + "\n"


def _lines(found: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    total = Counter(outcome.verdict for _, outcome in found)
    named = f"{100 * total['right'] / max(1, len(found)):.1f}".removesuffix(".0")
    yield INTRODUCTION
    yield (
        f"Of {len(found):,} faults {total['right']:,} were named rightly ({named} %), "
        f"{total['unexplained']} were unexplained, and {total['wrong']} named wrongly."
    )
    yield ""
    yield (
        f"Written by `python -m samestep.conformance.faults.planted` on {date.today()}, with "
        f"samestep {__version__}, NumPy {numpy.__version__} and Python {platform.python_version()}."
    )
    yield from ("", "## By kind", "")
    yield from _table("kind", _counted(found, lambda row: row.fault.kind))
    yield from ("", "## An example of every kind", "")
    yield from _examples(found)
    yield from ("", "## By rule", "")
    yield from _table("rule", _counted(found, lambda row: row.rule.__name__))
    yield from _others(found)


def _counted(found: Sequence[tuple[Any, Any]], key: Any) -> dict[str, Counter[str]]:
    counted: dict[str, Counter[str]] = {}
    for row, outcome in found:
        counted.setdefault(key(row), Counter())[outcome.verdict] += 1
    return counted


def _table(what: str, counted: Mapping[str, Counter[str]]) -> Iterator[str]:
    yield f"| {what} | faults | {' | '.join(VERDICTS)} |"
    yield "|---" + "|---:" * (len(VERDICTS) + 1) + "|"
    for name, counts in counted.items():
        numbers = " | ".join(str(counts[verdict]) for verdict in VERDICTS)
        yield f"| {name} | {counts.total()} | {numbers} |"


def _examples(found: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """The diagnosis of one fault of every kind, each of another rule where there are several."""
    shown: dict[str, tuple[Any, Any]] = {}
    told: Counter[str] = Counter()
    for kind in dict.fromkeys(row.fault.kind for row, _ in found):
        right = [
            pair for pair in found if pair[0].fault.kind == kind and pair[1].verdict == "right"
        ]
        if right:
            best = min(right, key=lambda pair: (told[pair[0].rule.__name__], len(pair[1].names)))
            told[best[0].rule.__name__] += 1
            shown[kind] = best
    yield "| kind | rule: fault | what is said of the copy |"
    yield "|---|---|---|"
    for kind, (row, outcome) in shown.items():
        said = ". ".join(_plain(sentence) for sentence in outcome.sentences)
        yield f"| {kind} | {row.rule.__name__}: {row.fault.name} | {said} |"


def _plain(sentence: str) -> str:
    return sentence.replace("|", "\\|")


def _others(found: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    for verdict in VERDICTS[1:]:
        rows = [row for row, outcome in found if outcome.verdict == verdict]
        if rows:
            yield from ("", f"## {verdict.capitalize()}", "")
            by_fault: dict[tuple[str, str], list[str]] = {}
            for row in rows:
                key = row.fault.kind, row.fault.name
                by_fault.setdefault(key, []).append(row.rule.__name__)
            for (kind, name), rules in by_fault.items():
                yield f"- {kind}: {name} ({', '.join(rules)})"
