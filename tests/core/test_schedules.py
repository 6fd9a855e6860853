"""Schedules compared with JAX, optax, MLX and AdEMAMix's authors; exact at their boundaries."""

from __future__ import annotations

import math
import pickle
import warnings
from fractions import Fraction
from pkgutil import resolve_name

import numpy as np
import pytest

import samestep
from samestep.conformance.harness.refusals import refusals
from samestep.parity.backend import NUMPY
from samestep.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    HalfLife,
    InverseTimeDecay,
    Join,
    Linear,
    PiecewiseConstant,
    PolynomialDecay,
    Scaled,
    make_schedule,
    one_cycle,
    warmup_cosine,
    warmup_inverse_sqrt,
    warmup_stable_decay,
)
from tests.core.conftest import MAKERS

STEPS = range(26)
SCHEDULES = {
    "constant": Constant(0.3),
    "exponential": ExponentialDecay(0.3, 7, 0.6),
    "exponential stairs": ExponentialDecay(0.3, 7, 0.6, staircase=True),
    "inverse time": InverseTimeDecay(0.3, 7, 0.6),
    "inverse time stairs": InverseTimeDecay(0.3, 7, 0.6, staircase=True),
    "polynomial": PolynomialDecay(0.3, 14, 0.01, 2.5),
    "rising polynomial": PolynomialDecay(0.0, 14, 0.3, 0.5),
    "pieces": PiecewiseConstant((5, 9), (0.3, 0.03, 0.003)),
    "pieces inclusive": PiecewiseConstant((5, 9), (0.3, 0.03, 0.003), inclusive=True),
    "cosine": CosineDecay(0.3, 14, 0.01),
    "linear": Linear(0.1, 0.3, 14),
    "no steps": Linear(0.1, 0.3, 0),
    "half-life": HalfLife(0.9, 0.9999, 14),
    "half-life from 0": HalfLife(0.0, 0.9999, 14),
    "falling half-life": HalfLife(0.99, 0.5, 14),
    "joined": Join((Linear(0.0, 0.3, 5), 0.2, ExponentialDecay(0.2, 3, 0.5)), (5, 11)),
    "joined functions": Join(
        (lambda step: 0.1, lambda step: 0.2 + Linear(0.0, 0.1, 9)(step)), (6,)
    ),
    "warm-up": warmup_cosine(0.3, 5, 20, start=0.01, end=0.02),
    "inverse root": warmup_inverse_sqrt(0.3, 5),
    "stable": Scaled(warmup_stable_decay(0.6, 3, 7, 14, decay="1-sqrt", end=0.04), 0.5),
}
RAMPS = {name: s for name, s in SCHEDULES.items() if hasattr(s, "end")}
VALUES = {name: s for name, s in SCHEDULES.items() if "lambda" not in repr(s)}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


WAYS = {
    "numpy": ("numpy", None, int, "float64"),
    "numpy float32": ("numpy", None, np.float32, "float32"),
    "strict": ("array_api_strict", None, int, "float64"),
    "jax": ("jax.numpy", None, int, "float32"),
    "jax.jit": ("jax.numpy", "jax:jit", int, "float32"),
    "mlx": ("mlx.core", None, int, "float32"),
    "mx.compile": ("mlx.core", "mlx.core:compile", int, "float32"),
}
"""Ways of evaluating a schedule: library, compiler, type of the step, dtype of the result."""


@pytest.fixture(params=WAYS)
def way(request):
    """A function that makes a schedule a function of a step, and the dtype of its results."""
    library, compiler, kind, dtype = WAYS[request.param]
    array = getattr(pytest.importorskip(library), MAKERS[library])

    def evaluate(schedule):
        function = resolve_name(compiler)(schedule) if compiler else schedule
        return lambda step: function(array(kind(step)))

    return evaluate, dtype


