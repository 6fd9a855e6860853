"""The routes of ``samestep.recipes``, in every framework, and the clip of attention's weights."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy
import pytest

import samestep
from samestep import Where, qk_clip, recipes
from samestep.parity.backend import backends

SHAPES = {
    "transformer.wte.weight": (7, 4),
    "transformer.h.0.attn.weight": (12, 4),
    "transformer.h.0.attn.bias": (12,),
    "transformer.h.0.norm.weight": (4,),
    "lm_head.weight": (7, 4),
}
EXPECTED = ["AdamW", "Muon", "AdamW", "AdamW", "AdamW"]


def arrays(seed: int = 0) -> dict[str, numpy.ndarray]:
    noise = numpy.random.default_rng(seed)
    return {path: noise.normal(size=shape) for path, shape in SHAPES.items()}


def test_hidden_matrices_are_muons_and_all_else_is_adamws(capsys: Any) -> None:
    rule = recipes.muon(arrays())
    assert [rule.of(path, shape).name for path, shape in SHAPES.items()] == EXPECTED
    printed = capsys.readouterr().out
    assert printed == rule.table(arrays()) + "\n"
    assert "fits none" not in printed and "Where(path='*wte*')" in printed
    decays = [rule.of(path, shape).hypers["weight_decay"] for path, shape in SHAPES.items()]
    assert decays == [0.01, 0.01, 0.0, 0.0, 0.01]
    own = recipes.muon(arrays(), samestep.NorMuon(), samestep.Lion(), show=False)
    names = [own.of(path, shape).name for path, shape in SHAPES.items()]
    assert names == [name.replace("AdamW", "Lion").replace("Muon", "NorMuon") for name in EXPECTED]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("recipe", ["muon", "scion"])
@pytest.mark.parametrize(
    "library", ["torch", "mlx", pytest.param("jax", marks=pytest.mark.thorough)]
)
def test_every_framework_takes_the_step_of_numpy(library: str, recipe: str) -> None:
    pytest.importorskip(f"samestep.{library}")
    hidden = samestep.registry[recipe.capitalize()](lr=0.02, layout="oi")
    rule = getattr(recipes, recipe)(arrays(), hidden, show=False)
    grads, found = arrays(1), {}
    for backend in (backends()["numpy"], backends()[library]):
        run = backend.start(rule, arrays(), "float32")
        run.step(grads)
        found[backend.name] = {path: backend.numpy(p) for path, p in run.params().items()}
    for path, expected in found.pop("numpy").items():
        (other,) = found.values()
        assert numpy.allclose(other[path], expected, rtol=0, atol=1e-6), path
        assert not numpy.allclose(expected, arrays()[path], rtol=0, atol=1e-6)


def test_every_layer_has_the_norm_of_scion_that_suits_it(capsys: Any) -> None:
    params = {path: 0 * array for path, array in arrays().items()}
    rule = recipes.scion(params, samestep.Scion(lr=0.5, radius=2.0, layout="oi"), head_radius=8.0)
    assert capsys.readouterr().out == rule.table(params) + "\n"
    assert rule.of("lm_head.bias", (7,)).hypers["radius"] == 2.0  # a vector, as every other
    found, _ = rule.update(arrays(1), params, rule.init(params))
    words, attention, bias, scale, head = found.values()
    assert numpy.allclose(numpy.linalg.norm(words, axis=1), 4**0.5)  # of one word, times lr radius
    size = numpy.linalg.norm(attention, 2) / (12 / 4) ** 0.5
    assert 0.7 < size < 1.2  # of the iteration, whose singular values are near 1
    assert all(numpy.allclose(numpy.mean(x * x), 1) for x in (bias, scale))
    assert numpy.array_equal(head, -numpy.sign(arrays(1)["lm_head.weight"]) * 0.5 * 8 / 4)
    with pytest.raises(ValueError, match=r"recipes\.scion: nothing is called as head"):
        recipes.scion({"w": numpy.ones((2, 2))})


def test_the_names_of_flax_and_llama_are_known() -> None:
    for embedding, head in [
        ("Embed_0.embedding", "head.kernel"),
        ("tok_embeddings.weight", "output.weight"),
        ("model.embed_tokens.weight", "classifier.weight"),
    ]:
        params = {embedding: numpy.ones((7, 4)), head: numpy.ones((4, 7))}
        params["block.attention.output.kernel"] = numpy.ones((4, 4))
        rule = recipes.muon(params, show=False)
        assert [rule.of(p, (4, 4)).name for p in params] == ["AdamW", "AdamW", "Muon"]


@pytest.mark.parametrize(
    ("missing", "given", "words"),
    [
        (
            "lm_head.weight",
            {},
            r"nothing is called as head .*\*lm_head\*.*transformer.wte.weight",
        ),
        ("transformer.wte.weight", {}, "nothing is called as embeddings"),
        ("", {"head": "*.final.*"}, r"nothing is called as head \(by \*\.final\.\*\)"),
        ("", {"embeddings": Where(path="x")}, r"as embeddings \(by Where\(path='x'\)\)"),
    ],
)
def test_a_model_without_a_name_that_is_known_is_refused(missing, given, words) -> None:
    params = {path: array for path, array in arrays().items() if path != missing}
    with pytest.raises(ValueError, match=words) as caught:
        recipes.muon(params, show=False, **given)
    assert "=None if there is none" in str(caught.value)


def test_what_there_is_none_of_is_said_so() -> None:
    params = arrays()
    del params["lm_head.weight"]
    rule = recipes.muon(params, head=None, show=False)
    assert rule.of("transformer.wte.weight", (7, 4)).name == "AdamW"
    rule = recipes.muon(params, head=None, embeddings=None, show=False)
    assert rule.of("transformer.wte.weight", (7, 4)).name == "Muon"
    torch = pytest.importorskip("torch")
    with pytest.raises(samestep.groups.NamelessError, match="has no name"):
        recipes.muon(torch.nn.Linear(2, 2).parameters())


@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy", "mlx.core"])
def test_the_logits_of_a_head_are_held_at_the_threshold(library: str) -> None:
    pytest.importorskip(library)
    xp: Any = import_module(library)
    noise = numpy.random.default_rng(0)
    x, q, k = (noise.normal(size=shape).astype("float32") for shape in [(6, 8), (12, 8), (12, 8)])

    def largest(q: Any, k: Any) -> Any:
        one, other = ((x @ numpy.asarray(w).T).reshape(6, 3, 4) for w in (q, k))
        return numpy.einsum("ihd,jhd->hij", one, other).max(axis=(1, 2))

    before = largest(q, k)
    threshold = float(numpy.sort(before)[1]) - 0.5  # so that one head of three is left alone
    array = getattr(xp, "array", None) or xp.tensor
    given = [array(a) for a in (q, k, before)]
    clipped = [qk_clip(w, given[2], threshold=threshold) for w in given[:2]]
    assert all(isinstance(w, type(given[0])) for w in clipped)
    after = largest(*clipped)
    assert numpy.allclose(after, numpy.minimum(before, threshold), rtol=1e-5)
    assert numpy.array_equal(numpy.asarray(given[0]), q)
    turned = qk_clip(array(numpy.ascontiguousarray(q.T)), given[2], threshold=threshold, axis=-1)
    assert numpy.allclose(numpy.asarray(turned).T, numpy.asarray(clipped[0]), rtol=1e-6)


def test_keys_that_heads_share_are_held_by_the_largest_logit_of_these() -> None:
    logits = numpy.array([400.0, 50.0, 100.0, numpy.nan, numpy.inf, 1.0])
    keys = qk_clip(numpy.ones((6, 2)), logits, heads=3)
    assert numpy.array_equal(keys[:, 0], [0.5, 0.5, 1.0, 1.0, 1.0, 1.0])
    queries = qk_clip(numpy.ones((6, 2)), logits, power=1.0)
    assert numpy.array_equal(queries[:, 0], [0.25, 1.0, 1.0, 1.0, 1.0, 1.0])


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 heads do not divide the 12 outputs of a weight"):
        qk_clip(numpy.ones((12, 8)), numpy.ones(5))
    with pytest.raises(ValueError, match="2 heads do not divide the 3 heads of queries"):
        qk_clip(numpy.ones((12, 8)), numpy.ones(3), heads=2)
    with pytest.raises(ValueError, match=r"max_logits has the shape \(2, 3\)"):
        qk_clip(numpy.ones((12, 8)), numpy.ones((2, 3)))
    with pytest.raises(ValueError, match="threshold must be > 0"):
        qk_clip(numpy.ones((12, 8)), numpy.ones(3), threshold=0.0)
    with pytest.raises(ValueError, match="power must be >= 0"):
        qk_clip(numpy.ones((12, 8)), numpy.ones(3), power=-1.0)


def test_logits_beyond_the_weights_numbers_are_clipped() -> None:
    held = qk_clip(numpy.ones((1, 1), "float32"), numpy.array([1e41]), power=1.0)
    assert held.dtype == numpy.float32 and float(held[0, 0]) == pytest.approx(1e-39, rel=1e-6)


def test_heads_of_queries_and_of_keys_are_blocks_of_adam_mini(capsys: Any) -> None:
    shapes = {"wte.weight": (7, 4), "q_proj.weight": (8, 4), "k_proj.weight": (4, 4), "norm": (4,)}
    params = {path: numpy.ones(shape) for path, shape in shapes.items()}
    rule = recipes.adam_mini(params, 4, 2, samestep.AdamMini(lr=0.1, weight_decay=0.1, layout="oi"))
    assert capsys.readouterr().out == rule.table(params) + "\n"
    own = [rule.of(path, shape).hypers for path, shape in shapes.items()]
    assert [(o["per"], o["heads"], o["weight_decay"]) for o in own] == [
        ("row", 1, 0.1),
        ("head", 4, 0.1),
        ("head", 2, 0.1),
        ("row", 1, 0.0),
    ]
    state = rule.init(params)
    assert state.slots["v"]["q_proj.weight"].shape == (8, 1)
    with pytest.raises(ValueError, match=r"which are not 3 heads of as many rows"):
        recipes.adam_mini(params, 3, 2, samestep.AdamMini(layout="oi"), show=False)
    with pytest.raises(ValueError, match=r"recipes\.adam_mini: nothing is called as queries"):
        recipes.adam_mini({"w": numpy.ones((2, 2))}, 2)
    with pytest.raises(ValueError, match="heads=0"):
        recipes.adam_mini(params, 4, 0, show=False)
    others = {name.replace("q_proj", "seq_proj"): array for name, array in params.items()}
    with pytest.raises(ValueError, match=r"nothing is called as queries"):
        recipes.adam_mini(others, 4, 2, show=False)


def test_a_group_that_decays_a_vector_is_refused() -> None:
    other = samestep.AdamW(groups=[(Where(path="*norm*"), {"weight_decay": 0.5})])
    with pytest.raises(ValueError, match=r"gives transformer\.h\.0\.norm\.weight weight_decay=0.5"):
        recipes.muon(arrays(), other=other, show=False)


LAYERED = {
    "patch_embed.weight": 0.0625,
    "blocks.0.mlp.0.weight": 0.125,
    "blocks.2.norm": 0.25,
    "blocks.10.norm": 0.5,
    "norm.weight": 1.0,
    "head.weight": 1.0,
}


@pytest.mark.parametrize("lr", [0.1, samestep.schedules.CosineDecay(0.1, 10)])
@pytest.mark.parametrize("around", [samestep.ClipNorm, lambda rule: rule])
def test_layers_near_the_inputs_learn_more_slowly(lr: Any, around: Any) -> None:
    params = {path: numpy.ones((2, 2)) for path in LAYERED}
    layout = [(Where(path="head*"), {"layout": "io"})]
    rule = around(samestep.AdaMuon(lr=lr, groups=layout))
    layered = recipes.layerwise(params, rule, 0.5)
    for path, share in LAYERED.items():
        own = layered.of(path, (2, 2))
        rate = own.hypers["lr"]
        assert [rate(t) if callable(rate) else rate for t in (0, 3, 10)] == pytest.approx(
            [share * (lr(t) if callable(lr) else lr) for t in (0, 3, 10)], rel=1e-14
        )
        assert own.hypers["layout"] == ("io" if path == "head.weight" else None)


def test_layers_that_are_not_known_are_asked_about() -> None:
    rule, ones = samestep.AdamW(), numpy.ones(2)
    several = {"encoder.0.w": ones, "encoder.1.w": ones, "decoder.0.w": ones, "embed": ones}
    with pytest.raises(ValueError, match=r"several stems, 'decoder\.', 'encoder\.';.*give stem="):
        recipes.layerwise(several, rule)
    layered = recipes.layerwise(several, rule.replace(lr=1.0), 0.5, stem="encoder.")
    rates = {path: layered.of(path, (2,)).hypers["lr"] for path in several}
    assert rates == {"encoder.0.w": 0.25, "encoder.1.w": 0.5, "decoder.0.w": 1.0, "embed": 0.125}
    with pytest.raises(ValueError, match="no number; the paths are w, embed; give stem="):
        recipes.layerwise({"w": ones, "embed": ones}, rule)
    with pytest.raises(ValueError, match="nothing is called as embeddings"):
        recipes.layerwise({"0.w": ones}, rule)
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\]"):
        recipes.layerwise(several, rule, 0.0)
    with pytest.raises(ValueError, match="groups of AdamW have numbers"):
        recipes.layerwise(several, samestep.AdamW(groups=[(Where(), {"lr": 0.5})]))
    with pytest.raises(TypeError, match=r"route.* has no lr"):
        recipes.layerwise(several, samestep.route(rule))
