"""The global norm and clipping, against JAX's own, optax's, torch's and MLX's."""

from __future__ import annotations

from typing import NamedTuple

import array_api_strict
import numpy as np
import pytest

from samestep.gradients import clip_grads, l2_norm

EPS = float(np.finfo(np.float32).eps)


class Pair(NamedTuple):
    first: object
    second: object


def values(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [(scale * rng.standard_normal(s)).astype(np.float32) for s in ((3, 2), (), (5,), (0,))]


def tree(array, seed=0, scale=1.0):
    """A dict, a list, a tuple, a NamedTuple and nothing, of arrays made by ``array``."""
    a, b, c, d = map(array, values(seed, scale))
    return {"a": [a, None], "b": (b, Pair(c, {"d": d}))}


def flat(grads):
    return [grads["a"][0], grads["b"][0], grads["b"][1].first, grads["b"][1].second["d"]]


def libraries():
    def jax():
        return pytest.importorskip("jax.numpy").asarray

    def torch():
        return pytest.importorskip("torch").tensor

    def mlx():
        return pytest.importorskip("mlx.core").array

    made = {
        "numpy": lambda: np.asarray,
        "strict": lambda: array_api_strict.asarray,
        "jax": jax,
        "torch": torch,
        "mlx": mlx,
    }
    return pytest.mark.parametrize("make", made.values(), ids=made)


def exact_norm(seed=0, scale=1.0):
    return float(np.sqrt(sum(np.sum(np.float64(v) ** 2) for v in values(seed, scale))))


@libraries()
def test_the_norm_is_that_of_all_elements(make):
    array = make()
    norm = l2_norm(tree(array))
    assert norm.shape == () and str(norm.dtype).endswith("float32")
    assert type(norm) in (type(array(np.float32(1))), np.float32)
    assert float(norm) == pytest.approx(exact_norm(), rel=4 * EPS)


@libraries()
def test_longer_gradients_get_the_norm_asked_for(make):
    array = make()
    grads = tree(array)
    clipped = clip_grads(grads, 0.5)
    assert float(l2_norm(clipped)) == pytest.approx(0.5, rel=4 * EPS)
    assert clipped["a"][1] is None and isinstance(clipped["b"][1], Pair)
    for new, old in zip(flat(clipped), flat(grads), strict=True):
        assert new.dtype == old.dtype and new.shape == old.shape
        expected = np.asarray(old) * (0.5 / exact_norm())
        np.testing.assert_allclose(np.asarray(new), expected, rtol=4 * EPS)


@libraries()
def test_shorter_gradients_keep_every_bit(make):
    array = make()
    grads = tree(array)
    clipped = clip_grads(grads, 100.0)
    for new, old in zip(flat(clipped), flat(grads), strict=True):
        assert np.asarray(new).tobytes() == np.asarray(old).tobytes()


@libraries()
def test_arguments_are_left_alone_and_zeros_stay_zeros(make):
    array = make()
    grads = tree(array)
    clip_grads(grads, 0.5)
    for new, old in zip(flat(grads), values(), strict=True):
        assert np.asarray(new).tobytes() == old.tobytes()
    assert not np.asarray(clip_grads(array(np.zeros(3, np.float32)), 1.0)).any()


@libraries()
def test_a_norm_equal_to_the_largest_changes_nothing(make):
    """torch's and MLX's 1e-6 in the denominator does, and halves gradients of that size."""
    array = make()
    for size in (5.0, 5e-6):
        grads = array(np.asarray([0.6, 0.8], np.float32) * np.float32(size))
        np.testing.assert_allclose(
            np.asarray(clip_grads(grads, float(l2_norm(grads)))), np.asarray(grads), rtol=EPS
        )


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_norm_and_clipping_are_jax_s_own(max_norm, scale):
    jax = pytest.importorskip("jax")
    theirs = pytest.importorskip("jax.example_libraries.optimizers")
    grads = tree(jax.numpy.asarray, scale=scale)
    np.testing.assert_allclose(l2_norm(grads), theirs.l2_norm(grads), rtol=4 * EPS)
    expected = theirs.clip_grads(grads, max_norm)
    for clip in (clip_grads, jax.jit(clip_grads)):
        found = clip(grads, max_norm)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for new, their in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(new, their, rtol=6 * EPS)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
def test_clipping_is_optax_s(max_norm):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    grads = tree(jax.numpy.asarray)
    expected, _ = optax.clip_by_global_norm(max_norm).update(grads, optax.EmptyState())
    for new, their in zip(flat(clip_grads(grads, max_norm)), flat(expected), strict=True):
        np.testing.assert_allclose(new, their, rtol=6 * EPS)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0])
def test_clipping_is_torch_s_but_for_its_eps(max_norm):
    torch = pytest.importorskip("torch")
    grads = tree(torch.tensor)
    params = [torch.zeros_like(grad, requires_grad=True) for grad in flat(grads)]
    for param, grad in zip(params, flat(grads), strict=True):
        param.grad = grad.clone()
    norm = torch.nn.utils.clip_grad_norm_(params, max_norm)
    assert float(l2_norm(grads)) == pytest.approx(float(norm), rel=4 * EPS)
    for new, param in zip(flat(clip_grads(grads, max_norm)), params, strict=True):
        np.testing.assert_allclose(new, param.grad, rtol=1e-6 / exact_norm() + 6 * EPS)
    assert clip_grads(torch.tensor([5e-7, 0.0]), 5e-7)[0] == 5e-7  # a third of it in torch