def assert_is(schedule, reference, rel=1e-12, steps=STEPS):
    """Equal but for rounding, at small values that of the largest, 0.3."""
    for step in steps:
        expected = pytest.approx(float(reference(step)), rel=rel, abs=0.1 * rel)
        assert schedule(step) == expected, step


# Against the libraries' own. JAX computes in float64 here where it takes Python's operators,
# elsewhere in float32.


def test_schedules_are_those_of_jax_example_libraries():
    jax = pytest.importorskip("jax.example_libraries.optimizers")
    single = 2e-6
    assert_is(Constant(0.3), jax.constant(0.3))
    assert_is(ExponentialDecay(0.3, 7, 0.6), jax.exponential_decay(0.3, 7, 0.6))
    assert_is(InverseTimeDecay(0.3, 7, 0.6), jax.inverse_time_decay(0.3, 7, 0.6))
    stairs = jax.inverse_time_decay(0.3, 7, 0.6, staircase=True)
    assert_is(InverseTimeDecay(0.3, 7, 0.6, staircase=True), stairs, single)
    for power in (0.5, 1.0, 2.0):
        polynomial = jax.polynomial_decay(0.3, 14, 0.01, power)
        assert_is(PolynomialDecay(0.3, 14, 0.01, power), polynomial, single)
    pieces = jax.piecewise_constant([5, 9], [0.3, 0.03, 0.003])
    assert_is(PiecewiseConstant((5, 9), (0.3, 0.03, 0.003)), pieces, single)
    assert_is(make_schedule(0.3), jax.make_schedule(0.3))
    assert make_schedule(stairs) is stairs


def test_schedules_are_those_of_optax():
    optax = pytest.importorskip("optax")
    single = 2e-6
    for stairs in (False, True):
        exponential = optax.exponential_decay(0.3, 7, 0.6, staircase=stairs)
        assert_is(ExponentialDecay(0.3, 7, 0.6, stairs), exponential, single)
    polynomial = optax.polynomial_schedule(0.3, 0.01, 2.0, 14)
    assert_is(PolynomialDecay(0.3, 14, 0.01, 2.0), polynomial, single)
    assert_is(Linear(0.1, 0.3, 14), optax.linear_schedule(0.1, 0.3, 14), single)
    pieces = optax.piecewise_constant_schedule(0.3, {5: 0.1, 9: 0.1})
    assert_is(PiecewiseConstant((5, 9), (0.3, 0.03, 0.003), inclusive=True), pieces, single)
    cosine = optax.cosine_decay_schedule(0.3, 14, alpha=0.01 / 0.3)
    assert_is(CosineDecay(0.3, 14, 0.01), cosine, single)
    warm = optax.warmup_cosine_decay_schedule(0.01, 0.3, 5, 20, 0.02)
    assert_is(warmup_cosine(0.3, 5, 20, start=0.01, end=0.02), warm, single)
    cycle = optax.cosine_onecycle_schedule(20, 0.3, pct_start=0.4)
    assert_is(one_cycle(0.3, 20, rise=0.4), cycle, single)
    parts = (optax.linear_schedule(0.0, 0.3, 5), optax.exponential_decay(0.2, 3, 0.5))
    ours = Join((Linear(0.0, 0.3, 5), ExponentialDecay(0.2, 3, 0.5)), (6,))
    assert_is(ours, optax.join_schedules(parts, [6]), single)


def test_schedules_are_those_of_mlx():
    schedulers = pytest.importorskip("mlx.optimizers")
    single = 2e-6

    def number(schedule):
        mx = pytest.importorskip("mlx.core")
        return lambda step: schedule(mx.array(step)).item()

    cosine = number(schedulers.cosine_decay(0.3, 14, 0.01))
    assert_is(CosineDecay(0.3, 14, 0.01), cosine, single)
    assert_is(Linear(0.1, 0.3, 14), number(schedulers.linear_schedule(0.1, 0.3, 14)), single)
    assert_is(ExponentialDecay(0.3, 1, 0.6), number(schedulers.exponential_decay(0.3, 0.6)), single)


