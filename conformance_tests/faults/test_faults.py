"""The suite, tested: faults planted in rules, in what they share and in adapters make it fail.

A fault is caught when one of the suite's own tests, called here with fewer steps, fails.
"""

from __future__ import annotations

import pickle
from functools import cache, partial
from importlib import import_module
from inspect import getmembers, getmodule, isclass, isfunction, signature
from operator import attrgetter
from pkgutil import iter_modules, resolve_name

import numpy
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import samestep
from samestep import packing, parts, step, vocabulary, weight_decay
from samestep.conformance.faults.mutants import IN_PLACE, arithmetic_of, edited, faults_in, planted
from samestep.conformance.harness import agreement
from samestep.conformance.harness.parametrized import applies
from samestep.conformance.harness.settings import settings, typical
from samestep.conformance.references import follow_reference, reference_for
from samestep.conformance.rules import test_agreement, test_dialects, test_properties, test_rules
from samestep.parity import record
from samestep.parity.backend import NUMPY
from tests.core import test_groups

pytestmark = pytest.mark.thorough

RULES = [getattr(samestep, name) for name in samestep.rules.__all__]
SHAPES = {"scalar": (), "bias": (5,), "matrix": (6, 4), "twin": (6, 4), "kernel": (4, 3, 2, 2)}
AT = "rule.at(step)"
LR = ("lr +1 %", "step.scalars", AT, f"{AT}.replace(lr=1.01 * {AT}.hypers['lr'])")
DECAY = ("weight decay dropped", "step.scalars", AT, f"{AT}.replace(weight_decay=0.0)")
MAXIMIZE = ("maximize ignored", "rule.Rule.prepared", "-grad if self.maximize else grad", "grad")
CAST = "new_param = cast_like(xp, new_param, param)"
GRAD = ("grad written in place", "step.advance", CAST, f"{CAST}; grad += 1")
"""What is wrong, in which function, and the piece of source that gives way to another."""

