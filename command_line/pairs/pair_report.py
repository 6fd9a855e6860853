"""The report of ``samestep parity A B``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from samestep.command_line.report import (
    GAP,
    Block,
    Cards,
    Chart,
    Charts,
    Code,
    Curve,
    Details,
    Growth,
    Heading,
    Line,
    Report,
    Table,
    Tiles,
    Versions,
    Words,
    decimal,
    in_ulp,
)
from samestep.parity import Comparison, Subject

from .account import READABLE, Account

__all__ = ["AGREE", "DIFFER", "pair_report"]

AGREE, DIFFER = 0, 1
"""Exit codes."""
SCHEMA = 1
"""Raised when a key of the JSON changes its meaning or goes."""
NOT_GUESSED = """Nothing is guessed: a variant counts only if it reproduces every parameter after
every step, on two sets of gradients."""
HOW_FAR = """The largest difference of an element, relative to its largest size or change so far,
after each step, on a log scale. What lies within the green field is rounding."""
HOW = """Both start at the same parameters and are given the same recorded gradients, which change
sign, span six decades, and hold exact zeros. What each does is then looked for among variants of
the same rule in samestep: its options, its numbers, and what is often done wrong. Differences of a
parameter beyond {bound:g} are no rounding of {dtype}."""


def pair_report(account: Account) -> Report:
    """The report on a comparison of two optimizers."""
    a, b = (Words(name, side) for name, side in zip(account.names, "ab", strict=True))
    unknown = not account.agree and account.unexplained and not account.sides
    verdict = account.found.verdict
    return Report(
        title=(a, " and ", b, ": ", Words(verdict, f"strong {'good' if account.agree else 'bad'}")),
        headline=(a, " and ", b, f" {account.headline}."),
        top="samestep parity: two optimizers on the same gradients",
        badge="unexplained" if unknown else verdict,
        blocks=[*_summary(account), *_differences(account, a, b), *_distances(account, a, b)],
        data=_data(account),
        code=AGREE if account.agree else DIFFER,
    )


def _summary(account: Account) -> Iterator[Block]:
    """The verdict, where they part, and how far they get apart."""
    yield from (Line(s, indent=2, on="terminal") for s in account.found.sentences)
    yield GAP
    clues = [account.narrowly] if account.narrowly else []
    for sentence in (account.parting, account.size, *account.clues, *clues):
        yield Line(sentence, on="terminal")
    if not account.agree:
        yield Growth(account.found.growth[1:], account.found.bounds[1], on="terminal")
    yield Tiles(_tiles(account), on="page")


def _tiles(account: Account) -> list[tuple[str, str, str]]:
    found = account.found
    step, path = found.first or (None, "")
    ulp = max(found.ulps)
    units = f"{in_ulp(ulp)} ULP of {found.dtype}" if ulp < READABLE else "relative to the parameter"
    return [
        ("They part", "never" if step is None else f"step {step}", f"in {path}" if path else ""),
        ("Largest difference", decimal(found.distance), units),
        ("Bound", f"{found.bound:g}", "what rounding may do"),
        ("Compared", f"{found.steps} steps", f"in {found.dtype}"),
    ]


def _differences(account: Account, a: Words, b: Words) -> Iterator[Block]:
    """The differences, and what is left unexplained."""
    sides = account.sides
    if sides:
        rows = [(side.option, *(side.values or (side.a, side.b))) for side in sides]
        yield GAP
        yield Table(("option", str(a), str(b)), rows, title="What differs", on="terminal")
        yield Heading("What differs", on="page")
        yield Cards([_card(side, a, b) for side in sides], on="page")
    if account.unexplained:
        yield Heading("What is left" if sides else "Unexplained", on="page")
        for sentence in account.unexplained:
            yield Line(f"{sentence.removeprefix('unexplained: ')}.", on="page")
        yield from (Line(clue, on="page") for clue in account.clues)
        if not sides:
            yield Line(NOT_GUESSED, mark="quiet", on="page")
    yield from (Line(Words(text, "code"), on="page") for text in account.reproduced)
    if account.narrow:
        yield Heading(f"In {account.narrow.found.dtype}", on="page")
        yield from (Line(f"{sentence}.", on="page") for sentence in account.found.sentences)
        yield Charts(_charts(account.narrow), on="page")


def _card(side: Any, a: Words, b: Words) -> tuple[str, list[tuple[Words, str, str]]]:
    codes = [f"{side.option}={value}" for value in side.values or ()] or ["", ""]
    both = zip((a, b), (side.a, side.b), codes, strict=True)
    return side.option, [(who, text, code) for who, text, code in both if text]


def _distances(account: Account, a: Words, b: Words) -> Iterator[Block]:
    """The distances, the arguments of each, and how to repeat the comparison."""
    yield Heading("How far they are apart", on="page")
    yield Line(f"{HOW_FAR} {account.narrowly}", mark="quiet", on="page")
    if not account.agree:
        yield GAP
    yield Charts(_charts(account), on="page" if account.agree else "")
    left_out = [f"Left out: {path}, since {why}" for path, why in account.found.left_out.items()]
    yield from (Line(f"{text}.", mark="quiet", on="page") for text in left_out)
    yield Heading("What each was given", on="page")
    said = "The same numbers where both let them be chosen; for all else each has its own."
    yield Line(said, mark="quiet", on="page")
    numbers = account.numbers
    if numbers:
        yield GAP
    columns, rows = ("number", str(a), str(b)), [(one.name, one.a, one.b) for one in numbers]
    yield Table(columns, rows, title="What each was given", on="terminal")
    apart = {place: "apart" for place, one in enumerate(numbers) if one.apart}
    yield Table(("number", a, b), rows, marks=apart, on="page")
    if account.reproduced:
        yield GAP
    for text in (*account.reproduced, *left_out):
        yield Line(text, on="terminal")
    yield GAP
    yield Heading("Reproduce", on="page")
    yield Versions(account.environment)
    if account.command:
        yield Code(account.line)
    found = account.found
    how = HOW.format(bound=found.bound, dtype=found.dtype)
    yield Details("How it was compared", how, on="page")


def _charts(account: Account) -> list[Chart]:
    kinds = (("parameter", "Parameters", account.parameters), ("slot", "State", account.slots))
    return [_chart(account, *kind) for kind in kinds if kind[2]]


def _chart(account: Account, kind: str, title: str, curves: Sequence[Curve]) -> Chart:
    first = sorted(curves, key=lambda curve: (curve.parts is None, curve.parts, -curve.largest))
    columns = (kind, "parts at", "step 1", "largest")
    rows = [(c.name, c.when, decimal(c.values[1]), decimal(c.largest)) for c in first]
    about = f"Relative difference of each {kind} after each step, on a logarithmic scale"
    return Chart(title, about, first, Table(columns, rows, right=columns[1:]), account.found.bounds)


def _data(account: Account) -> dict[str, Any]:
    found = account.found
    return {
        "schema": SCHEMA,
        **_compared(found),
        "headline": " ".join((" and ".join(account.names), account.headline)),
        "explained": found.explained,
        "reasons": [vars(reason) for reason in found.reasons],
        "reproduced": account.reproduced,
        "narrow": None if found.narrow is None else _compared(found.narrow),
        "rule": None if found.rule is None else found.rule.__name__,
        "shared": found.shared,
        "own": found.own,
        "left_out": found.left_out,
        "environment": account.environment,
        "command": account.line,
    }


def _compared(found: Comparison) -> dict[str, Any]:
    curves: dict[str, dict[str, list[float]]] = {}
    for (slot, path), values in found.divergence.curves.items():
        curves.setdefault(slot, {})[path] = values
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "verdict": found.verdict,
        "sentences": found.sentences,
        "first": found.first,
        "distance": found.distance,
        "bound": found.bound,
        "bounds": found.bounds,
        "ulp": max(found.ulps),
        "dtype": found.dtype,
        "steps": found.steps,
        "growth": found.growth,
        "growth_ulp": found.ulps,
        "by_parameter": found.by_parameter,
        "curves": curves,
    }


def _side(one: Subject) -> Mapping[str, Any]:
    return {"name": one.name, "package": one.package, "arguments": one.arguments}