def test_stairs_and_end_are_those_of_torch():
    torch = pytest.importorskip("torch")
    scheduler = torch.optim.lr_scheduler
    cases = {
        PolynomialDecay(0.3, 14, 0.0, 2.0): lambda o: scheduler.PolynomialLR(o, 14, 2.0),
        ExponentialDecay(0.3, 7, 0.6, staircase=True): lambda o: scheduler.StepLR(o, 7, 0.6),
        PiecewiseConstant((5, 9), (0.3, 0.03, 0.003), True): lambda o: scheduler.MultiStepLR(
            o, [5, 9], 0.1
        ),
    }
    for ours, make in cases.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        theirs = make(optimizer)
        for step in STEPS:
            lr = optimizer.param_groups[0]["lr"]
            assert ours(step) == pytest.approx(lr, rel=1e-9, abs=1e-15)
            optimizer.step()
            theirs.step()


@pytest.mark.parametrize(("start", "end"), [(0.9, 0.9999), (0.5, 0.99), (0.99, 0.5)])
def test_half_life_is_the_authors_beta3(start, end):
    """``beta3_scheduler`` of apple/ml-ademamix and of xlstm_jax."""

    def authors(step):
        share = min(step / 14, 1.0)
        low, high = math.log(start), math.log(end)
        return math.exp(low * high / ((1 - share) * high + share * low))

    assert_is(HalfLife(start, end, 14), authors)
    assert HalfLife(0.9, 0.9999, 14)(7) == pytest.approx(0.99980, abs=5e-6)


def test_half_life_is_the_inverse_of_f():
    def f(beta):
        return math.log(0.5) / math.log(beta) - 1

    schedule = HalfLife(0.9, 0.9999, 14)
    for step in range(15):
        expected = (1 - step / 14) * f(0.9) + step / 14 * f(0.9999)
        assert f(schedule(step)) == pytest.approx(expected, rel=1e-9)


# Boundaries.


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 49, 1000])
@pytest.mark.parametrize(("start", "end"), [(0.1, 0.7), (0.7, 0.1), (0.0, 0.3), (0.3, 0.0)])
def test_ramps_are_exact_at_both_ends(steps, start, end):
    for ramp in (
        Linear(start, end, steps),
        HalfLife(start, end, steps),
        PolynomialDecay(start, steps, end, 2.0),
        CosineDecay(start, steps, end),
    ):
        assert ramp(0) == start
        assert [ramp(step) for step in (steps, steps + 1, 10**9)] == [end] * 3
        low, high = sorted((start, end))
        if steps > 1:
            assert low <= ramp(1) < high or low < ramp(1) <= high
            assert low <= ramp(steps - 1) <= high
            assert low < ramp(steps // 2) < high


def test_a_straight_line_is_correctly_rounded_but_for_an_ulp():
    schedule = Linear(0.1, 0.7, 49)
    for step in range(50):
        exact = Fraction(0.1) + (Fraction(0.7) - Fraction(0.1)) * Fraction(step, 49)
        assert abs(schedule(step) - exact) <= 1.5 * math.ulp(float(exact))


@pytest.mark.parametrize("ramp", [Linear, HalfLife])
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.9), (0.9, 0.0), (0.5, 0.5), (0.0, 0.0)])
def test_without_steps_a_ramp_is_its_end(ramp, start, end):
    schedule = ramp(start, end, 0)
    assert [schedule(step) for step in (0, 1, 100)] == [end] * 3
    assert [float(schedule(np.asarray(step))) for step in (0, 1, 100)] == [end] * 3


def test_equal_ends_stay_put():
    assert {HalfLife(0.0, 0.0, 5)(step) for step in STEPS} == {0.0}
    assert {HalfLife(0.9, 0.9, 5)(step) for step in STEPS} == {0.9}