WIDE = "xp.float64 if dtype == xp.float64 else xp.float32"
HOST = "value.item() if isinstance(value, (host.generic, host.ndarray)) else value"
EIGHT_BITS = "(lambda m, e: float(host.ldexp(host.rint(256 * m), e - 8)))(*host.frexp(value))"
COMPUTE = "stepping.compute_dtype(xp, param.dtype)"
ADVANCE = "execute(advance, entry, visible if entry.rule.phases else {})"
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
        ("float32", "traced scalars in bfloat16", "step._of_dtype", "cast(xp, value, dtype)",
         "cast(xp, cast(xp, value, xp.bfloat16), dtype)"),
        ("float32", "bias correction with cancellation", "vocabulary.debias",
         "-expm1(xp, t * log(xp, beta))",
         "1 - xp.asarray(beta, dtype=xp.float32) ** t"),
        ("float32", "parameters of one shape mixed up", "step.run", ADVANCE,
         ADVANCE.replace("entry", "[e for e in entries if e[3].shape == entry.param.shape][-1]")),
        ("float32", "gathered parameters mixed up", "packing.parted",
         "start += math.prod(entry.param.shape)", "pass"),
        ("float32", "slots start elsewhere", "step.init_slots",
         "item.init.make(xp, param,", "item.init.make(xp, 0 * param,"),
        ("float32", "state stale", "whole.update", "new[path][1].get(name)",
         "tree.subtree(old, path)"),
        ("float32", "step not counted", "step.scalars", "host, step + 1", "host, 1"),
    ],
    "torch": [
        ("float32", "state stale", "samestep.torch.kernels:_writing",
         '"param": param, **slots', '"param": param'),
        ("float32", "step not counted", "samestep.torch.plan:Plan.count",
         "1 if taken is None else taken.to(counts.device)", "0"),
        ("float32", "gradient written in place", "RuleOptimizer._advance_in_place",
         "plan.count(taken)", "plan.count(taken); [grad.neg_() for grad in grads]"),
        ("float32", "gathered parameters not put back", "samestep.torch.plan:Plan.finish",
         "own.gathers", "False"),
        ("float32", "gathered state goes astray", "samestep.torch.plan:_Batch._rebased",
         "torch.split(vector, sizes)", "[vector[:size] for size in sizes]"),
        ("float32", "pieces one element short", "samestep.packing:in_chunks",
         "slice(start, start + length)", "slice(start, start + length - 1)"),
        ("bfloat16", "scalars in bfloat16", "samestep.torch.kernels:as_tensors", COMPUTE,
         "param.dtype"),
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
"""Likewise by the package or adapter that has the fault; first the dtype in which it must show."""

BY_HAND = {
    "AdamP": [
        ("parameter as a whole only", "AdamP.direction", '("whole", self.layout)', '("whole",)'),
        ("by channel only", "AdamP.direction", '("whole", self.layout)', "(self.layout,)"),
        ("channel before whole", "AdamP.direction", '("whole", self.layout)',
         '(self.layout, "whole")'),
        ("vectors too", "AdamP.direction", "param.ndim > 1", "param.ndim > 0"),
        ("limit by rows", "AdamP.direction", "p.shape[1] ** 0.5", "p.shape[0] ** 0.5"),
        ("fits if any row does", "AdamP.direction", "xp.max(", "xp.min("),
        ("gradient projected", "AdamP.direction", "xp.sum(p * along", "xp.sum(p * g"),
        ("projection not taken back", "AdamP.direction", "from_matrix(xp, tangent",
         "from_matrix(xp, along"),
    ],
    "Adafactor": [
        ("always the last axes", "Adafactor.direction", "self.axes", '"last"'),
        ("small axes factored", "Adafactor.direction", "self.min_dim", "1"),
        ("means over the other axis", "Adafactor.direction", "zip(state.v, axes, strict=True)",
         "zip(state.v, axes[::-1], strict=True)"),
        ("mean over all", "Adafactor.direction", "axis=axes[1]", "axis=None"),
        ("sum for mean", "Adafactor.direction", "xp.mean(row", "xp.sum(row"),
        ("larger for smaller", "Adafactor.scalars", "smaller(xp, ", "max("),
        ("clipped element by element", "Adafactor.direction", "_rms(xp, u) /", "xp.abs(u) /"),
        ("sum for mean", "_rms", "xp.mean", "xp.sum"),
    ],
    "RAdam": [
        ("beta1", "RAdam.scalars", "self.betas[1]", "self.betas[0]"),
        ("a step late", "RAdam.scalars", "self.betas[1], t)", "self.betas[1], t - 1 + 1e-9)"),
        ("the paper's threshold always", "RAdam.scalars", "> self.threshold", "> 4.0"),
        ("rectified from the first step", "RAdam.scalars", "trusted = rho > self.threshold",
         "trusted = True"),
        ("r squared", "RAdam.scalars", "sqrt(xp, choose", "float(choose"),
    ],
    "NAdam": [
        ("product of one", "NAdam.direction", "s.mu * state.product", "s.mu"),
        ("both corrected alike", "NAdam.direction", "(1 - of_m * product)", "(1 - product)"),
        ("momentum of this step for both", "NAdam.scalars", "step in (t, t + 1)", "step in (t, t)"),
        ("schedule a step late", "NAdam.scalars", "step * pace", "(step - 1) * pace"),
    ],
    "TAdam": [
        ("w_sum never decays", "TAdam.direction", "s.keep_sum * state.w_sum", "state.w_sum"),
        ("w_sum without the new weight", "TAdam.direction", "* state.w_sum + w}",
         "* state.w_sum}"),
        ("outliers from the new v", "TAdam.direction", "(state.v + s.eps)",
         "(self.square(xp, grad, grad, state, s) + s.eps)"),
        ("dof ignored", "TAdam.direction", 's.dof if hasattr(s, "dof") else size', "size"),
    ],
    "Scout": [
        ("first step left out", "Scout.gather", "(state.slow, *history)", "history"),
        ("old history", "Scout.gather", "*history)", "*state.history)"),
        ("square of the coherence", "Scout.gather", "xp.sqrt(square / (len(steps) - 1))",
         "square / (len(steps) - 1)"),
        ("sum over elements", "Scout.gather", "/ xp.where(elements > 0, elements, 1.0)", ""),
        ("follows the first fast weights", "Scout.step", "s.here[1:]", "s.here[1:1]"),
        ("synchronised a step early", "Scout.scalars", "here[-1]", "here[-2]"),
        ("incoherence", "Scout.combine", "1 - sums.coherence", "0 + sums.coherence"),
    ],
    "Rprop": [
        ("sign change forgotten", "Rprop.direction", '"prev": kept', '"prev": grad'),
        ("bounds swapped", "Rprop.direction", "s.step_sizes[0], s.step_sizes[1]",
         "s.step_sizes[1], s.step_sizes[0]"),
        ("lr on top", "Rprop.scalars", "1.0", "self.lr"),
    ],
    "Lion": [
        ("starts at the gradient", "Lion.scalars", 'self.start == "gradient"', "True"),
        ("starts at zero", "Lion.scalars", 'self.start == "gradient"', "False"),
        ("starts again", "Lion.scalars", "t == 1", "t < 3"),
        ("one beta", "Lion.direction", "sign(xp, ema(m, grad, s.beta1))",
         "sign(xp, ema(m, grad, s.beta2))"),
    ],
    "AdEMAMix": [
        ("m2 corrected", "AdEMAMix.direction", "s.alpha * m2",
         "s.alpha * m2 / (1 - s.beta3[0]) * s.unbias_m1"),
        ("m2 corrected as m1", "AdEMAMix.direction", "s.alpha * m2", "s.alpha * s.unbias_m1 * m2"),
        ("m2 as fast as m1", "AdEMAMix.direction", "grad, s.beta3", "grad, s.beta1"),
    ],
    "LARS": [
        ("norm before decay", "LARS.direction", "norm(xp, decayed_parameter(param, s))",
         "norm(xp, param)"),
        ("no decay in the divisor", "LARS.direction",
         "decayed_direction(self.decay, norm(xp, grad), length, s)", "norm(xp, grad)"),
        ("ratio not on the decay", "LARS.direction", "ratio * total", "ratio * grad"),
        ("always inside", "LARS.direction", 'self.ratio_at == "inside"', "True"),
    ],
    "Adan": [
        ("first difference is the gradient", "Adan.direction", "s.first, grad, state.prev",
         "s.first, 0 * grad, state.prev"),
        ("difference of n unweighted", "Adan.direction", "grad + s.ahead * diff", "grad + diff"),
    ],
    "AdaBelief": [
        ("distance from the old mean", "AdaBelief.square", "grad - m", "grad - state.m"),
        ("plain Adam", "AdaBelief.square", "apart * apart", "grad * grad"),
    ],
    "Adamax": [
        ("eps beside too", "Adamax.direction", "divisor = u if", "divisor = u + s.eps if"),
    ],
    "RMSprop": [
        ("g as m", "RMSprop.direction", "(g * g)", "(grad * grad)"),
    ],
    "SM3": [
        ("sum for maximum", "_max_beside", "xp.max", "xp.sum"),
        ("along its own axis", "_max_beside", "other != axis", "other == axis"),
    ],
    "Accumulate": [
        ("calls counted", "Accumulate.steps_inside", "step // self.every", "step"),
        ("a call early", "Accumulate.scalars", "place == self.every", "place == self.every - 1"),
    ],
    "Cautious": [
        ("only what disagrees", "Cautious.directed", "> 0, xp.ones_like", "<= 0, xp.ones_like"),
        ("zeros agree", "Cautious.directed", "> 0, xp.ones_like", ">= 0, xp.ones_like"),
    ],
    "SkipNonFinite": [
        ("NaN alone", "SkipNonFinite.local", "xp.isfinite(grad)", "~xp.isnan(grad)"),
        ("infinities alone", "SkipNonFinite.local", "xp.isfinite(grad)", "~xp.isinf(grad)"),
    ],
    "Lookahead": [
        ("a step early", "Lookahead.scalars", "t %", "(t + 1) %"),
        ("fast weights go on", "Lookahead.step", "choose(xp, s.sync, slow, fast)", "fast"),
    ],
    "Muon": [
        ("by the smaller side", "Muon.direction", "max(1.0, outputs", "min(1.0, outputs"),
        ("layout ignored", "Muon.direction", "as_matrix(xp, look, self.layout)",
         'as_matrix(xp, look, "oi")'),
    ],
    "Prodigy": [
        ("old d for the step", "Prodigy.direction", "state.d_used", "state.d"),
        ("d may shrink", "Prodigy.combine", "xp.maximum(shared.d_max, d_hat)", "d_hat"),
    ],
    "SGD": [("never decays without momentum", "SGD.scalars", "not self.bare_decay and ", "")],
    "RaLars": [("scale of RAdam", "RaLars.direction", "self.rescaled(xp, direction, param, s)",
                "direction")],
    "Yogi": [("plain Adam", "Yogi.square", "sign(xp, state.v - square)", "(state.v - square)")],
}
"""Likewise, by rule, in the rule's module: what the mechanical faults do not think of."""

SHARED_BY_HAND = [
    ("decay again", "weight_decay.decayed_gradient", '("l2", "l2+proximal")',
     '("l2", "l2+proximal", "decoupled")'),
    ("only half of it", "weight_decay.decayed_gradient", '("l2", "l2+proximal")', '("l2",)'),
    ("only half of it", "weight_decay.scalars", '("proximal", "l2+proximal")', '("proximal",)'),
    ("absolute times lr", "weight_decay.scalars", "1 - weight_decay", "1 - lr * weight_decay"),
    ("decoupled as absolute", "weight_decay.scalars", "1 - lr * weight_decay",
     "1 - weight_decay"),
    ("shrinks before the step", "weight_decay.descend", "decayed_parameter(param, s) -",
     'decayed_parameter(param, s) * getattr(s, "shrink", 1.0) -'),
    ("keep after the step", "weight_decay.descend", "decayed_parameter(param, s) - s.rate *",
     "param - s.rate *"),
    ("in_update with lr inside", "rule.Rule.coefficients", 'family = "decoupled"', "pass"),
    ("decay twice", "rule.Rule.descended", "not self.decays_inside", "True"),
    ("decay never in the update", "rule.Rule.descended", "not self.decays_inside",
     "False"),
    ("starts at the gradient again", "parts.momentum.Momentum.scalars", "t == 1", "t < 3"),
    ("starts like the other", "parts.momentum.Momentum.accelerated",
     'self.momentum_start == "gradient"', 'self.momentum_start == "zero"'),
    ("dampened start", "parts.momentum.Momentum.accelerated", "s.first, step, m",
     "s.first, fresh, m"),
    ("mean for sum", "parts.momentum.Momentum.scalars", 'self.momentum_form == "mean"', "True"),
    ("lr twice", "parts.momentum.Momentum.scalars", '{"rate": 1.0}', "{}"),
    ("lr nowhere", "parts.momentum.Momentum.accelerated", "s.lr * step", "step"),
    ("nesterov looks at the gradient", "parts.momentum.Momentum.accelerated",
     "fresh + s.momentum * m", "step + s.momentum * m"),
    ("starts again", "parts.moments.Moments.scalars", "t == 1", "t < 3"),
    ("v of the largest not kept", "parts.moments.Moments.divided", 'slots["v_max"] = v',
     'slots["v_max"] = state.v_max'),
    ("maximum kept as v", "parts.moments.Moments.divided", '"v": v}',
     '"v": xp.maximum(v, getattr(state, "v_max", v))}'),
    ("smallest first", "parts.factored.factored_axes", "[:-3:-1]", "[:2]"),
    ("the other axis first", "parts.factored.factored_axes", "[:-3:-1]", "[-2:]"),
    ("smallest for largest", "parts.factored.factored_axes", 'which == "largest"',
     'which == "last"'),
    ("ratio of the undecayed", "parts.layerwise.Layerwise.rescaled",
     "norm(xp, decayed_parameter(param, s))", "norm(xp, param)"),
    ("decay outside the ratio", "parts.layerwise.Layerwise.rescaled", "norm(xp, direction))",
     "norm(xp, direction - s.weight_decay * param))"),
]
"""Likewise in what rules share; paths from the package."""

WIRING = [
    ("like ignored", "dialects.chosen", "presets[like]", "{}"),
    ("like before arguments", "made.Declared._given", "like | bound", "bound | like"),
    ("schedules of the slow mean not delayed", "rules.ademamix.AdEMAMix.schedule_step",
     "step - self.slow_start", "step"),
    ("all schedules delayed", "rules.ademamix.AdEMAMix.schedule_step", 'name == "alpha"',
     "True"),
    ("schedules stand still", "rule.Rule._resolved", "self.schedule_step(name, place, step)", "0"),
    ("groups ignored", "composed.Composed.of", "place == (None, True)", "True"),
    ("mask ignored", "groups.Groups.applied", "changes if decays else", "changes if True else"),
    ("the last group that fits", "groups.Groups.place", "next(matching, None)",
     "max(matching, default=None)"),
    ("the first group for all", "groups.Groups.applied", "self.groups[group]", "self.groups[0]"),
    ("groups of the rule inside ignored", "composed.Composed.of",
     "tuple(rule.of(path, shape) for rule in self.inside)", "self.inside"),
]
"""Likewise in how a rule gets its numbers: by dialect, schedule and group."""

BESIDES = {
    "AdaBelief": [{"keep_eps": False, "eps_at": "inside", "eps": 1e-2, "eps_root": 1e-2}],
    "Adafactor": [{"lr": 1.0, "eps": (0.1, 0.01), "eps_at": "clamped"}, {"min_dim": 4}],
    "Adam": [{"betas": (0.0, 0.0)}],
    "AdamW": [{"eps": 0.0}],
    "Adamax": [{"eps": 0.0}],
    "LAMB": [{"scale_clip": (0.5, 0.6)}],
    "LARS": [{"scale_clip": (0.5, 0.6), "weight_decay": 0.0}],
    "Prodigy": [{"beta3": 0.9, "growth_rate": 1.02, "d_coef": 100.0}, {"beta3": 0.0}],
    "RAdam": [{"betas": (0.8, 0.8)}, {"betas": (0.8, 0.6)}],
    "Scout": [{"sync_rate": 0.0}],
}
"""Numbers that no setting of the suite has and without which some faults do not show."""
SAME = "where both are equal, either will do"
MATRIX = "a matrix keeps its shape"
LOCAL = "local() has made this array in the same step"
EQUIVALENT = {
    "rules.adadelta state.u: forgotten, place 2": "only its shape is read",
    "rules.adadelta state.u: v read instead, place 2": "only its shape is read",
    "rules.adamax divisor <= SMALLEST: not equal": "no number recorded is that one",
    "rules.adamax xp.where(gone, 0.0, s.unbias_m * m / xp.where(gone, 1.0, divisor)): never":
        "u is 0 only where every gradient was, and m with it",
    "rules.adabelief RAdam.scalars(self, xp, t) if self.rectify else Moments.scalars(self, xp, t): "
    "always": "only slower",
    "rules.rmsprop xp.where(apart > 0, apart, 0.0): always":
        "a variance, which only rounding makes negative",
    "rules.rmsprop apart > 0: or equal": SAME,
    "rules.rprop sign(xp, grad): dropped": "only the sign of the product counts",
    "rules.rprop sign(xp, state.prev): dropped": "only the sign of the product counts",
    "rules.adafactor full if added else at_least(xp, full, s.eps[0] * s.eps[0]): never":
        "eps1 is below 1, and its square below what has been added",
    "vocabulary x > least: or equal": SAME,
    "rules.ademamix self.slow_start: +1 %": "no whole step lies between",
    "rules.ademamix step > self.slow_start: or equal": "0 either way",
    "rules.adan state.prev: forgotten": "where prev is not kept it is 0",
    "rules.adan state.prev: forgotten, place 3": "where prev is not kept it is 0",
    "rules.adafactor mean if added else at_least(xp, mean, s.eps[0]): never":
        "a mean of what is at least eps1 is so too",
    "rules.prodigy 0 * shared.d: last factor dropped": "0 either way",
    "rules.prodigy shared.d: forgotten, place 5": "0 either way",
    "rules.adamp xp.max(cosine if signed else xp.abs(cosine)) < s.delta / p.shape[1] ** 0.5: "
    "or equal": "no cosine is that number",
    "parts.matrix xp.reshape(x, (-1, x.shape[-1])) if x.ndim > 2 else x: always": MATRIX,
    "parts.matrix xp.reshape(x, (x.shape[0], -1)) if x.ndim > 2 else x: always": MATRIX,
    "parts.matrix x.ndim > 2: or equal": MATRIX,
    "parts.matrix x.ndim > 2: or equal, place 2": MATRIX,
    "parts.matrix matrix.shape[0] > matrix.shape[1]: turned round": "the transpose has the same",
    "parts.matrix matrix.shape[0] > matrix.shape[1]: or equal": "the transpose has the same",
    "parts.moments not hasattr(root, 'may_vanish'): never": "only faster without",
    "parts.moments is_array(eps) or eps < SMALLEST: always": "only faster without",
    "parts.moments eps < SMALLEST: or equal": "no eps is that number",
    "parts.moments {'unbias_v': 1 / gathered_v} if corrected else {}: always": "not read",
    "parts.moments is_array(under) or under > 0: always": "adds 0",
    "parts.moments under > 0: or equal": "adds 0",
    "vocabulary a < b: or equal": SAME,
    "vocabulary length <= most: not equal": SAME,
    "rules.average self.average_start: +1 %": "no whole step lies between",
    "rules.skipnonfinite shared.skipped + bad: skipped in float32": "a whole number",
    "rules.cautious sign(xp, grad): dropped": "only the sign of the product counts",
    "vocabulary x > 0: or equal": "no coefficient is 0 there",
    "parts.moments xp.where(gone, 0.0, x / xp.where(gone, 1.0, denominator)): never":
        "v is 0 only where x is",
    "parts.rectification y < 1: or equal": "no y is that number",
    "rules.radam rho > self.threshold: or equal": "no rho is that number",
    "rules.sm3 xp.max(nu, axis=others, keepdims=True) if others else nu: always":
        "NumPy's maximum over no axis is the array",
    **{f"rules.prodigy direction: state.{slot} written in place": LOCAL
       for slot in ("m", "v", "s", "d", "d_max", "numerator")},
}
"""Faults that change nothing, by name without the line, and why."""
TRACED = "a traced coefficient, which is for the tests of compiled backends"
ROUNDED = "rho in float32, after many steps"
LEAST = "a cosine on whose side of its limit eps decides"
EMPTY = "no parameter but empty ones"
UNNOTICED = {
    "vocabulary isinstance(x, float): always": TRACED,
    "vocabulary isinstance(x, float): never": TRACED,
    "vocabulary math.expm1(x) if isinstance(x, float) else xp.expm1(x): always": TRACED,
    "vocabulary math.expm1(x) if isinstance(x, float) else xp.expm1(x): never": TRACED,
    "vocabulary math.sqrt(x) if isinstance(x, (int, float)) else xp.sqrt(x): always": TRACED,
    "vocabulary math.sqrt(x) if isinstance(x, (int, float)) else xp.sqrt(x): never": TRACED,
    "vocabulary xp.sqrt(x): dropped": TRACED,
    "vocabulary isinstance(condition, bool): always": TRACED,
    "vocabulary isinstance(condition, bool): never": TRACED,
    "rules.average share * one: last factor dropped": TRACED,
    "rules.average 0.0 * t: last factor dropped": TRACED,
    "rules.radam self.threshold: +1 %": "a rho between the threshold and 1.01 of it",
    "rules.adamp 1e-08 if signed else s.eps: always": LEAST,
    "rules.adamp 1e-08 if signed else s.eps: never": LEAST,
    "rules.adamp s.eps: +1 %": LEAST,
    "rules.scout xp.where(elements > 0, elements, 1.0): always": EMPTY,
    "rules.scout elements > 0: or equal": EMPTY,
    "rules.scout xp.where(sums.parameters > 0, sums.parameters, 1.0): always": EMPTY,
    "rules.scout sums.parameters > 0: or equal": EMPTY,
    "parts.rectification choose(xp, y < 1, y / fraction, -1 - 2 / expm1(xp, -2 * y) - 1 / y): "
    "always": ROUNDED,
    "parts.rectification choose(xp, y < 1, y / fraction, -1 - 2 / expm1(xp, -2 * y) - 1 / y): "
    "never": ROUNDED,
    "parts.rectification y < 1: turned round": ROUNDED,
}
"""Faults that nothing in the suite shows so far, and what would."""
# fmt: on

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
    function = resolve_name(name) if ":" in name else attrgetter(name)(module)
    return edited(function, what, old, new)


def fails(check, **fixtures):
    """Whether a test fails, given by name what pytest would give it; warnings are errors there."""
    if not applies(check, fixtures):
        return False
    try:
        given = fixtures | {"record_property": lambda name, value: None}
        check(**{name: given[name] for name in signature(check).parameters})
    except pytest.skip.Exception:
        return False
    except Exception:  # a test that raises anything fails
        return True
    return False


def assert_none_survives(count, survivors, least=5):
    assert count >= least
    assert not survivors, f"{len(survivors)} of {count} survive:\n" + "\n".join(survivors)


@cache
def small(seed, steps=12):
    return record(seed, steps, SHAPES)


@cache
def remembered(rule, given):
    return follow_reference(rule, pickle.loads(given))


@cache
def sensitivity(rule, given, of=test_rules._sensitivity):
    return of(rule, pickle.loads(given))


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Few steps of few numbers; references, which no fault changes, are followed once.

    On backends two parameters have one shape, two more are gathered and large ones cut, and
    nothing is cached before or after.
    """
    shapes = {"bias": (33,), "matrix": (16, 9), "twin": (16, 9), "scale": (20,)}
    monkeypatch.setattr(packing, "SMALL", 100)
    monkeypatch.setattr(packing, "CHUNK", 100)
    monkeypatch.setattr(test_rules, "record", small)
    monkeypatch.setattr(
        test_rules, "follow_reference", lambda rule, given: remembered(rule, pickle.dumps(given))
    )
    monkeypatch.setattr(
        test_rules, "_sensitivity", lambda rule, given: sensitivity(rule, pickle.dumps(given))
    )
    monkeypatch.setattr(test_properties, "SHORT", record(seed=3, steps=2, shapes=SHAPES))
    monkeypatch.setattr(agreement, "record", partial(record, shapes=shapes))
    monkeypatch.setattr(agreement, "STEPS", 6)
    for name, function in getmembers(agreement, lambda value: hasattr(value, "cache_clear")):
        monkeypatch.setattr(agreement, name, cache(function.__wrapped__))
    monkeypatch.setattr(test_agreement, "measure", agreement.measure)


AGREE = (
    test_rules.test_parameters_and_state_are_the_reference_s,
    test_rules.test_zero_parameters_and_first_gradients_that_are_zero_agree_too,
)
UNTOUCHED = test_properties.test_inputs_are_untouched


@cache
def sound(setting):
    """Whether the suite finds nothing wrong with a rule while no fault is planted."""
    given = test_rules.suited(setting, small(seed=1))
    if not fails(test_rules._sensitivity, rule=setting, given=given):  # before a fault is planted
        return not any(fails(check, setting=setting) for check in (*AGREE, UNTOUCHED))
    return False


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


def declared(rule_class):
    """Instances of a rule with every option that it declares, and with numbers that it takes."""
    more = [typical(rule_class, **values) for values in BESIDES.get(rule_class.__name__, ())]
    return [*settings(rule_class).values(), *more]


@cache
def tried(rule_class):
    """Instances of a rule that the suite tries: every option, and those beside other libraries.

    One that fails without a fault is left out; the test that it fails says so itself.
    """
    cases = [case.values for kind in ("PEERS", "VECTORS") for case in test_dialects.cases(kind)]
    beside = [
        test_dialects.made(item.rule, like, values)
        for like, item, values in cases
        if item.rule == rule_class.__name__
    ]
    beside = [rule for rule in beside if not any(map(callable, rule.numbers()))]
    return [*filter(sound, dict.fromkeys([*declared(rule_class), *beside]))]


def survivors_of(faults, instances, otherwise=lambda: False):
    """Names of the faults that no instance shows; one that has shown a fault is asked first."""
    instances = list(instances)
    for fault in faults:
        checks = (UNTOUCHED,) if fault.name.endswith(IN_PLACE) else AGREE
        with planted(fault):
            shown = (
                rule for rule in instances if any(fails(check, setting=rule) for check in checks)
            )
            first = next(shown, None)
            noticed = first is not None or otherwise()
        if not noticed:
            yield fault.name
        if first is not None:
            instances.remove(first)
            instances.insert(0, first)


def planted_in(owner, slots=()):
    return [
        fault
        for function in arithmetic_of(owner)
        for fault in faults_in(function, slots)
        if fault.key not in EQUIVALENT and fault.key not in UNNOTICED
    ]


def starts_of(rule_class):
    """The first value of a slot left out, where it is not zero."""
    return [
        edited(item.init.make, f"{name} starts at zero", "+ (", "+ 0 * (")
        for name, item in rule_class._slots.items()
        if "start" in item.init.make.__code__.co_freevars
    ]


def test_faults_in_a_rule_are_caught(rule_class):
    if reference_for(rule_class.__name__) is None:
        pytest.skip("a rule from outside the package brings no reference")
    module = getmodule(rule_class)
    faults = [planting(LR), planting(DECAY)]
    faults += [planting(MAXIMIZE)] if "maximize" in rule_class.fields() else []
    faults += planted_in(rule_class, [*rule_class._slots, *rule_class._shared])
    faults += planted_in(module) + starts_of(rule_class)
    faults += [planting(fault, module) for fault in BY_HAND.get(rule_class.__name__, ())]
    heirs = [rule for rule in RULES if issubclass(rule, rule_class) and rule is not rule_class]
    instances = tried(rule_class) + [typical(rule) for rule in heirs]
    at_random = partial(fails, partial(drawn, rule_class))
    last = () if at_random() else (at_random,)
    assert_none_survives(len(faults), [*survivors_of(faults, instances, *last)], least=3)


SHARED = [
    *(import_module(f"{parts.__name__}.{found.name}") for found in iter_modules(parts.__path__)),
    vocabulary,
    weight_decay,
]


def parts_of(module):
    """The classes that a module defines."""
    return [v for _, v in getmembers(module, isclass) if getmodule(v) is module]


def uses(rule_class, module):
    """Whether a rule, or one that it is made from, names something of a module."""
    return any(
        getattr(value, "__module__", None) == module.__name__
        for base in rule_class.__mro__[:-1]
        for value in vars(getmodule(base)).values()
    )


@pytest.mark.parametrize("module", SHARED, ids=attrgetter("__name__"))
def test_faults_in_what_rules_share_are_caught(module):
    """One rule that notices is enough: none uses everything."""
    faults = planted_in(module)
    for part in parts_of(module):
        faults += planted_in(part, getattr(part, "_slots", ()))
    users = [rule for rule in RULES if uses(rule, module)]
    instances = [typical(rule) for rule in users]
    instances += [rule for name in users for rule in declared(name)]
    instances = dict.fromkeys(instances)
    assert_none_survives(len(faults), [*survivors_of(faults, filter(sound, instances))])


def test_faults_that_are_left_out_exist():
    """A line that changes takes its excuse with it."""
    owners = [*RULES, *SHARED, *map(getmodule, RULES)]
    owners += [part for module in SHARED for part in parts_of(module)]
    functions = [
        (function, [*getattr(owner, "_slots", ()), *getattr(owner, "_shared", ())])
        for owner in owners
        for function in arithmetic_of(owner)
    ]
    functions.append((samestep.AdEMAMix.schedule_step, ()))
    found = {fault.key for function, slots in functions for fault in faults_in(function, slots)}
    assert sorted({*EQUIVALENT, *UNNOTICED} - found) == []


def test_faults_between_rules_and_what_they_share_are_caught():
    faults = [planting(GRAD), *map(planting, SHARED_BY_HAND)]
    instances = [typical(rule) for rule in RULES]
    instances += [rule for name in RULES for rule in declared(name)]
    instances = dict.fromkeys(instances)
    assert_none_survives(len(faults), [*survivors_of(faults, filter(sound, instances))])


def test_faults_in_how_a_rule_gets_its_numbers_are_caught():
    vectors = [case.values for case in test_dialects.cases("VECTORS")]
    checks = [
        test_groups.test_every_rule_gives_each_parameter_its_group_s_numbers,
        test_groups.test_a_parameter_of_several_groups_takes_the_first,
        test_groups.test_groups_of_a_wrapper_and_of_the_rule_inside_come_together,
        test_groups.test_slow_start_is_where_alpha_s_and_beta3_s_schedules_begin_and_no_other,
    ]
    by_hand = test_dialects.test_a_dialect_computes_what_was_worked_out_by_hand

    def noticed():
        return any(
            fails(by_hand, like=like, vector=vector, values=values)
            for like, vector, values in vectors
        ) or any(
            fails(check, rule_class=samestep.AdamW, backend=NUMPY, begin=3) for check in checks
        )

    assert not noticed()
    faults = [*map(planting, WIRING), *faults_in(samestep.AdEMAMix.schedule_step)]
    survivors = []
    for fault in faults:
        with planted(fault):
            survivors += [] if fault.key in EQUIVALENT or noticed() else [fault.name]
    assert_none_survives(len(faults), survivors)


def forget(module):
    """Empty every cache of a module: results, or kernels that hold the code of a fault."""
    for value in vars(module).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
    if hasattr(module, "kernels"):
        module.kernels.forget()


def test_faults_on_a_backend_are_caught(backend):
    rules = [
        next(rule for rule in RULES if rule.needs == "element" and "betas" in rule.fields()),
        samestep.Lookahead,  # whose slow weights start at the parameters
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
            if dtype in backend.dtypes and runs(
                planting((what, where, old, "(1/0)"), module), dtype
            ):
                fault, count = planting((what, where, old, new), module), count + 1
                if fault.function is step.compute_dtype:
                    forget(adapter)
                if not caught(fault, dtype):
                    survivors.append(fault.name)
                if fault.function is step.compute_dtype:
                    forget(adapter)
    assert_none_survives(count, survivors)
