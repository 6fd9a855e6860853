"""The suite, tested: faults planted in rules, in what they share and in adapters make it fail.

A fault is caught when one of the suite's own tests, called here with fewer steps, fails.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import import_module
from inspect import getmembers, getmodule, isfunction, signature
from operator import attrgetter

import numpy
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import samestep
from samestep import step, vocabulary, weight_decay
from samestep.parts import matrix
from samestep.conformance import agreement, test_agreement, test_properties, test_rules
from samestep.conformance.faults import arithmetic_of, edited, faults_in, planted
from samestep.conformance.references import reference_for
from samestep.conformance.settings import settings, typical
from samestep.parity import record

RULES = [getattr(samestep, name) for name in samestep.rules.__all__]
AT = "rule.at(step)"
LR = ("lr +1 %", "step.scalars", AT, f"{AT}.replace(lr=1.01 * {AT}.hypers['lr'])")
DECAY = ("weight decay dropped", "step.scalars", AT, f"{AT}.replace(weight_decay=0.0)")
MAXIMIZE = ("maximize ignored", "rule.Rule.prepared", "-grad if self.maximize else grad", "grad")
CAST = "new_param = _cast_like(xp, new_param, param)"
IN_PLACE = ("gradient written in place", "step.advance", CAST, f"{CAST}; grad += 1")
"""What is wrong, in which function, and the piece of source that gives way to another."""

WIDE = "xp.float64 if dtype == xp.float64 else xp.float32"
HOST = "value.item() if isinstance(value, (numpy.generic, numpy.ndarray)) else value"
EIGHT_BITS = "(lambda m, e: float(numpy.ldexp(numpy.rint(256 * m), e - 8)))(*numpy.frexp(value))"
COMPUTE = "stepping.compute_dtype(xp, param.dtype)"
ADVANCE = "execute(advance, entry, visible)"
COUNT = 'self._store("step", step + 1, self.state["step"] + 1)'
# fmt: off
IN_BACKENDS = {
    "samestep": [
        ("float32", *LR),
        ("float32", "betas swapped", "step.scalars", AT,
         f"{AT}.replace(betas={AT}.hypers['betas'][::-1])"),
        ("float64", "computed in float32", "step.compute_dtype", WIDE, "xp.float32"),
        ("bfloat16", "computed in bfloat16", "step.compute_dtype", WIDE, "dtype"),
        ("bfloat16", "scalars in bfloat16", "step._settled", HOST, EIGHT_BITS),
        ("float32", "traced scalars in bfloat16", "step._of_dtype", "_cast(xp, value, dtype)",
         "_cast(xp, _cast(xp, value, xp.bfloat16), dtype)"),
        ("float32", "bias correction with cancellation", "vocabulary.debias",
         "-xp.expm1(t * log_beta)", "1 - beta**t"),
        ("float32", "parameters of one shape mixed up", "step.run", ADVANCE,
         ADVANCE.replace("entry", "[e for e in entries if e[3].shape == entry.param.shape][-1]")),
        ("float32", "slots start elsewhere", "step.init_slots",
         "item.init.make(xp, param)", "item.init.make(xp, 0 * param)"),
        ("float32", "state stale", "rule.Rule.update", "new[path][1][name]",
         "tree.subtree(old, path)"),
        ("float32", "step not counted", "rule.Rule.update", "state.step, grad", "0, grad"),
    ],
    "torch": [
        ("float32", "state stale", "RuleOptimizer._advance", "_write(state[name], new)", "pass"),
        ("float32", "step not counted", "RuleOptimizer._advance", 'state["step"] += 1', "pass"),
        ("float32", "gradient written in place", "RuleOptimizer._advance",
         "entry.param.copy_(param)", "entry.param.copy_(param); entry.grad.neg_()"),
        ("bfloat16", "scalars in bfloat16", "_as_tensors", COMPUTE, "param.dtype"),
    ],
    "jax": [
        ("float32", "state stale", "_update", "slots[name][place] = value", "pass"),
        ("float32", "step not counted", "_update", "state.step + 1", "state.step"),
        ("float32", "sign flipped", "_update", "new_param - arrays[place]",
         "arrays[place] - new_param"),
    ],
    "mlx": [
        ("float32", "state stale", "RuleOptimizer.apply_gradients", "entry.slots.update(slots)",
         "pass"),
        ("float32", "step not counted", "RuleOptimizer.apply_gradients", COUNT, "pass"),
        ("float32", "gradient written in place", "RuleOptimizer.apply_gradients",
         "new_params.append(param)", "new_params.append(param); entry.grad[...] = 0"),
        ("float32", "state started at the gradient", "RuleOptimizer.apply_gradients",
         "lambda _, parameter: parameter", "lambda gradient, _: gradient"),
        ("bfloat16", "scalars in bfloat16", "_as_arrays", COMPUTE, "param.dtype"),
    ],
}
# fmt: on
"""Likewise by the package or adapter that has the fault; first the dtype in which it must show."""

BESIDE_AGREEMENT = {
    "torch": ["test_a_class_writes_what_the_rule_computes_into_the_same_tensors"],
    "mlx": [
        "test_an_optimizer_computes_what_the_rule_does_and_changes_nothing_it_is_given",
        "test_state_starts_at_the_parameters_whether_or_not_init_is_called",
    ],
}
"""Tests of an adapter that look at what a recorded run does not: its inputs, and no ``init``."""


def planting(fault, module=samestep):
    what, name, old, new = fault
    return edited(attrgetter(name)(module), what, old, new)


def fails(check, **fixtures):
    """Whether a test fails, given by name what pytest would give it; warnings are errors there."""
    try:
        check(**{name: fixtures[name] for name in signature(check).parameters})
    except (AssertionError, RuntimeWarning):
        return True
    except pytest.skip.Exception:
        pass
    return False


def assert_none_survives(count, survivors):
    assert count >= 5
    assert not survivors, f"{len(survivors)} of {count} survive:\n" + "\n".join(survivors)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Few steps, two parameters of one shape on backends, and nothing cached before or after."""
    shapes = {"bias": (33,), "matrix": (16, 9), "twin": (16, 9)}
    monkeypatch.setattr(test_rules, "record", partial(record, steps=12))
    monkeypatch.setattr(agreement, "record", partial(record, shapes=shapes))
    monkeypatch.setattr(agreement, "STEPS", 6)
    for name, function in getmembers(agreement, lambda value: hasattr(value, "cache_clear")):
        monkeypatch.setattr(agreement, name, cache(function.__wrapped__))
    monkeypatch.setattr(test_agreement, "measure", agreement.measure)