@pytest.mark.parametrize("steps", [3, 7, 41, 49])
def test_stairs_break_at_multiples_only(way, steps):
    """``49 * (1 / 49)`` is below 1: stairs must not be computed from a rounded quotient."""
    evaluate, _ = way
    for schedule in (
        ExponentialDecay(1.0, steps, 0.5, staircase=True),
        InverseTimeDecay(1.0, steps, 1.0, staircase=True),
    ):
        value = evaluate(schedule)
        for k in range(1, 5):
            before, at, after = (float(value(k * steps + d)) for d in (-1, 0, 1))
            assert before > at == after == pytest.approx(schedule(k * steps), rel=1e-6)


def test_pieces_change_after_the_boundary_or_at_it():
    values = (1.0, 0.1)
    after = PiecewiseConstant((2,), values)
    at = PiecewiseConstant((2,), values, inclusive=True)
    assert [after(step) for step in range(5)] == [1.0, 1.0, 1.0, 0.1, 0.1]
    assert [at(step) for step in range(5)] == [1.0, 1.0, 0.1, 0.1, 0.1]
    assert PiecewiseConstant((), (0.5,))(3) == 0.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("library", ["numpy", "jax.numpy", "torch", "mlx.core"])
def test_an_array_of_few_digits_is_no_number(library, dtype):
    xp = pytest.importorskip(library)
    if not hasattr(xp, dtype):
        pytest.skip(f"{library} has no {dtype}")
    number = getattr(xp, MAKERS[library])(0.001, dtype=getattr(xp, dtype))
    words = r"^AdamW\((lr|betas)=.*\): \1 must be .*numbers? of Python, or of float32 or float64"
    for given in ({"lr": number}, {"betas": (0.9, number)}):
        with pytest.raises(ValueError, match=words):
            samestep.AdamW(**given)
    with pytest.raises(ValueError, match=words + ".*the schedule gave it for step 0$"):
        samestep.AdamW(lr=lambda step: number).at(0)


def test_joined_schedules_count_from_their_beginning():
    joined = Join((Linear(1.0, 2.0, 4), Linear(5.0, 6.0, 4), float), (2, 10))
    values = [joined(step) for step in range(13)]
    assert values[:5] == [1.0, 1.25, 5.0, 5.25, 5.5]
    assert values[9:] == [6.0, 0.0, 1.0, 2.0]


# Numbers and arrays.


@every
def test_a_number_gives_a_float(schedule):
    for step in (0, 3, np.int64(3), np.int32(20), 2.5):
        assert type(schedule(step)) is float
    assert schedule(np.int64(3)) == schedule(3) == schedule(3.0)


@every
def test_an_array_gives_the_same_values(schedule, way):
    evaluate, dtype = way
    value = evaluate(schedule)
    rel = 1e-14 if dtype == "float64" else 1e-6
    for step in STEPS:
        found = value(step)
        assert found.shape == () and str(found.dtype).endswith(dtype)
        assert float(found) == pytest.approx(schedule(step), rel=rel, abs=1e-15), step


@pytest.mark.parametrize("schedule", RAMPS.values(), ids=RAMPS)
def test_an_array_s_ends_are_exact(schedule, way):
    evaluate, dtype = way
    steps = schedule.steps if hasattr(schedule, "steps") else schedule.decay_steps
    value, kind = evaluate(schedule), np.dtype(dtype).type
    assert kind(float(value(steps))) == kind(float(value(steps + 5))) == kind(schedule.end)
    assert kind(float(value(0))) == kind(schedule.start if steps else schedule.end)


@every
def test_torch_eager_and_compiled_give_the_same_values(schedule):
    torch = pytest.importorskip("torch")
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*lru_cache")  # inside array-api-compat
        compiled = torch.compile(schedule, fullgraph=True, backend="eager")
        for step in (*range(16), 25):
            for found in (schedule(torch.tensor(step)), compiled(torch.tensor(step))):
                assert found.dtype == torch.float32 and found.shape == ()
                assert float(found) == pytest.approx(schedule(step), rel=1e-6, abs=1e-15)
        found = schedule(torch.tensor(3.0, dtype=torch.float64))
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(schedule(3), rel=1e-14)


