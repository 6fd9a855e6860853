"""Products of matrices are in float32, whatever a framework's global settings are."""

# ruff: noqa: PLC0415  (a library is imported where it is tested)

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import samestep
from samestep import products
from samestep.conformance.harness import rounding
from samestep.conformance.harness.agreement import bound, one_steps
from samestep.conformance.harness.parametrized import chosen
from samestep.conformance.harness.settings import all_rules, is_own, settings
from samestep.kept import as_seen, saying
from samestep.parity.backend import backends


class Product(samestep.Rule, register=False):
    """Somebody's own rule, which multiplies in all ways."""

    needs = "matrix"
    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
    m = samestep.slot("the sum of all gradients")

    def direction(self, xp, grad, param, state, s):
        g, p = (xp.reshape(x, (x.shape[0], -1)) for x in (grad, param))
        gram = p @ xp.matrix_transpose(p) + xp.matmul(g, xp.matrix_transpose(g))
        turned = xp.tensordot(gram, g, axes=1) + gram @ g
        return xp.reshape(turned / (1 + xp.sum(gram * gram)), param.shape), {"m": state.m + grad}


class Inner(samestep.Rule, register=False):
    """Somebody's own rule, whose product is that of two vectors."""

    needs = "tensor"
    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)

    def direction(self, xp, grad, param, state, s):
        row, column = xp.reshape(grad, (1, -1)), xp.reshape(grad, (-1, 1))
        return grad / (1 + xp.sum(row @ column)), {}


def weighted(xp: Any, *arrays: Any) -> Any:
    """Half of the sum of arrays, by products of rows and columns."""
    columns = xp.stack(arrays, axis=-1)[..., None]
    row = xp.stack([xp.full_like(array, 0.5) for array in arrays], axis=-1)[..., None, :]
    return xp.matmul(row, columns)[..., 0, 0]


class Weighted(samestep.Rule, register=False):
    """Somebody's own element rule, which weighs gradients by a product."""

    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
    m = samestep.slot("the gradients so far")

    def direction(self, xp, grad, param, state, s):
        m = weighted(xp, state.m, grad)
        return m, {"m": m}


class Reweighted(samestep.Wrapper, register=False):
    """Somebody's own wrapper, which weighs gradient and direction by a product."""

    def redirect(self, xp, direction, grad, s):
        return weighted(xp, direction, grad)


MUON = samestep.Muon(lr=0.1, layout="oi", batch_axes=())
RULES = {
    "Muon": MUON,
    "an author's": Product(layout="oi", batch_axes=()),
    "an author's tensor rule": Inner(),
    "an author's element rule": Weighted(),
    "an author's wrapper": Reweighted(samestep.AdamW()),
    "wrapped": samestep.Scout(samestep.Cautious(MUON)),
}
FEW = {
    *[("high", "Muon"), ("medium", "an author's"), ("tf32", "Muon"), ("tf32", "an author's")],
    *[("tf32", "an author's element rule"), ("high", "an author's wrapper")],
    ("bf16", "an author's"),
}
HOSTILE = {"torch": ("high", "medium", "tf32", "bf16"), "mlx": ("tf32",)}


def machine(library: str, setting: str, stack: ExitStack) -> list[str]:
    """A machine that rounds under a setting that the user has made."""
    if library == "mlx":
        return stack.enter_context(rounding.in_mlx(setting))
    import torch

    put = torch._C._set_fp32_precision_setter
    stack.callback(put, "mkldnn", "all", "none")
    stack.callback(put, "generic", "all", "none")
    for kind in ("cuda", "mkldnn"):
        stack.callback(put, kind, "matmul", "none")
    stack.callback(torch.set_float32_matmul_precision, "highest")
    if setting in ("high", "medium"):
        torch.set_float32_matmul_precision(setting)
    else:
        put(*(("generic", "all") if setting == "tf32" else ("mkldnn", "all")), setting)
    return stack.enter_context(rounding.in_torch())


def of_torch() -> list[Any]:
    """Everything that torch says of its settings."""
    import torch

    get = torch._C._get_fp32_precision_getter
    places = [("generic", "all"), *((k, o) for k in ("cuda", "mkldnn") for o in ("all", "matmul"))]
    found: list[Any] = [get(*place) for place in places]
    try:
        return [*found, torch.get_float32_matmul_precision()]
    except RuntimeError as error:  # where its two interfaces disagree
        return [*found, str(error)]