@given(data=st.data())
@examples(
    max_examples=15,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def drawn(rule_class, data):
    """The suite's test on hyperparameters drawn at random; always the same ones, none shrunk."""
    check = test_properties.test_any_hyperparameters_in_range_agree_with_the_reference
    check.hypothesis.inner_test(rule_class, data)


def rule_fails(rule_class):
    """Whether the suite notices something wrong with a rule on NumPy."""
    checks = (
        test_rules.test_parameters_and_state_are_the_reference_s,
        test_properties.test_inputs_are_untouched,
    )
    return any(
        fails(check, rule_class=rule_class, setting=setting)
        for setting in settings(rule_class).values()
        for check in checks
    ) or fails(partial(drawn, rule_class))


def survivors_of(faults, notices):
    for fault in faults:
        with planted(fault):
            if not notices():
                yield fault.name


def test_faults_in_a_rule_are_caught(rule_class):
    if reference_for(rule_class.__name__) is None:
        pytest.skip("a rule from outside the package brings no reference")
    slots = [*rule_class._slots, *rule_class._shared]
    faults = [planting(LR), planting(DECAY)]
    faults += [planting(MAXIMIZE)] if "maximize" in rule_class.fields() else []
    faults += [f for function in arithmetic_of(rule_class) for f in faults_in(function, slots)]
    assert not rule_fails(rule_class)
    assert_none_survives(len(faults), [*survivors_of(faults, lambda: rule_fails(rule_class))])


def test_faults_in_what_rules_share_are_caught():
    """One rule that notices is enough: none uses everything."""
    faults = [planting(IN_PLACE)]
    faults += [
        fault
        for module in (vocabulary, weight_decay, matrix)
        for _, function in getmembers(module, isfunction)
        if getmodule(function) is module
        for fault in faults_in(function)
    ]
    quick = test_rules.test_parameters_and_state_are_the_reference_s

    def noticed():
        return any(fails(quick, setting=typical(rule)) for rule in RULES) or any(
            map(rule_fails, RULES)
        )

    assert_none_survives(len(faults), [*survivors_of(faults, noticed)])


def forget(module):
    """Empty every cache of a module: results, or kernels that hold the code of a fault."""
    for value in vars(module).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def test_faults_on_a_backend_are_caught(backend):
    rules = [
        next(rule for rule in RULES if rule.needs == "element" and "betas" in rule.fields()),
        next(
            rule
            for rule in RULES
            if any(
                slot.init is vocabulary.initial_parameter for slot in typical(rule).slots().values()
            )
        ),
    ]
    adapter = step
    if backend.library in IN_BACKENDS:
        adapter = getmodule(import_module(f"samestep.{backend.library}").bind)

    def follow(rule, dtype):
        """A run, which the tests of agreement then find in the cache."""
        forget(agreement)
        agreement._followed(typical(rule), backend, dtype)

    def differs(rule, dtype):
        return any(
            fails(check, rule_class=rule, backend=backend, dtype=dtype)
            for name, check in getmembers(test_agreement, isfunction)
            if name.startswith("test_")
        )

    def beside(dtype):
        names = BESIDE_AGREEMENT.get(backend.library, ())
        tests = names and import_module(f"samestep.conformance.test_{backend.library}_adapter")
        return any(
            fails(
                getattr(tests, name),
                name=rule.__name__,
                precision=backend.array(numpy.zeros(1), dtype).dtype,
                execution=getattr(backend, "execution", None),
            )
            for name in names
            for rule in rules
        )

    def runs(fault, dtype):
        """Whether the backend runs the piece of source where the fault is to be planted."""
        try:
            with planted(fault):
                follow(rules[0], dtype)
        except ZeroDivisionError:
            return True
        return False

    def caught(fault, dtype):
        for rule in rules:
            with planted(fault):
                follow(rule, dtype)
            if differs(rule, dtype):
                return True
        with planted(fault):
            return beside(dtype)

    for dtype in backend.dtypes:
        for rule in rules if dtype == "float32" else rules[:1]:
            follow(rule, dtype)
            assert not differs(rule, dtype)
    assert not beside("float32")
    count, survivors = 0, []
    for module, name in ((samestep, "samestep"), (adapter, backend.library)):
        for dtype, what, where, old, new in IN_BACKENDS.get(name, ()):
            if dtype in backend.dtypes and runs(planting((what, where, old, "1/0"), module), dtype):
                fault, count = planting((what, where, old, new), module), count + 1
                if fault.function is step.compute_dtype:
                    forget(adapter)
                if not caught(fault, dtype):
                    survivors.append(fault.name)
                if fault.function is step.compute_dtype:
                    forget(adapter)
    assert_none_survives(count, survivors)