@every
def test_no_array_gives_a_nan_or_a_warning_far_away(schedule):
    for step in (0, 10**6):
        assert np.isfinite(schedule(np.asarray(step)))
        assert math.isfinite(schedule(step))


def test_long_decays_keep_their_digits_in_float32():
    """The base's logarithm is taken in float64, and shares are quotients of whole numbers."""
    cases = {
        ExponentialDecay(1.0, 1, 0.999): (1000, 9000),
        Linear(0.0, 1.0, 10_000): (1, 9_999),
        CosineDecay(1.0, 10_000): (1, 9_990, 9_999),
        PolynomialDecay(0.0, 10_000, 1.0, 2.0): (1, 9_999),
    }
    for schedule, steps in cases.items():
        for step in steps:
            found = float(schedule(np.asarray(step, np.float32)))
            assert found == pytest.approx(schedule(step), rel=1e-6), (schedule, step)


# Values and errors.


@pytest.mark.parametrize("schedule", VALUES.values(), ids=VALUES)
def test_a_schedule_is_a_value(schedule):
    again = eval(repr(schedule), vars(samestep.schedules))
    assert again == schedule == pickle.loads(pickle.dumps(schedule))
    assert hash(again) == hash(schedule)
    with pytest.raises(AttributeError):
        schedule.start = 1.0


def test_arguments_are_kept_as_numbers():
    assert repr(Linear(0, np.float32(0.5), 4.0)) == "Linear(start=0.0, end=0.5, steps=4)"
    assert PiecewiseConstant([2], [1, 0]) == PiecewiseConstant((2,), (1.0, 0.0))


@refusals(
    """
    >>> Constant('a')
    ValueError: Constant(value='a'): value must be a finite number
    >>> Constant(math.nan)
    ValueError: Constant(value=nan): value must be a finite number
    >>> Constant(True)
    ValueError: Constant(value=True): value must be a finite number
    >>> ExponentialDecay(1.0, 0, 0.5)
    ValueError: ExponentialDecay(decay_steps=0): decay_steps must be a whole number of steps > 0
    >>> ExponentialDecay(1.0, 2.5, 0.5)
    ValueError: ExponentialDecay(decay_steps=2.5): decay_steps must be a whole number of steps > 0
    >>> ExponentialDecay(1.0, 5, 0.0)
    ValueError: ExponentialDecay(decay_rate=0.0): decay_rate must be a finite number > 0
    >>> ExponentialDecay(1.0, 5, 0.5, staircase=1)
    ValueError: ExponentialDecay(staircase=1): staircase must be True or False
    >>> InverseTimeDecay(1.0, 5, -0.5)
    ValueError: InverseTimeDecay(decay_rate=-0.5): decay_rate must be a finite number >= 0
    >>> PolynomialDecay(1.0, 5, 0.0, 0)
    ValueError: PolynomialDecay(power=0): power must be a finite number > 0
    >>> PiecewiseConstant((5, 5), (1.0, 2.0, 3.0))
    ValueError: PiecewiseConstant(boundaries=(5, 5)): boundaries must be a sequence of whole numbers
    of steps >= 0, each larger than the one before
    >>> PiecewiseConstant((5,), (1.0,))
    ValueError: PiecewiseConstant(values=(1.0,)): values must be 2 numbers, one more than boundaries
    >>> PiecewiseConstant((5,), 1.0)
    ValueError: PiecewiseConstant(values=1.0): values must be a sequence of finite numbers
    >>> CosineDecay(math.inf, 5)
    ValueError: CosineDecay(start=inf): start must be a finite number
    >>> Linear(0.0, 1.0, -1)
    ValueError: Linear(steps=-1): steps must be a whole number of steps >= 0
    >>> HalfLife(0.9, 1.0, 5)
    ValueError: HalfLife(end=1.0): end must be a number in [0, 1)
    >>> HalfLife(-0.1, 0.9, 5)
    ValueError: HalfLife(start=-0.1): start must be a number in [0, 1)
    >>> Join((), ())
    ValueError: Join(schedules=()): schedules must be a sequence of schedules or numbers, at least
    one
    >>> Join((0.1, 0.2), ())
    ValueError: Join(boundaries=()): boundaries must be 1 step, one fewer than schedules
    >>> warmup_cosine(0.1, 5, 5)
    ValueError: warmup_cosine(warmup_steps=5, steps=5): steps counts both parts; it must be >
    warmup_steps
    >>> warmup_cosine(0.001, 20, 10)
    ValueError: warmup_cosine(warmup_steps=20, steps=10): steps counts both parts; it must be >
    warmup_steps
    >>> warmup_stable_decay(0.1, 4, 18, 20)
    ValueError: warmup_stable_decay(warmup_steps=4, decay_steps=18, steps=20): steps counts all
    parts; it must be >= 22
    >>> warmup_stable_decay(0.1, 4, 8, 20, decay='exp')
    ValueError: warmup_stable_decay(decay='exp'): decay must be one of 'linear', 'cosine', '1-sqrt'
    >>> warmup_inverse_sqrt(0.1, 0)
    ValueError: warmup_inverse_sqrt(warmup_steps=0): warmup_steps must be a whole number of steps >
    0
    >>> one_cycle(0.1, 10, rise=2)
    ValueError: one_cycle(rise=2): rise must be a number in (0, 1)
    >>> warmup_cosine('a', 5, 10)
    ValueError: warmup_cosine(peak='a'): peak must be a finite number
    >>> Join((1, 2), (3, 4))
    ValueError: Join(boundaries=(3, 4)): boundaries must be 1 step, one fewer than schedules
    """
)
def test_wrong_arguments_are_refused_in_words(refusal):
    assert refusal.said(vars(samestep.schedules) | {"math": math}) == refusal.message