def cases() -> list[Any]:
    found = []
    for backend in chosen():
        for setting in HOSTILE.get(backend.library, ()):
            for name, rule in RULES.items():
                few = backend.name == backend.library and (setting, name) in FEW
                marks = [] if few else [pytest.mark.thorough]
                case = f"{backend.name}-{setting}-{name}"
                found.append(pytest.param(backend, setting, rule, id=case, marks=marks))
    return found


@pytest.mark.parametrize(("place", "user_set", "rule"), cases())
def test_one_step_is_as_near_to_float64_as_ever(place, user_set, rule):
    backend: Any = place
    with ExitStack() as stack:
        seen = machine(backend.library, user_set, stack)
        before = of_torch() if backend.library == "torch" else None
        found = one_steps(rule, backend, steps=2)
        assert before is None or of_torch() == before
    for slot, worst in found.worst.items():
        assert worst.ulp <= bound(rule, backend, "float32", slot), worst
    assert seen


def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: products are at the precision of the framework."""
    for name in products._HELD:
        held = products._Held(lambda: None)
        monkeypatch.setitem(products._HELD, name, held)


@pytest.mark.parametrize("library", HOSTILE)
def test_a_product_at_the_default_precision_is_seen(library, monkeypatch):
    """The emulated machine makes errors that these tests find."""
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")
    backend: Any = backends()[library]
    planted(monkeypatch)
    with ExitStack() as stack:
        machine(library, "tf32", stack)
        found = one_steps(RULES["Muon"], backend, steps=1)
    assert found.worst["param"].ulp > 100 * bound(RULES["Muon"], backend, "float32")


def test_every_product_of_mlx_is_made_of_several():
    mx: Any = pytest.importorskip("mlx.core")
    noise = np.random.default_rng(0).normal(size=(2, 6, 300)).astype("float32")
    a, b = map(mx.array, noise)
    exact = noise[0].astype("float64") @ noise[1].astype("float64").T
    ways = {
        "matmul": lambda: mx.matmul(a, b.T),
        "einsum": lambda: mx.einsum("ij,kj->ik", a, b),
        "tensordot": lambda: mx.tensordot(a, b.T, 1),
        "inner": lambda: mx.inner(a, b),
        "vecdot": lambda: mx.vecdot(a[:, None], b[None]),
        "__matmul__": lambda: a @ b.T,
        "__imatmul__": lambda: operator.imatmul(a[:], b.T),
    }
    assert {*ways} == {*rounding.PRODUCTS, *rounding.OPERATORS}
    for name, way in ways.items():
        with rounding.in_mlx("tf32"):
            assert abs(np.asarray(way()) - exact).max() > 1e-3, name
            with products.float32_products(mx):
                assert abs(np.asarray(way()) - exact).max() < 1e-4, name


def test_the_parts_of_a_number_of_mlx_are_finite_where_it_is():
    mx: Any = pytest.importorskip("mlx.core")
    most = np.finfo("float32").max
    values = np.asarray([most, -most, np.inf, -np.inf, 1 + 2**-20, 0], "float32")
    parts = [*map(np.asarray, products._split(mx, mx.array(values)))]
    assert np.isfinite(parts[1]).all() and (np.isfinite(parts[0]) == np.isfinite(values)).all()
    assert np.array_equal(sum(parts), values)
    assert all(np.array_equal(part, rounding.rounded(part, "tf32")) for part in parts[:1])


@pytest.mark.parametrize("execution", ["reference", "packed", "differentiable"])
def test_every_way_of_a_step_of_torch_is_precise(execution):
    torch = pytest.importorskip("torch")
    options = (
        {"differentiable": True} if execution == "differentiable" else {"execution": execution}
    )
    param = torch.linspace(-1, 2, 12).reshape(4, 3).requires_grad_()
    param = param.clone() if execution == "differentiable" else torch.nn.Parameter(param.detach())
    param.grad = torch.ones(4, 3)
    optimizer = samestep.torch.bind(RULES["an author's"], [("w", param)], **options)
    with ExitStack() as stack:
        formats = machine("torch", "high", stack)
        optimizer.step()
        assert {*formats} == {"float32"}


@pytest.mark.parametrize("library", HOSTILE)
def test_a_setting_is_as_it_was_after_a_step_that_failed(library):
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")
    backend: Any = backends()[library]
    xp: Any = pytest.importorskip("mlx.core" if library == "mlx" else library)

    def everything() -> Any:
        return of_torch() if library == "torch" else (xp.matmul, xp.array.__matmul__)

    with ExitStack() as stack:
        machine(library, "tf32", stack)
        before = everything()
        with pytest.raises(ZeroDivisionError), products.float32_products(xp):
            with products.float32_products(xp):
                assert everything() != before
            assert everything() != before  # the step around it has not come to its end
            raise ZeroDivisionError
        assert everything() == before
        assert backend.library == library


def test_a_precision_that_is_chosen_during_a_step_holds_afterwards():
    """Another thread may choose one; torch's two interfaces agree then as they did before."""
    torch = pytest.importorskip("torch")
    choices = {
        "high": lambda: torch.set_float32_matmul_precision("high"),
        "medium": lambda: torch.set_float32_matmul_precision("medium"),
        "of GPUs": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    }
    with ExitStack() as stack:
        machine("torch", "high", stack)
        for name, choose in choices.items():
            choices["high"]()
            before = of_torch()
            with products.float32_products(torch):
                choose()
            found = of_torch()
            choices["high"]()
            choose()
            assert found == of_torch(), name
            assert name != "high" or found == before


