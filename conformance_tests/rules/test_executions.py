"""Packs, made once in the core for every framework; executions in JAX and MLX."""

from __future__ import annotations

import logging

import numpy
import pytest

import samestep
from samestep import packing
from samestep.conformance.harness.settings import typical
from samestep.step import Entry

SHAPES = {"a": (3, 2), "b": (), "c": (5,), "d": (40, 30), "e": (0, 3), "f": (1,)}


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    keep_packs_small(monkeypatch)


def keep_packs_small(monkeypatch):
    """Packs of at most twenty elements, of parameters of at most ten."""
    monkeypatch.setattr(packing, "SMALL", 10)
    monkeypatch.setattr(packing, "CHUNK", 20)


def arrays(seed, shapes=SHAPES):
    random = numpy.random.default_rng(seed)
    return {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def entries_of(rule, shapes=SHAPES):
    params, grads = arrays(0, shapes), arrays(1, shapes)
    state = rule.init(params)
    return [
        Entry(rule, 0, grads[n], params[n], {s: tree[n] for s, tree in state.slots.items()})
        for n in shapes
    ]


def test_what_is_small_and_alike_goes_together():
    rule = samestep.AdamW()
    names = [*SHAPES]
    found = [[names[place] for place in pack] for pack in packing.packs(entries_of(rule))]
    assert found == [["a", "b", "c", "f"], ["d"], ["e"]]


def test_a_pack_is_never_longer_than_a_chunk():
    entries = entries_of(samestep.AdamW(), {str(i): (7,) for i in range(7)})
    assert packing.packs(entries) == [[0, 1], [2, 3], [4, 5], [6]]
    assert packing.packs(entries, lambda entry: (0, 0)) == [[place] for place in range(7)]


@pytest.mark.parametrize("change", ["rule", "step", "dtype", "state dtype", "asked for"])
def test_what_differs_goes_apart(change):
    first, second = entries_of(samestep.AdamW(), {"a": (3,), "b": (3,)})
    other = {
        "rule": lambda e: e._replace(rule=samestep.AdamW(lr=0.5)),
        "step": lambda e: e._replace(step=1),
        "dtype": lambda e: e._replace(param=e.param.astype("float64")),
        "state dtype": lambda e: e._replace(slots={**e.slots, "m": e.slots["m"].astype("float64")}),
        "asked for": lambda e: e,
    }[change](second)
    alike = (lambda entry: entry.param is first.param) if change == "asked for" else None
    assert packing.packs([first, second]) == [[0, 1]]
    found = packing.packs([first, other], **({"alike": alike} if alike else {}))
    assert found == [[0], [1]]


def test_only_rules_that_look_at_an_element_are_packed(rule_class, monkeypatch):
    keep_packs_small(monkeypatch)
    rule = typical(rule_class)
    shapes = {"a": (3, 2), "b": (2, 4)}
    together = packing.packs(entries_of(rule, shapes)) == [[0, 1]]
    assert together == (rule.needs == "element")


def test_a_packed_step_is_the_step_to_the_last_bit(rule_class, monkeypatch):
    """On NumPy, where nothing is contracted; NAdam has a 0-d slot, which is repeated."""
    keep_packs_small(monkeypatch)
    rule = typical(rule_class)
    shapes = {name: shape for name, shape in SHAPES.items() if len(shape) >= rule.min_ndim}
    plain, packed = entries_of(rule, shapes), entries_of(rule, shapes)
    common = rule.init(arrays(0, shapes)).shared
    for _ in range(3):
        results = []
        for run, entries in ((samestep.step.run, plain), (packing.run, packed)):
            found, shared = run(numpy_namespace(), entries, common)
            found = list(found)
            entries[:] = [
                e._replace(param=p, slots=s, step=e.step + 1)
                for e, (p, s) in zip(entries, found, strict=True)
            ]
            results.append((found, shared))
        (one, common), (other, _) = results
        for (param, slots), (again, slots_again) in zip(one, other, strict=True):
            numpy.testing.assert_array_equal(param, again)
            for name, value in slots.items():
                for a, b in zip(parts(value), parts(slots_again[name]), strict=True):
                    assert a.shape == b.shape and a.dtype == b.dtype
                    numpy.testing.assert_array_equal(a, b)


def parts(value):
    return value if isinstance(value, tuple) else (value,)


def numpy_namespace():
    import array_api_compat.numpy as xp  # noqa: PLC0415

    return xp


class TestJAX:
    @pytest.fixture(autouse=True)
    def frameworks(self):
        self.jax = pytest.importorskip("jax")
        self.optax = pytest.importorskip("optax")
        self.adapter = pytest.importorskip("samestep.jax")

    def step_of(self, transformation):
        def step(params, state, grads):
            updates, state = transformation.update(grads, state, params)
            return self.optax.apply_updates(params, updates), state

        return step

    def given(self, seed, shapes=SHAPES):
        return self.jax.tree.map(self.jax.numpy.asarray, arrays(seed, shapes))

    @pytest.mark.parametrize("execution", ["packed", "auto"])
    def test_packs_change_no_bit(self, execution):
        results = []
        for chosen in ("reference", execution):
            transformation = self.adapter.AdamW(lr=0.1, execution=chosen)
            params = self.given(0)
            state = transformation.init(params)
            for seed in range(3):
                params, state = self.step_of(transformation)(params, state, self.given(seed + 1))
            results.append(self.jax.tree.leaves((params, state)))
        assert all(map(numpy.array_equal, *results))

    def test_auto_gathers_nothing_that_is_traced(self, monkeypatch):
        def refuse(*args):
            raise AssertionError("gathered")

        transformation = self.adapter.AdamW(lr=0.1)
        params = self.given(0)
        state = transformation.init(params)
        monkeypatch.setattr(packing, "merged", refuse)
        self.jax.jit(self.step_of(transformation))(params, state, self.given(1))
        with pytest.raises(AssertionError, match="gathered"):
            transformation.update(self.given(1), state, params)

    def test_a_step_is_traced_once_and_its_arguments_are_donated(self):
        for transformation in (
            self.adapter.AdamW(lr=lambda step: 0.1 / (step + 1)),
            self.optax.inject_hyperparams(self.adapter.AdamW)(lr=0.1),
        ):
            step = self.jax.jit(self.step_of(transformation), donate_argnums=(0, 1))
            params = self.given(0)
            state = transformation.init(params)
            for seed in range(4):
                before = self.jax.tree.leaves((params, state))
                params, state = step(params, state, self.given(seed + 1))
                held = [a for a in before if a.size > 1]
                assert all(a.is_deleted() for a in held)
            assert step._cache_size() == 1

    def test_coefficients_are_computed_once_for_all_parameters(self):
        """Behind one barrier, so that no fusion computes them again for every element."""
        transformation = self.adapter.AdamW(lr=lambda step: 0.1 / (step + 1))
        counts = []
        for many in (2, 20):
            shapes = {str(i): (3 + i,) for i in range(many)}
            params = self.given(0, shapes)
            state = transformation.init(params)
            lowered = self.jax.jit(self.step_of(transformation)).lower(params, state, params)
            text = lowered.as_text()
            counts.append([text.count(name) for name in ("optimization_barrier", "expm1", "expon")])
        assert counts[0] == counts[1]
        assert counts[0][0] == 1 and counts[0][1] + counts[0][2] >= 1

    def test_compiled_puts_the_update_into_a_jit_of_its_own(self):
        """XLA contracts operations there; an update is a difference of parameters of size 4."""
        compiled = self.adapter.AdamW(lr=0.1, execution="compiled")
        reference = self.adapter.AdamW(lr=0.1, execution="reference")
        params = self.given(0)
        state = compiled.init(params)
        ours, _ = compiled.update(self.given(1), state, params)
        theirs, _ = reference.update(self.given(1), state, params)
        for name, update in theirs.items():
            numpy.testing.assert_allclose(ours[name], update, rtol=0, atol=5e-7)

    def test_an_unknown_execution_names_those_there_are(self):
        with pytest.raises(ValueError, match=r"AdamW\(execution='fast'\): execution must be one"):
            self.adapter.AdamW(execution="fast")


class TestMLX:
    @pytest.fixture(autouse=True)
    def framework(self):
        self.mx = pytest.importorskip("mlx.core")
        self.adapter = pytest.importorskip("samestep.mlx")

    def given(self, seed):
        return {name: self.mx.array(value) for name, value in arrays(seed).items()}

    @pytest.mark.parametrize("execution", ["packed", "compiled", "auto"])
    def test_packs_change_no_bit(self, execution):
        results = []
        for chosen in ("reference", execution):
            optimizer = self.adapter.AdamW(lr=0.1, execution=chosen)
            params = self.given(0)
            for seed in range(3):
                params = optimizer.apply_gradients(self.given(seed + 1), params)
            state = [optimizer.state[name][slot] for name in params for slot in ("m", "v")]
            results.append([numpy.array(a) for a in (*params.values(), *state)])
        assert all(map(numpy.array_equal, *results))

    def test_auto_says_once_what_it_chose(self, caplog):
        caplog.set_level(logging.INFO, logger="samestep")
        optimizer = self.adapter.AdamW(lr=0.1)
        params = self.given(0)
        for seed in range(3):
            params = optimizer.apply_gradients(self.given(seed + 1), params)
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["AdamW"]
        assert "'compiled'" in caplog.text

    def test_a_compiled_step_is_left_to_mx_compile(self, monkeypatch):
        def refuse(*args):
            raise AssertionError("gathered")

        monkeypatch.setattr(packing, "merged", refuse)
        optimizer = self.adapter.AdamW(lr=0.1)
        params = self.given(0)
        optimizer.init(params)
        state = optimizer.state
        step = self.mx.compile(optimizer.apply_gradients, inputs=state, outputs=state)
        self.mx.eval(step(self.given(1), params))
