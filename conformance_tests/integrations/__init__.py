"""samestep inside the tools that people train with: Lightning, Trainer, timm, Flax, Equinox, orbax.

``make test-integrations`` installs them and runs this folder; ``make test`` leaves it out. In every
tool our optimizer stands next to the framework's own, which the suite describes as the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from samestep import AdamW, Where, route, rules
from samestep.conformance.harness.settings import typical
from samestep.conformance.peers import Peer, dialects
from samestep.rule import Rule, registry
from samestep.wrapper import Wrapper

__all__ = ["OWN_WARNINGS", "agree", "kinds", "pairs", "same", "within"]

OWN_WARNINGS = ("ignore", r"error:::samestep\b")
"""Filters: what the tools warn of in themselves is theirs, what samestep causes is an error."""


def kinds() -> dict[str, Rule]:
    """One rule for each of what rules need, and a wrapper, with everything on.

    Where it takes no vectors, AdamW has those.
    """
    found: dict[str, Rule] = {}
    for name in rules.__all__:
        kind = "wrapper" if issubclass(registry[name], Wrapper) else registry[name].needs
        found.setdefault(str(kind), typical(registry[name]))
    return {
        kind: route((Where(min_ndim=2), rule), AdamW(lr=0.01)) if rule.min_ndim else rule
        for kind, rule in found.items()
    }


def pairs(like: str) -> dict[str, tuple[Rule, Peer]]:
    """Every rule that a library has too, as the library computes it, with all features on.

    Rules of matrices alone are left out, as the models have vectors.
    """
    plain = [
        peer
        for peer in dialects()[like].PEERS
        if not (issubclass(registry[peer.rule], Wrapper) or registry[peer.rule].min_ndim)
    ]
    return {
        peer.rule: (registry[peer.rule](like=like, **peer.settings[-1]), peer) for peer in plain
    }


def within(pair: tuple[Rule, Peer]) -> float:
    """How far the two of a pair may be apart after a training, as a part of the farthest move.

    The feedback through a model may enlarge the tolerance of a single trajectory by 100.
    """
    return 100 * pair[1].tolerance


def agree(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], first: Mapping[str, Any], tolerance: float
) -> None:
    """Both have moved from ``first`` to the same place, within a fraction of the farthest move.

    Args:
        ours: float64 arrays by name.
        theirs: the same of the other optimizer.
        first: where both began.
        tolerance: what may lie between them, as a part of the farthest move of an element.
    """
    assert ours.keys() == theirs.keys() == first.keys()
    for name, start in first.items():
        one, other, begin = (numpy.asarray(array) for array in (ours[name], theirs[name], start))
        assert one.dtype == other.dtype == numpy.float64, name
        moved = numpy.abs(other - begin).max()
        assert moved > 0, f"{name} has not moved"
        apart = numpy.abs(one - other).max() / moved
        assert apart <= tolerance, f"{name} differs by {apart:.2g} of the farthest move"


def same(some: Iterable[Any], others: Iterable[Any]) -> bool:
    """Whether all arrays are equal, bit for bit."""
    compared = zip(some, others, strict=True)
    return all(numpy.array_equal(numpy.asarray(one), numpy.asarray(two)) for one, two in compared)