class Begun(Product, register=False):
    """Somebody's own rule, whose state begins with a product."""

    gram = samestep.slot(
        "the products of rows",
        init=samestep.vocabulary.Initial(
            lambda xp, param, rule: xp.matmul(param, xp.matrix_transpose(param)),
            lambda shape, rule: (shape[0], shape[0]),
        ),
    )

    def direction(self, xp, grad, param, state, s):
        step, slots = super().direction(xp, grad, param, state, s)
        return step, {**slots, "gram": state.gram}


def test_the_first_value_of_a_slot_is_a_float32_product():
    jax, torch = pytest.importorskip("jax"), pytest.importorskip("torch")
    rule = Begun(layout="oi", batch_axes=())
    param = np.linspace(-1, 2, 12, dtype=np.float32).reshape(4, 3)
    with jax.default_matmul_precision("bfloat16"):
        init = samestep.jax.bind(rule).init
        found = str(jax.make_jaxpr(init)({"w": param}))
    assert found.count("Precision.HIGHEST") >= found.count("dot_general") > 0, found
    with ExitStack() as stack:
        formats = machine("torch", "tf32", stack)
        weight = torch.nn.Parameter(torch.asarray(param))
        samestep.torch.bind(rule, [("w", weight)]).init_state()
        rule.init({"w": weight.detach()})
        assert formats
        assert {*formats} == {"float32"}


def asked(rule: samestep.Rule) -> set[str]:
    """The functions of the namespace that a step of a rule asks for, and ``@``."""
    import array_api_strict

    found: set[str] = set()
    rule = saying(rule, as_seen(rule))
    kind: Any = type(array_api_strict.ones(1))
    operator: Callable[..., Any] = kind.__matmul__

    def noted(*arrays: Any) -> Any:
        found.add("@")
        return operator(*arrays)

    class Spy:
        def __getattr__(self, name: str) -> Any:
            found.add(name)
            return getattr(array_api_strict, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "__matmul__", noted)
        param = array_api_strict.ones((4, 3), dtype=array_api_strict.float32)
        slots = samestep.step.init_slots(rule, array_api_strict, param)
        common = samestep.step.init_shared(rule, array_api_strict, [param])
        entry = samestep.step.Entry(rule, 0, param, param, slots)
        results, _ = samestep.step.run(Spy(), [entry], common)
        list(results)
    return found


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=rule.__name__) for rule in all_rules() if is_own(rule)]
)
def test_rules_of_the_package_that_multiply_are_known(rule):
    pytest.importorskip("array_api_strict")
    for one in settings(rule).values():
        found = asked(one) & {"@", *products._PRODUCTS}
        assert products.multiplies(one) or not found


def test_the_rules_that_multiply_are_those_of_matrices_and_others_that_are_not_ours():
    assert [rule for rule in RULES.values() if not products.multiplies(rule)] == []
    assert not products.multiplies(samestep.Scout(samestep.AdamW()))
    assert not products.multiplies(samestep.LAMB())
    assert not products.multiplies(
        samestep.route((samestep.Where(min_ndim=2), samestep.LAMB()), samestep.AdamW())
    )
    assert products.multiplies(
        samestep.route((samestep.Where(min_ndim=2), samestep.Muon()), samestep.AdamW())
    )
