"""Names of parameters: refused where there are none, and predicates that choose nothing."""

from __future__ import annotations

import warnings

import numpy
import pytest

import samestep
from samestep import AdamW, Lion, Lookahead, Where, route

MATRIX, VECTOR = numpy.ones((3, 2), "float32"), numpy.ones(3, "float32")
ON_NAMES = {
    "mask": AdamW(mask=lambda parameter: "embed" in parameter.path),
    "the predicate of group 0": AdamW(groups=[(~Where(path="embed*"), {"lr": 1.0})]),
    "the predicate of route 0": Lookahead(route((Where(path="embed*"), Lion()), AdamW())),
}


def numpy_init(rule, params):
    rule.init(params)


def jax_init(rule, params):
    jax = pytest.importorskip("jax")
    samestep.jax.bind(rule).init(jax.tree.map(jax.numpy.asarray, params))


def mlx_init(rule, params):
    mx = pytest.importorskip("mlx.core")
    optimizer = samestep.mlx.bind(rule)
    if not isinstance(params, dict):
        return optimizer.init_single(mx.array(params), {})
    arrays = {name: mx.array(value) for name, value in params.items()}
    optimizer.init(arrays)
    return optimizer.apply_gradients(arrays, arrays)


def torch_init(rule, params):
    torch = pytest.importorskip("torch")
    named = isinstance(params, dict)
    pairs = params.items() if named else [("", params)]
    tensors = [(name, torch.tensor(value)) for name, value in pairs]
    samestep.torch.bind(rule, tensors if named else [tensor for _, tensor in tensors])


BEGUN = pytest.mark.parametrize("begin", [numpy_init, jax_init, mlx_init, torch_init])


@BEGUN
@pytest.mark.parametrize("what", ON_NAMES)
def test_a_predicate_on_names_is_refused_where_there_is_no_name(begin, what):
    with pytest.raises(ValueError, match=rf"{what}: .*parameter.* has no name, .* give names: "):
        begin(ON_NAMES[what], MATRIX)


@pytest.mark.parametrize(
    "ask", [lambda p: p.path, lambda p: p[0], lambda p: p[:1][0], lambda p: next(iter(p))]
)
def test_a_name_is_refused_however_it_is_asked_for(ask):
    rule = AdamW(mask=lambda p: "embed" in ask(p))
    with pytest.raises(ValueError, match="has no name"):
        rule.init(VECTOR)
    AdamW(mask=lambda p: p.shape == p[1] and p.ndim == 1).init(VECTOR)


@BEGUN
def test_a_predicate_that_chooses_nothing_is_warned_of_once_in_every_framework(begin):
    """At the caller's line, and the table says the same. A mask that chooses all is as it was."""
    rule = route(
        (Where(min_ndim=2) & ~Where(path="*embed*"), Lion()),
        (Where(path="w*"), AdamW(mask=lambda p: True)),
        AdamW(groups=[(Where(path="B"), {"lr": 1.0}), (lambda p: True, {})]),
    )
    params = {"w": MATRIX, "x": VECTOR}
    said = [
        "route: the predicate of route 0: Where(path='*embed*') in it fits none of the 2 "
        "parameters (w, x)",
        "route: the predicate of route 1, Where(path='w*'), takes none of the 2 parameters "
        "(w, x); what it fits, an earlier predicate has taken",
        "AdamW: the predicate of group 0, Where(path='B'), fits none of the 1 parameters (x)",
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        begin(rule, params)
    assert [str(warning.message) for warning in caught] == said
    assert {warning.filename for warning in caught} == {__file__}
    assert rule.table(params).splitlines()[-3:] == said


@pytest.mark.parametrize("begin", [numpy_init, jax_init, torch_init])
def test_places_in_a_list_are_no_names(begin):
    rule = AdamW(weight_decay=0.1, mask=lambda p: "bias" not in p.path)
    if begin is torch_init:
        torch = pytest.importorskip("torch")
        with pytest.raises(ValueError, match="has no name"):
            samestep.torch.bind(rule, [torch.ones(2), torch.ones(2)])
        return
    for params in ([MATRIX, VECTOR], (VECTOR, [MATRIX, VECTOR])):
        with pytest.raises(ValueError, match=r"parameter [01](\.0)? has no name, .* or a list"):
            begin(rule, params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        begin(rule, [{"w": MATRIX, "bias": VECTOR}])


def test_a_mask_that_asks_for_names_and_excludes_nothing_is_warned_of():
    params = {"w": MATRIX, "bias": VECTOR}
    with pytest.warns(UserWarning, match=r"mask, <lambda>, asks for names and excludes none of"):
        AdamW(mask=lambda p: "bais" not in p.path).init(params)
    with pytest.warns(UserWarning, match=r"mask, Where\(path='\*'\), asks for names and excludes"):
        AdamW(mask=Where(path="*")).init(params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AdamW(mask=lambda p: p.ndim > 0).init(params)
        AdamW(mask=lambda p: "bias" not in p.path).init(params)
        AdamW(groups=[(lambda p: p.path != "x", {"lr": 1.0})]).init(params)


def test_any_tree_of_jax_has_a_table():
    jax, eqx = pytest.importorskip("jax"), pytest.importorskip("equinox")
    nnx = pytest.importorskip("flax.nnx")
    model = eqx.filter(eqx.nn.MLP(3, 4, 5, 1, key=jax.random.key(0)), eqx.is_array)
    with pytest.raises(TypeError, match=r"samestep\.jax\.bind\(rule\)\.table\(params\)"):
        samestep.Muon().table(model)
    rule = route((Where(ndim=2), samestep.Muon()), AdamW())
    lines = samestep.jax.bind(rule).table(model).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [
        f"layers.{at}.{name}" for at in (0, 1) for name in ("weight", "bias")
    ]
    state = nnx.state(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Param)
    lines = samestep.jax.bind(rule).table(state).splitlines()
    assert [line.split()[:5] for line in lines[2:-1]] == [["kernel", "3", "x", "4", "io"]]


def test_predicates_that_choose_something_are_not_spoken_of():
    rule = AdamW(mask=Where(min_ndim=2), groups=[(~Where(path="w"), {"lr": 1.0})])
    rule.init({"w": MATRIX, "b": VECTOR})
    assert "fits none" not in rule.table({"w": MATRIX, "b": VECTOR})
    rule.init({})


@pytest.mark.parametrize(
    "mask",
    [
        lambda params: {name: value.ndim > 1 for name, value in params.items()},
        lambda params: pytest.importorskip("jax").tree.map(lambda p: p.ndim > 1, params),
        lambda params: pytest.importorskip("jax").tree.map(lambda p: True, params),
        lambda path, value: True,
        {"w": True, "b": False},
    ],
    ids=["dict", "tree of optax", "tree of True", "MLX", "a tree itself"],
)
def test_a_mask_of_another_library_s_form_is_told_what_it_is_given(mask):
    words = r"given one parameter, with path, shape and ndim, such as lambda p: p\.ndim > 1"
    with pytest.raises(TypeError, match=words):
        AdamW(mask=mask).init({"w": MATRIX, "b": VECTOR})