@pytest.mark.parametrize("value", ["0.1", None, [0.1], True])
def test_make_schedule_takes_numbers_and_callables(value):
    with pytest.raises(TypeError, match="a number or of a callable of the step, not of"):
        make_schedule(value)
    assert make_schedule(1) == Constant(1.0)


def test_a_step_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="Linear: the step is '3'; it must be a number or an array"):
        Linear(0.0, 1.0, 5)("3")


# In rules.


def train(backend, rule, dtype, steps=12):
    rng = np.random.default_rng(0)
    run = backend.start(rule, {"w": rng.standard_normal((3, 2))}, dtype)
    for _ in range(steps):
        run.step({"w": rng.standard_normal((3, 2))})
    return backend.numpy(run.params()["w"])


def test_schedules_are_hyperparameters_in_every_backend(backend):
    lr, beta = warmup_cosine(0.1, 3, 10, end=0.01), HalfLife(0.0, 0.99, 8)
    rule = samestep.AdamW(lr=lr, betas=(0.9, beta), weight_decay=Linear(0.0, 0.1, 5))
    expected = train(NUMPY, rule, "float64")
    np.testing.assert_allclose(train(backend, rule, "float32"), expected, rtol=1e-5, atol=1e-6)
    constant = rule.replace(lr=0.1)
    assert not np.allclose(train(NUMPY, constant, "float64"), expected, rtol=1e-3)


def test_a_traced_step_gives_the_rule_the_same_schedule():
    jax = pytest.importorskip("jax")
    schedule = Join((Linear(0.0, 0.1, 3), ExponentialDecay(0.1, 4, 0.5, staircase=True)), (3,))
    rule = samestep.SGD(lr=schedule)
    params, grads = jax.numpy.zeros(2), jax.numpy.ones(2)
    update, state = jax.jit(rule.update), rule.init(params)
    total = 0.0
    for step in range(12):
        params, state = update(grads, params, state)
        total -= schedule(step)
        np.testing.assert_allclose(params, total, rtol=1e-6)


