"""Groups of parameters with numbers of their own: of every rule, and on every backend."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

import samestep
from samestep.conformance.harness.settings import representatives, typical
from samestep.declaration import Hyper
from samestep.parity import compare, follow, record
from samestep.parity.backend import NumPy
from samestep.parity.trajectory import suited
from samestep.watched import another
from samestep.weight_decay import FAMILIES

SHAPES = {
    "encoder.0.weight": (4, 3),
    "encoder.0.bias": (4,),
    "encoder.1.weight": (2, 3, 2),
    "head.weight": (3, 5),
    "scale": (1, 1),
}
TRAJECTORY = record(seed=11, steps=5, shapes=SHAPES, decades=(-2, 1))
WITHIN = 1e-5
"""Of the largest value in an array: what compilers that contract operations may differ by."""


def is_weight(parameter):
    return parameter.ndim > 1


def in_encoder(parameter):
    return parameter.path.startswith("encoder.")


def is_small(parameter):
    return parameter.shape == (1, 1)


def alone(rule, mask=None, groups=()):
    """The rule of every parameter, with the numbers that the first group says."""
    found = {}
    for path, shape in SHAPES.items():
        seen = samestep.groups.Parameter(path, shape)
        changes = next((c for holds, c in groups if holds(seen)), {})
        own = rule.replace(**changes)
        found[path] = own if mask is None or mask(seen) else own.replace(weight_decay=0.0)
    return found


def run(rule, backend, trajectory, dtype="float32"):
    trajectory = suited(rule, trajectory).rounded(dtype)
    return follow(backend.start(rule, trajectory.params, dtype), backend, trajectory)


def assert_as_alone(rule, backend, plain, mask=None, groups=(), trajectory=TRAJECTORY):
    """The grouped run on a backend is, parameter by parameter, that of its own rule alone."""
    exact = backend.exact != "bound"
    found = run(rule, backend, trajectory)
    for path, own in alone(plain, mask, groups).items():
        if len(SHAPES[path]) < rule.min_ndim:
            continue
        expected = run(own, backend, trajectory.taken({path}))
        for ours, theirs in zip(found, expected, strict=True):
            for key, value in theirs.items():
                if exact:
                    np.testing.assert_array_equal(ours[key], value, err_msg=str(key))
                else:
                    atol = WITHIN * np.abs(value).max(initial=1e-3)
                    np.testing.assert_allclose(ours[key], value, 0, atol, err_msg=str(key))


def changed(rule):
    """Two groups of numbers that every rule has."""
    fields, lr = rule.all_fields(), rule.hypers["lr"]
    own = "betas" in fields and not fields["betas"].whole
    betas = {"betas": tuple(0.5 * b for b in rule.hypers["betas"])} if own else {}
    return [
        (is_small, {"lr": 0.5 * lr}),
        (in_encoder, {"lr": 0.25 * lr, "weight_decay": 0.3, **betas}),
        (lambda p: True, {"weight_decay": 0.2}),
    ]


def grouped(rule, mask=None, groups=()):
    return rule.replace(mask=mask, groups=groups)


@pytest.mark.only(where=lambda rule: rule.needs != "tree")
def test_every_rule_gives_each_parameter_its_group_s_numbers(rule_class):
    rule = typical(rule_class)
    groups = changed(rule)
    assert_as_alone(grouped(rule, is_weight, groups), NumPy(), rule, is_weight, groups)


@pytest.mark.only(where=lambda backend: backend.name in ("torch", "jax", "optax", "mlx"))
def test_every_rule_finds_the_same_groups_in_every_framework(rule_class, backend):
    """In the executions that do not compile, which have a test of their own."""
    rule = grouped(typical(rule_class), is_weight, changed(typical(rule_class)))
    if rule.needs == "tree":
        expected, found = run(rule, NumPy(), TRAJECTORY), run(rule, backend, TRAJECTORY)
        assert compare(found, expected, "float32", whole=True).ulp < 64
        return
    plain = typical(rule_class)
    assert_as_alone(rule, backend, plain, is_weight, changed(plain))


@pytest.mark.filterwarnings("ignore:.*mask, <lambda>, fits none of")
def test_a_mask_switches_every_family_of_decay_off(rule_class):
    found, shown = 0, rule_class in representatives()
    for family in FAMILIES if shown else FAMILIES[:5]:
        with suppress(ValueError):  # the rule has no such family
            plain = typical(rule_class)
            rule = plain.replace(decay=family, peak_lr=plain.lr)
            switched_off(rule)
            found += 1
    assert found


def switched_off(rule):
    if rule.needs == "tree":
        everywhere, nowhere = (
            run(rule.replace(mask=lambda p, on=on: on), NumPy(), TRAJECTORY) for on in (True, False)
        )
        assert compare(everywhere, run(rule, NumPy(), TRAJECTORY), "float32").first is None
        without = run(rule.replace(weight_decay=0.0), NumPy(), TRAJECTORY)
        assert compare(nowhere, without, "float32").first is None
        assert compare(everywhere, nowhere, "float32").first is not None
        return
    assert_as_alone(grouped(rule, is_weight), NumPy(), rule, is_weight)
    decayed, undecayed = (run(r, NumPy(), TRAJECTORY) for r in (rule, grouped(rule, is_weight)))
    if rule.min_ndim < 2:
        key = "param", "encoder.0.bias"
        assert (decayed[-1][key] != undecayed[-1][key]).any()


class Noting:
    """Coefficients that note which of them are read."""

    def __init__(self, s, names):
        self.s, self.names = s, names

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self.s, name)


def test_what_is_read_of_the_sums_over_all_is_declared_as_one_for_all(rule_class, monkeypatch):
    read, summed = set(), rule_class.summed

    def noted(self, xp, sums, shared, s, phase):
        return summed(self, xp, sums, shared, Noting(s, read), phase)

    monkeypatch.setattr(rule_class, "summed", noted)
    rule = typical(rule_class)
    run(rule, NumPy(), TRAJECTORY)
    numbers = {n: f for n, f in rule_class.fields().items() if isinstance(f, Hyper)}
    starts = {one.start for one in rule_class._shared.values()}

    def coefficients(rule):
        found = rule.coefficients(np, 3)
        return {name: found[name] for name in read if name in found}

    known = coefficients(rule)
    read |= {
        name
        for name in (numbers if read else ())
        if coefficients(rule.replace(**{name: another(numbers[name], rule.hypers[name])})) != known
    }
    assert (read | starts) & {*numbers} == {n for n, field in numbers.items() if field.whole}
