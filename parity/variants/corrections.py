"""Deviations in the correction of averages for their start at zero, and in the place of eps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy

from samestep.parts.moments import gathered, root
from samestep.quirks import calls, with_calls, with_coefficients
from samestep.rule import Rule
from samestep.vocabulary import debias

from .deviation import Deviation, Least, first_coefficients, of_debias, of_gathered

__all__ = ["of_corrections", "of_eps"]


def of_corrections(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations in ``1 - beta^t``."""
    if not calls(rule, debias):
        return
    now = first_coefficients(rule)
    yield from _of_whole(rule, now)
    yield from _of_other_steps()
    yield from _of_single_averages(rule, now)
    if "unbias_m" in now:
        yield Deviation(
            "m times its correction",
            "multiplies m by 1 - beta1^t",
            "divides m by 1 - beta1^t",
            methods=with_coefficients(lambda rule, s: {**s, "unbias_m": 1 / s["unbias_m"]}),
        )
    if calls(rule, root):
        yield Deviation(
            "v corrected outside the root",
            "divides the root by 1 - beta^t, and not the mean under it",
            "divides the mean under the root by 1 - beta^t",
            methods=_of_root(lambda now, rule, xp, gained: now(rule, xp, gained**2)),
        )


def _of_whole(rule: type[Rule], now: dict[str, Any]) -> Iterator[Deviation]:
    if "unbias_m" in now:
        yield Deviation(
            "m uncorrected",
            "does not correct m for its start at zero",
            "corrects m by 1 - beta1^t",
            methods=with_coefficients(lambda rule, s: {**s, "unbias_m": 1.0}),
        )
    if calls(rule, root) and "bias_correction" in rule.fields():
        yield Deviation(
            "v uncorrected",
            "does not correct the mean under the root for its start at zero",
            "corrects the mean under the root by 1 - beta^t",
            methods=_of_root(lambda now, rule, xp, gained: now(rule, xp, 1.0)),
        )
    yield Deviation(
        "correction in float32",
        "computes 1 - beta^t in float32",
        "computes 1 - beta^t in float64",
        methods=of_debias(_in_float32),
        loose=True,
    )
    yield Deviation(
        "beta in float32",
        "computes 1 - beta^t with beta rounded to float32",
        "computes 1 - beta^t in float64",
        methods=of_debias(lambda debias, beta, t: debias(float(numpy.float32(beta)), t)),
    )
    if {"r", "trusted"} <= now.keys():
        yield Deviation(
            "rho in float32",
            "computes rho and 1 - beta^t in float32",
            "computes rho and 1 - beta^t in float64",
            methods=_rho_in_float32,
            loose=True,
        )


def _in_float32(debias: Any, beta: Any, t: Any) -> Any:
    single = numpy.float32
    return float(single(1) - single(beta) ** single(t))


def _rho_in_float32(cls: Any) -> dict[str, Any]:
    single = numpy.float32

    def coefficients(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        beta, limit = single(self.betas[1]), 2 / (1 - self.betas[1]) - 1
        power = beta ** single(t)
        rho = single(limit) - single(2 * t) * power / (single(1) - power)
        found = {**cls.coefficients(self, xp, t), "trusted": rho >= self.threshold}
        if found["trusted"]:
            square = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
            found["r"] = float(numpy.sqrt(square))
        return found

    return {**of_debias(_in_float32)(cls), "coefficients": coefficients}


def _of_other_steps() -> Iterator[Deviation]:
    for by, word in ((1, "later"), (-1, "earlier")):
        yield Deviation(
            f"correction one step {word}",
            f"corrects as if it were one step {word}",
            "corrects by the steps taken, this one included",
            methods=of_debias(partial(_shifted, by)),
        )
    yield Deviation(
        "correction of the first step",
        "divides by 1 - beta in every step",
        "divides by 1 - beta^t",
        methods=of_debias(lambda debias, beta, t: debias(beta, 1)),
    )


def _shifted(by: int, debias: Any, beta: Any, t: Any) -> Any:
    return debias(beta, max(t + by, 1))


def _of_single_averages(rule: type[Rule], now: dict[str, Any]) -> Iterator[Deviation]:
    fields = rule.fields()
    if "betas" in fields and calls(rule, gathered):
        known = [("unbias_m" in now), calls(rule, root) and len(fields["betas"].default) == 2]
        for place in range(len(fields["betas"].default)):
            if not any(known[place : place + 1]):
                yield Deviation(
                    f"beta{place + 1} uncorrected",
                    f"does not correct its average with beta{place + 1} for its start at zero",
                    f"corrects its average with beta{place + 1} by 1 - beta{place + 1}^t",
                    methods=of_gathered(partial(_without, place)),
                )
        yield Deviation(
            "corrections swapped",
            "corrects its first average with beta2 and its second with beta1",
            "corrects every average with its own beta",
            methods=of_gathered(_exchanged),
        )
    if "unbias" in now:
        yield Deviation(
            "mean uncorrected",
            "does not correct the mean of the gradient for its start at zero",
            "corrects the mean of the gradient for its start at zero",
            methods=with_coefficients(lambda rule, s: {**s, "unbias": 1.0}),
        )


def _without(place: int, gathered: Any, rule: Any, beta: Any, t: Any) -> Any:
    return 1.0 if beta == rule.betas[place] else gathered(beta, t)


def _exchanged(gathered: Any, rule: Any, beta: Any, t: Any) -> Any:
    first, second = rule.betas[:2]
    return gathered({first: second, second: first}.get(beta, beta), t)


def of_eps(rule: type[Rule]) -> Iterator[Deviation]:
    """Deviations in the place of eps."""
    now = first_coefficients(rule)
    if "eps" not in now or isinstance(now["eps"], tuple):
        return
    yield Deviation(
        "eps as a bound",
        "takes eps = {eps:g} as the least value of the divisor",
        "adds eps = {eps:g}",
        methods=with_coefficients(_bounded),
    )
    if "eps_at" not in rule.fields():
        yield Deviation(
            "eps beside the root",
            "adds eps = {eps:g} to the root",
            "adds eps = {eps:g} under the root",
            methods=with_coefficients(lambda rule, s: {**s, "eps": _Beside(s["eps"])}),
        )
    elif "inside" in (rule.fields()["eps_at"].choices or ()) and calls(rule, root):  # type: ignore[union-attr]
        yield Deviation(
            "eps under the root uncorrected",
            "adds eps = {eps:g} to the mean under the root before its correction",
            "adds eps = {eps:g} to the mean under the root after its correction",
            methods=_of_root(_under_uncorrected),
        )


def _of_root(change: Any) -> Any:
    """Other coefficients of a root: ``change(root, rule, xp, gathered)``."""

    def other(now: Any) -> Any:
        return lambda rule, xp, gathered=1.0, **own: change(partial(now, **own), rule, xp, gathered)

    return with_calls({root: other})


def _under_uncorrected(now: Any, rule: Any, xp: Any, gathered: Any) -> dict[str, Any]:
    found: dict[str, Any] = now(rule, xp, gathered)
    return {**found, "under": tuple(term / gathered for term in found["under"])}


class _Beside(Least):
    """A number that, when it is added to an array, is added to the root of the array instead."""

    def __radd__(self, other: Any) -> Any:
        return (numpy.sqrt(other) + self.value) ** 2


def _bounded(rule: Rule, s: dict[str, Any]) -> dict[str, Any]:
    root = s.get("root")
    if not isinstance(root, dict):
        return {**s, "eps": Least(s["eps"])}
    place = "beside" if root["beside"] else "under"
    return {**s, "root": {**root, place: tuple(map(Least, root[place]))}}