def test_clipping_is_traced_by_every_compiler():
    jax, mx = pytest.importorskip("jax"), pytest.importorskip("mlx.core")
    torch = pytest.importorskip("torch")
    expected = flat(clip_grads(tree(np.asarray), 0.5))
    compiled = {
        "jit": jax.jit(clip_grads)(tree(jax.numpy.asarray), jax.numpy.float32(0.5)),
        "mx": mx.compile(lambda g: clip_grads(g, 0.5))({"a": mx.array(values()[0])}),
        "torch": clip_grads(tree(torch.tensor), torch.tensor(0.5, dtype=torch.float64)),
    }
    for name in ("jit", "torch"):
        for new, old in zip(flat(compiled[name]), expected, strict=True):
            np.testing.assert_allclose(np.asarray(new), old, rtol=6 * EPS)
    alone = clip_grads(values()[0], 0.5)
    np.testing.assert_allclose(np.asarray(compiled["mx"]["a"]), alone, rtol=6 * EPS)


def test_narrow_gradients_are_squared_in_float32():
    """In float16 300 squared is infinite, and a sum of 4096 ones in bfloat16 stops at 256."""
    torch = pytest.importorskip("torch")
    half = torch.full((4,), 300.0, dtype=torch.float16)
    assert float(l2_norm(half)) == 600.0 and l2_norm(half).dtype == torch.float32
    clipped = clip_grads(half, 6.0)
    assert clipped.dtype == torch.float16 and clipped.tolist() == [3.0] * 4
    brain = {"a": torch.ones(4096, dtype=torch.bfloat16), "b": half}
    assert float(l2_norm(brain)) == pytest.approx((4096 + 600**2) ** 0.5)
    assert clip_grads(brain, 1.0)["a"].dtype == torch.bfloat16


def test_the_norm_is_in_the_widest_compute_dtype():
    grads = {"a": np.ones(3, np.float32), "b": np.full(2, 0.1)}
    norm = l2_norm(grads)
    assert norm.dtype == np.float64
    assert norm == pytest.approx((3 + 0.02) ** 0.5, rel=1e-15)
    clipped = clip_grads(grads, 1.0)
    assert clipped["a"].dtype == np.float32 and clipped["b"].dtype == np.float64


def test_nan_and_infinity_are_not_hidden():
    grads = {"a": np.ones(2, np.float32), "b": np.asarray([np.nan, 1], np.float32)}
    assert np.isnan(l2_norm(grads)) and np.isnan(clip_grads(grads, 1.0)["a"]).all()
    grads["b"][0] = np.inf
    with np.errstate(invalid="ignore"):
        clipped = clip_grads(grads, 1.0)
    assert clipped["a"].tolist() == [0, 0] and np.isnan(clipped["b"][0])


def test_a_tree_without_arrays_has_norm_zero():
    assert l2_norm({"a": None, "b": []}) == 0.0
    assert clip_grads({"a": None}, 1.0) == {"a": None}


@libraries()
def test_an_infinite_max_norm_changes_nothing(make):
    array = make()
    grads = {**tree(array), "c": array(np.asarray([np.inf, -0.0, 1.0], np.float32))}
    for largest in (np.inf, array(np.asarray(np.inf, np.float32))):
        clipped = clip_grads(grads, largest)
        for new, old in zip(
            [*flat(clipped), clipped["c"]], [*flat(grads), grads["c"]], strict=True
        ):
            assert new.dtype == old.dtype
            assert np.asarray(new).tobytes() == np.asarray(old).tobytes()


def test_a_traced_max_norm_may_be_infinite():
    jax = pytest.importorskip("jax")
    grads = jax.numpy.asarray([3.0, -4.0])
    clip = jax.jit(clip_grads)
    assert clip(grads, jax.numpy.inf).tolist() == [3.0, -4.0]
    np.testing.assert_allclose(clip(grads, 1.0), [0.6, -0.8], rtol=1e-6)


@libraries()
@pytest.mark.parametrize("max_norm", [-1.0, 0.0, np.nan, True])
def test_a_max_norm_in_an_array_is_held_to_its_range(make, max_norm):
    array = make()
    with pytest.raises(ValueError, match=r"clip_grads\(max_norm=.*\): max_norm must be a number >"):
        clip_grads(array(np.ones(2, np.float32)), array(max_norm))


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan"), "1", None, True, 1j])
def test_a_max_norm_that_is_no_positive_number_is_refused(max_norm):
    with pytest.raises(ValueError, match=r"clip_grads\(max_norm=.*\): max_norm must be a number >"):
        clip_grads(np.ones(2), max_norm)


def test_what_is_no_floating_array_is_refused_by_its_path():
    with pytest.raises(TypeError, match=r"l2_norm: a\.1 is of int64; allowed: arrays of bfloat16"):
        l2_norm({"a": [np.ones(2), np.ones(2, np.int64)]})
    with pytest.raises(TypeError, match="clip_grads: the argument is of float; allowed"):
        clip_grads(1.0, 1.0)
