"""Recipes: the route that people mean by the name of one rule.

rule = samestep.recipes.muon(model.named_parameters())
rule = samestep.recipes.scion(model.named_parameters())
rule = samestep.recipes.adam_mini(model.named_parameters(), heads=12)
rule = samestep.recipes.layerwise(model.named_parameters(), samestep.AdamW(lr=1e-3))
optimizer = samestep.torch.bind(rule, model.named_parameters())
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from .conditions import Where
from .creating import Names
from .groups import Parameter, Predicate, holds, parameter
from .kept import KEPT
from .routes import Route, route
from .rule import Rule, registry
from .schedules import Scaled
from .table import named

__all__ = ["EMBEDDINGS", "HEADS", "KEYS", "QUERIES", "adam_mini", "layerwise", "muon", "scion"]

NUMBER = re.compile(r"(|.*?[._])(\d+)(?=\.|$)")
"""The beginning of the path of a layer: a stem, and the first number that is a word of its own."""


def _words(*words: str) -> tuple[str, ...]:
    """Patterns of paths with one of the words, which is not the end of another word."""
    return tuple(f"{before}{word}*" for word in words for before in ("", "*[._]"))


EMBEDDINGS = ("*embed*", "*wte*", "*wpe*")
"""Patterns of the paths of embeddings: ``model.embed_tokens.weight``, ``Embed_0.embedding``."""
HEADS = (
    *("*lm_head*", "*unembed*", "*classifier*"),
    *("head", "head.*", "*.head", "*.head.*", "output", "output.*"),
)
"""Patterns of the paths of the last layer: ``lm_head.weight``, ``model.head.kernel``."""
QUERIES = _words("q_proj", "wq", "query")
"""Patterns of the paths of projections to queries."""
KEYS = _words("k_proj", "wk", "key")
"""Patterns of the paths of projections to keys."""


def muon(
    params: Any,
    hidden: Rule | None = None,
    other: Rule | None = None,
    *,
    embeddings: Names = EMBEDDINGS,
    head: Names = HEADS,
    show: bool = True,
) -> Route:
    """Muon for hidden matrices; AdamW for the head, for embeddings and for vectors.

    Vectors are what has one dimension or none, such as biases and norms; they do not decay.

        samestep.recipes.muon(params, samestep.NorMuon(lr=0.02), samestep.AdamW(lr=1e-3))

    Args:
        params: as for ``Rule.table``: pairs of a name and a tensor, or a tree of arrays.
        hidden: the rule of hidden matrices; ``Muon(lr=0.02, weight_decay=0.01)`` if None. For
            stacked layers it has ``groups`` with ``batch_axes``.
        other: the rule of everything else; if None it is AdamW with the numbers of the README of
            Muon's authors: ``AdamW(lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)``.
        embeddings: patterns of the paths of embeddings, or a predicate; None if there is none.
        head: the same of the last layer; None if there is none, as where it is the embedding.
        show: print the table of the parameters.

    Returns:
        A route for every framework.

    Raises:
        ValueError: no matrix is called like an embedding, or like the head; or groups of ``other``
            decay a vector.
    """
    params = list(params) if hasattr(params, "__next__") else params
    if hidden is None:
        hidden = registry["Muon"](lr=0.02, weight_decay=0.01)
    if other is None:
        other = registry["AdamW"](lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01)
    matrices = _matrices("muon", params)
    asked = {"head": head, "embeddings": embeddings}
    apart = [_chosen(f"muon: {name}", given, matrices) for name, given in asked.items()]
    made = route(
        (Where(max_ndim=1), other.replace(weight_decay=0.0)),
        *((predicate, other) for predicate in apart if predicate is not None),
        (Where(min_ndim=2), hidden),
    )
    _refuse_decay("muon", made, params)
    if show:
        print(made.table(params))
    return made


def scion(
    params: Any,
    rule: Rule | None = None,
    *,
    head_radius: float = 3000.0,
    embeddings: Names = EMBEDDINGS,
    head: Names = HEADS,
    show: bool = True,
) -> Route:
    """Scion with the norm of each layer: of signs for the head, of columns for embeddings.

    Hidden matrices have the norm of the rule, which is the spectral one, and vectors the root mean
    square. Where the head is the embedding, the authors take signs: ``head="*wte*",
    embeddings=None``.

    Args:
        params: as for ``Rule.table``: pairs of a name and a tensor, or a tree of arrays.
        rule: the numbers of hidden matrices; if None those of the authors for a GPT of 124 million
            parameters: ``Scion(lr=2**-12, radius=50.0)``, and ``weight_decay=0`` is unconstrained.
        head_radius: the radius of the head.
        embeddings: patterns of the paths of embeddings, or a predicate; None if there is none. They
            have a row for each word, as in torch, Flax and MLX.
        head: the same of the last layer; None if there is none.
        show: print the table of the parameters.

    Returns:
        A route for every framework.

    Raises:
        ValueError: no matrix is called like an embedding, or like the head.
    """
    params = list(params) if hasattr(params, "__next__") else params
    rule = registry["Scion"](lr=2**-12, radius=50.0) if rule is None else rule
    asked = {
        "head": (head, rule.replace(norm="sign", radius=head_radius)),
        "embeddings": (embeddings, rule.replace(norm="column", layout="io")),
    }
    matrices = _matrices("scion", params)
    roles = [
        (predicate, own)
        for name, (given, own) in asked.items()
        if (predicate := _chosen(f"scion: {name}", given, matrices)) is not None
    ]
    made = route((Where(max_ndim=1), rule), *roles, rule)
    if show:
        print(made.table(params))
    return made


def adam_mini(
    params: Any,
    heads: int,
    key_heads: int | None = None,
    rule: Rule | None = None,
    *,
    queries: Names = QUERIES,
    keys: Names = KEYS,
    show: bool = True,
) -> Route:
    """Adam-mini of a transformer: blocks are the heads of queries and keys, and the rows of others.

    Rows are those of the outputs: tokens of embeddings and of the last layer, neurons elsewhere.
    Vectors are one block each, and do not decay.

    Args:
        params: as for ``Rule.table``: pairs of a name and a tensor, or a tree of arrays.
        heads: the number of heads of queries.
        key_heads: that of keys, where several heads of queries share one; else the same.
        rule: the numbers; ``AdamMini(lr=1e-3, weight_decay=0.1)`` if None.
        queries: patterns of the paths of projections to queries, or a predicate.
        keys: the same of keys.
        show: print the table of the parameters.

    Returns:
        A route for every framework.

    Raises:
        ValueError: no matrix is called like a projection to queries, or to keys; or its rows are
            not so many heads; or groups of ``rule`` decay a vector.
    """
    params = list(params) if hasattr(params, "__next__") else params
    rule = registry["AdamMini"](lr=1e-3, weight_decay=0.1) if rule is None else rule
    matrices = _matrices("adam_mini", params)
    asked = {"queries": (queries, heads), "keys": (keys, heads if key_heads is None else key_heads)}
    blocks = [
        (predicate, rule.replace(per="head", heads=count))
        for name, (given, count) in asked.items()
        if (predicate := _chosen(f"adam_mini: {name}", given, matrices)) is not None
    ]
    made = route((Where(max_ndim=1), rule.replace(weight_decay=0.0)), *blocks, rule)
    _refuse_decay("adam_mini", made, params)
    table = made.table(params)
    if show:
        print(table)
    return made


def layerwise(
    params: Any,
    rule: Rule,
    decay: float = 0.75,
    *,
    stem: str | None = None,
    embeddings: Names = EMBEDDINGS,
) -> Rule:
    """A rule whose learning rate is smaller the nearer a layer is to the inputs.

        lr of layer l of n = lr decay^(n + 1 - l);  lr decay^(n + 1) of embeddings;  else lr

    Layers count from 1, in the order of the first number in their paths, such as ``blocks.3.attn``,
    ``h.3`` or ``Block_3``. The head and the last norm have ``lr``. Schedules are given to the rule,
    as ``lr``: schedulers of torch do not change numbers of groups.

        samestep.recipes.layerwise(params, samestep.AdamW(lr=warmup_cosine(1e-3, 100, 1000)))

    Source: Clark et al., "ELECTRA", arXiv 2003.10555; Bao et al., "BEiT", arXiv 2106.08254.

    Args:
        params: as for ``Rule.table``: pairs of a name and a tensor, or a tree of arrays.
        rule: a rule with an ``lr``.
        decay: the factor from a layer to the one before it, in (0, 1].
        stem: the path before the number, such as ``"encoder.layer."``, where several parts of the
            model have numbers.
        embeddings: patterns of the paths of embeddings, or a predicate; None if there is none.

    Returns:
        The rule with a group for each layer, for every framework.

    Raises:
        TypeError: the rule has no ``lr`` of its own.
        ValueError: no path has a number, or several parts of the model have some; nothing is called
            like an embedding; groups of the rule have numbers; ``decay`` is out of range.
    """
    if "lr" not in rule.hypers:
        raise TypeError(f"recipes.layerwise: {rule!r} has no lr; give layers to the rules inside")
    if not 0 < decay <= 1:
        raise ValueError(f"recipes.layerwise(decay={decay!r}): decay must be in (0, 1]")
    if any(changes.keys() - {*KEPT} for _, changes in rule.groups.groups):
        raise ValueError(f"recipes.layerwise: groups of {rule.name} have numbers, as layers do")
    found = [parameter(path, array.shape) for path, array in named("recipes.layerwise", params)]
    numbers = _layers(found, stem)
    lowest = _chosen("layerwise: embeddings", embeddings, found)
    layers = [] if lowest is None else [(lowest, 0)]
    for place, (_, prefix) in enumerate(sorted(numbers.items()), 1):
        own = [Where(path=f"{before}{end}") for before in prefix for end in ("", ".*")]
        layers.append((reduce(or_, own), place))
    lr = rule.hypers["lr"]
    groups = [(one, {"lr": _times(lr, decay ** (len(numbers) + 1 - at))}) for one, at in layers]
    return rule.replace(groups=(*rule.groups.groups, *groups))


def _layers(found: Sequence[Parameter], stem: str | None) -> dict[int, set[str]]:
    """By the number of a layer, the beginnings of the paths of its parameters."""
    stems, numbers = set[str](), dict[int, set[str]]()
    for each in found:
        match = NUMBER.match(each.path)
        if match is not None and stem in (None, match[1]):
            stems.add(match[1])
            numbers.setdefault(int(match[2]), set()).add(match[1] + match[2])
    if len(stems) != 1:
        said = f"several stems, {', '.join(map(repr, sorted(stems)))}" if stems else "no number"
        paths = ", ".join(each.path for each in found[:6])
        raise ValueError(
            f"recipes.layerwise: the paths of layers have {said}; the paths are {paths}; give "
            'stem=, the path before the number, such as "blocks." of blocks.3.weight'
        )
    return numbers


def _times(lr: Any, factor: float) -> Any:
    return Scaled(lr, factor) if callable(lr) else lr * factor


def _refuse_decay(recipe: str, made: Route, params: Any) -> None:
    """Raise if groups of a rule decay a vector, which by the recipe does not decay."""
    for path, array in named(f"recipes.{recipe}", params):
        decay = made.of(path, array.shape).hypers["weight_decay"] if len(array.shape) < 2 else 0
        if decay:
            raise ValueError(
                f"recipes.{recipe}: vectors do not decay, and groups=... gives {path} "
                f"weight_decay={decay!r}; leave weight_decay out of these groups, or make the "
                "route with samestep.route"
            )


def _matrices(recipe: str, params: Any) -> list[Parameter]:
    """The parameters with two dimensions or more."""
    found = [parameter(path, array.shape) for path, array in named(f"recipes.{recipe}", params)]
    return [each for each in found if each.ndim > 1]


def _chosen(name: str, given: Names, matrices: Sequence[Parameter]) -> Predicate | None:
    """The predicate of some matrices, of those patterns that fit any, for ``recipe: argument``."""
    if given is None or callable(given):
        predicates, said = [given] if given else [], repr(given)
    else:
        patterns = (given,) if isinstance(given, str) else tuple(given)
        predicates, said = [Where(path=path) for path in patterns], ", ".join(patterns)
    fitting = [p for p in predicates if any(holds(p, p, matrix) for matrix in matrices)]
    if given is not None and not fitting:
        paths = ", ".join(matrix.path for matrix in matrices[:6]) or "none"
        more = " and others" if len(matrices) > 6 else ""
        recipe, _, name = name.partition(": ")
        raise ValueError(
            f"recipes.{recipe}: nothing is called as {name} (by {said}); there are {paths}"
            f"{more}; give {name}=, a pattern of the path, or {name}=None if there is none"
        )
    return reduce(or_, fitting) if fitting else None