@pytest.mark.parametrize("schedule", [lambda: 0.1, lambda a, b: 0.1])
def test_a_schedule_that_does_not_take_the_step_is_named(schedule):
    params = {"w": np.ones(2)}
    for given, name in (({"lr": schedule}, "lr"), ({"betas": (0.9, schedule)}, "betas")):
        rule = samestep.AdamW(**given)
        with pytest.raises(TypeError, match=rf"AdamW\({name}=<.*>\): .*A schedule takes the step"):
            rule.update(params, params, rule.init(params))


def test_an_error_inside_a_schedule_says_whose_schedule_it_is():
    rule, params = samestep.AdamW(lr=lambda step: 1 / step), {"w": np.ones(2)}
    words = r"AdamW\(lr=<.*>\): the schedule failed: .*division"
    with pytest.raises(ZeroDivisionError, match=words):
        rule.update(params, params, rule.init(params))


@pytest.mark.parametrize("lr", [1e-3, lambda step: 1e-3, ExponentialDecay(1.0, 10, 2.0)])
@pytest.mark.parametrize("decay", ["corrected", "relative"])
def test_decay_relative_to_a_peak_that_nobody_knows_is_refused(lr, decay):
    with pytest.raises(ValueError, match=r"largest step size is not known.*give it as peak_lr"):
        samestep.AdamW(lr=lr, decay=decay)
    rule = samestep.AdamW(lr=lr, decay=decay, peak_lr=1.25)
    assert rule.at(3).peak_lr == 1.25
    cosine = warmup_cosine(0.5, 4, 20)
    assert samestep.AdamW(lr=cosine, decay=decay).at(1).peak_lr == 0.5
    steps = PiecewiseConstant((3,), (0.1, 0.3))
    assert samestep.AdamW(lr=steps, decay=decay).at(1).peak_lr == 0.3


def test_the_largest_value_is_that_of_the_steps_in_which_a_schedule_is_used():
    """A warm-up that is cut does not reach its end; another one's class says nothing."""
    for schedule in (
        Join((Linear(0.0, 1.0, 1000), CosineDecay(0.05, 900)), (100,)),
        Join((PiecewiseConstant((3, 7), (0.1, 0.3, 9.0)), Constant(0.2)), (7,)),
        Join((PiecewiseConstant((3, 7), (0.1, 0.3, 9.0), inclusive=True), Constant(0.2)), (8,)),
        Scaled(one_cycle(0.3, 20), 2.0),
    ):
        assert schedule.peak == max(map(schedule, range(2000)))

    class Triangle(samestep.schedules.Schedule):
        def at(self, xp, step):
            return 0.01 + 0.01 * xp.where(step < 10, step, 10.0)

    for unknown in (Triangle(), Scaled(Triangle(), 2.0), Join((0.1, lambda step: 0.1), (5,))):
        assert unknown.peak is None
        with pytest.raises(ValueError, match="largest step size is not known"):
            samestep.SGD(lr=unknown, decay="relative")


def test_a_rate_above_the_largest_is_refused():
    words = r"lr is 0.5, which is more than the largest step size, peak_lr=0.1"
    groups = [(samestep.Where(ndim=1), {"lr": 0.5})]
    with pytest.raises(ValueError, match=f"group 0: .*{words}"):
        samestep.SGD(lr=0.1, decay="relative", peak_lr=0.1, groups=groups)
    rising = samestep.SGD(lr=lambda step: 0.1 * (step + 1), decay="relative", peak_lr=0.1)
    with pytest.raises(ValueError, match=f"{words}.*the schedule gave it for step 4"):
        rising.at(4)


def test_a_line_through_whole_numbers_gives_whole_numbers():
    rule = samestep.ScheduleFreeAdamW(warmup_steps=Linear(2, 5, 3))
    assert [rule.at(step).warmup_steps for step in range(4)] == [2, 3, 4, 5]
