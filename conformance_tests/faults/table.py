"""What is planted: faults, each described once, for every rule that has the text.

An edit is written ``function: old => new``; it is made where the function has the old text exactly
once. ``*`` is every function of a rule, and the old text a name. What is expected is the name of a
deviation, or a field of the rule with the value that the faulty copy has in effect; ``+`` joins
what is needed together, ``|`` what is equally true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from samestep.declaration import Option, Storage
from samestep.rule import registry
from samestep.wrapper import Wrapper

from .copies import Edit

__all__ = ["FAULTS", "GIVEN", "Fault"]


@dataclass(frozen=True)
class Fault:
    """Something done wrong, wherever there is the text."""

    kind: str
    name: str
    expected: tuple[frozenset[str], ...]
    """Names, all of them; each of the alternatives is true of the edits."""
    edits: tuple[Edit, ...]
    given: Mapping[str, Any]
    """What both sides have, for the fault to make a difference."""


def fault(kind: str, name: str, expected: str, *edits: str, **given: Any) -> Fault:
    """A fault as it is written in the table; the name may stand for what is expected."""
    names = (expected or name).split(" | ")
    alternatives = tuple(frozenset(alternative.split(" + ")) for alternative in names)
    return Fault(kind, name, alternatives, tuple(map(_edit, edits)), given)


def _edit(text: str) -> Edit:
    where, _, change = text.partition(": ")
    old, _, new = change.partition(" => ")
    return where, old, new


# Functions that faulty source may call.


def late(rule: Any, step: int, grads: Any) -> Any:
    """The gradients of the step before; zeros at first."""
    before = vars(rule).setdefault("_before", {})
    if step == 0:
        before["grads"] = {path: 0 * grad for path, grad in grads.items()}
    grads, before["grads"] = before["grads"], grads
    return grads


def single(value: Any) -> Any:
    """A number, or numbers, rounded to float32."""
    return tuple(map(single, value)) if isinstance(value, tuple) else float(numpy.float32(value))


def swapped(values: Any) -> Any:
    """The first two of several numbers in each other's place."""
    return (values[1], values[0], *values[2:])


def complement(place: int, values: Any) -> Any:
    """Several numbers, one of them subtracted from 1."""
    return tuple(1 - value if i == place else value for i, value in enumerate(values))


GIVEN = {"late": late, "single": single, "swapped": swapped, "complement": complement}


def halving(step: Any) -> Any:
    """A schedule."""
    return 0.01 * 0.5 ** (step / 10)


ON = {"bias_correction": True}
SCHEDULED = {"lr": halving}
OUTSIDE, INSIDE = {"eps_at": "outside"}, {"eps_at": "inside"}
L2, DECOUPLED, ABSOLUTE, PROXIMAL, IN_UPDATE = (
    {"decay": name} for name in ("l2", "decoupled", "absolute", "proximal", "in_update")
)
DAMPENED = {"dampening": 0.3, "momentum_form": "sum"}
MEAN = {"momentum_form": "mean"}
AMSGRAD = {"amsgrad": True}

OWN = "coefficients: own = self.scalars(xp, t) => "
ONCE_MORE = (
    'coefficients: own.get("weight_decay", self.weight_decay) => self.lr * self.weight_decay',
    "coefficients: self._numbers() | decay => "
    'self._numbers() | {"weight_decay": self.lr * self.weight_decay} | decay',
)
STEP = "decayed_parameter(param, s) - s.rate * direction"
ROOT = 'root.scale * xp.sqrt(v + root.under if hasattr(root, "under") else v)'
NO_BESIDE = 'over_root: if hasattr(root, "beside"): => if False:'
DEBIAS = "gathered: debias(xp, beta, t) => "
POWER = "1 - float(numpy.float32(beta) ** numpy.float32(t))"
HERE = ("mean", "square", "direction", "local")

_CORRECTION = (
    fault("bias correction", "none", "bias_correction=False | v uncorrected",
          "gathered: debias(xp, beta, t) if self.bias_correction else 1.0 => 1.0", **ON),
    fault("bias correction", "m uncorrected",
          "m uncorrected | beta1 uncorrected | bias_correction=False",
          'scalars: "unbias_m": 1 / gathered_m => "unbias_m": 1.0',
          'scalars: "unbias_m1": 1 / m1 => "unbias_m1": 1.0',
          'scalars: "unbias_m": 1 / m, => "unbias_m": 1.0,', **ON),
    fault("bias correction", "v uncorrected",
          "v uncorrected | beta2 uncorrected | bias_correction=False",
          "scalars: else gathered_v) => else 1.0)", "scalars: self.root(xp, v) => self.root(xp)",
          "scalars: self.root(xp, gathered) => self.root(xp)", **ON),
    fault("bias correction", "n uncorrected", "v uncorrected | beta3 uncorrected",
          "scalars: self.root(xp, n) => self.root(xp)", **ON),
    fault("bias correction", "mean difference uncorrected", "beta2 uncorrected",
          "scalars: ahead / v => ahead", **ON),
    fault("bias correction", "m corrected by beta2 and v by beta1", "corrections swapped",
          "scalars: self.gathered(xp, beta1, t), self.gathered(xp, beta2, t) => "
          "self.gathered(xp, beta2, t), self.gathered(xp, beta1, t)", **ON),
    fault("bias correction", "no root of the correction", "v corrected outside the root",
          "_root: 1 / sqrt(xp, gathered) => 1 / gathered", **ON),
    fault("bias correction", "m times its correction", "",
          "scalars: 1 / gathered_m => gathered_m", **ON),
    fault("bias correction", "one step later", "correction one step later",
          f"{DEBIAS}debias(xp, beta, t + 1)", **ON),
    fault("bias correction", "one step earlier", "correction one step earlier",
          f"{DEBIAS}debias(xp, beta, max(t - 1, 1))", **ON),
    fault("bias correction", "always that of the first step",
          "correction of the first step | bias_correction=False + weights sum",
          f"{DEBIAS}debias(xp, beta, 1)", **ON),
    fault("bias correction", "steps counted from 2",
          "steps counted from 2 | correction one step later",
          f"{OWN}own = self.scalars(xp, t + 1)"),
    fault("float32 scalars", "correction in float32", "", f"{DEBIAS}{POWER}", **ON),
    fault("float32 scalars", "beta in float32, in the correction", "beta in float32",
          f"{DEBIAS}1 - single(beta) ** t", **ON),
)  # fmt: skip

_EPS = (
    fault("eps placement", "inside the root", "eps_at=inside", NO_BESIDE,
          f"over_root: {ROOT} => xp.sqrt(root.scale**2 * v + root.beside)", **OUTSIDE),
    fault("eps placement", "squared inside the root", "eps_at=inside + eps squared", NO_BESIDE,
          f"over_root: {ROOT} => xp.sqrt(root.scale**2 * v + root.beside**2)", **OUTSIDE),
    fault("eps placement", "before the correction", "eps_at=uncorrected", NO_BESIDE,
          f"over_root: {ROOT} => root.scale * (xp.sqrt(v) + root.beside)", **OUTSIDE),
    fault("eps placement", "outside the root", "eps_at=outside",
          '_root: found["under"] = under * gathered => found["beside"] = under', **INSIDE),
    fault("eps placement", "inside, before the correction", "eps under the root uncorrected",
          "_root: under * gathered => under", **INSIDE),
    fault("eps placement", "outside both roots", "eps beside the root",
          "direction: xp.sqrt(u + s.eps) => (xp.sqrt(u) + s.eps)",
          "direction: xp.sqrt(v + s.eps) => (xp.sqrt(v) + s.eps)"),
    fault("eps placement", "outside the maximum", "eps_at=outside",
          "direction: xp.abs(grad) + s.eps if inside => xp.abs(grad) if inside",
          "direction: u if inside => u + s.eps if inside", **INSIDE),
    fault("eps placement", "inside the maximum", "eps_at=inside",
          "direction: if inside else xp.abs(grad) => if inside else xp.abs(grad) + s.eps",
          "direction: else u + s.eps => else u", **OUTSIDE),
    fault("eps placement", "as a bound", "eps as a bound",
          "over_root: denominator + root.beside => numpy.maximum(denominator, root.beside)",
          "direction: else u + s.eps => else numpy.maximum(u, s.eps)", **OUTSIDE),
    fault("eps placement", "as a bound under the root", "eps as a bound",
          "over_root: v + root.under if => numpy.maximum(v, root.under) if", **INSIDE),
    fault("eps placement", "as a bound under both roots", "eps as a bound",
          "direction: u + s.eps) => numpy.maximum(u, s.eps))",
          "direction: v + s.eps) => numpy.maximum(v, s.eps))"),
    fault("eps placement", "missing", "no eps",
          "*: self.eps => (0.0 * self.eps)", "*: s.eps => (0.0 * s.eps)"),
    fault("eps placement", "squared", "eps squared",
          "*: self.eps => (self.eps**2)", "*: s.eps => (s.eps**2)"),
    fault("eps placement", "its root", "root of eps",
          "*: self.eps => (self.eps**0.5)", "*: s.eps => (s.eps**0.5)"),
    fault("trust ratio", "eps in the ratio", "",
          "rescaled: norm(xp, direction)) => norm(xp, direction) + s.eps)"),
)  # fmt: skip

_DECAY = (
    fault("missing decay", "l2", "no weight_decay",
          "decayed_gradient: grad + s.weight_decay * param if => grad if", **L2),
    fault("missing decay", "decoupled", "no weight_decay",
          "decayed_parameter: s.keep * param if => param if", **DECOUPLED),
    fault("missing decay", "absolute", "no weight_decay",
          "decayed_parameter: s.keep * param if => param if", **ABSOLUTE),
    fault("missing decay", "proximal", "no weight_decay",
          "descend: s.shrink * param if => param if", **PROXIMAL),
    fault("missing decay", "in update", "no weight_decay",
          "decayed_direction: direction + s.weight_decay * param if => direction if", **IN_UPDATE),
    fault("decay times lr twice", "l2", "decay times lr twice", *ONCE_MORE, **L2),
    fault("decay times lr twice", "decoupled", "decay times lr twice", *ONCE_MORE, **DECOUPLED),
    fault("decay times lr twice", "proximal", "decay times lr twice", *ONCE_MORE, **PROXIMAL),
    fault("decay times lr twice", "in update", "decay times lr twice", *ONCE_MORE, **IN_UPDATE),
    fault("decay order", "decoupled decay after the step", "decay after the step",
          f"descend: {STEP} => decayed_parameter(param - s.rate * direction, s)", **DECOUPLED),
    fault("decay order", "absolute decay after the step", "decay after the step",
          f"descend: {STEP} => decayed_parameter(param - s.rate * direction, s)", **ABSOLUTE),
    fault("decay order", "proximal decay before the step", "decay before the step",
          'descend: s.shrink * param if hasattr(s, "shrink") => param if hasattr(s, "shrink")',
          f'descend: {STEP} => getattr(s, "shrink", 1.0) * {STEP}', **PROXIMAL),
    fault("decay family", "decoupled but not times lr", "decay=absolute | decay not times lr",
          "scalars: 1 - lr * weight_decay => 1 - weight_decay", **DECOUPLED),
    fault("decay family", "proximal but not times lr", "decay not times lr",
          "scalars: 1 + lr * weight_decay => 1 + weight_decay", **PROXIMAL),
    fault("decay family", "absolute but times lr",
          "decay=decoupled | decay=in_update | decay times lr twice",
          "scalars: = 1 - weight_decay => = 1 - lr * weight_decay", **ABSOLUTE),
    fault("decay family", "a product for the proximal quotient",
          "decay=decoupled + decay after the step",
          "scalars: 1 / (1 + lr * weight_decay) => 1 - lr * weight_decay", **PROXIMAL),
    fault("sign", "l2 decay grows the parameter", "negative decay",
          "decayed_gradient: grad + s.weight_decay => grad - s.weight_decay", **L2),
    fault("sign", "decoupled decay grows the parameter", "negative decay",
          "scalars: 1 - lr * weight_decay => 1 + lr * weight_decay", **DECOUPLED),
    fault("sign", "proximal decay grows the parameter", "negative decay",
          "scalars: 1 + lr * weight_decay => 1 - lr * weight_decay", **PROXIMAL),
    fault("sign", "the decay's sign turned with the gradient's", "negative decay",
          "prepared: (self.decay, grad, param, s) => (self.decay, grad, -param, s)",
          maximize=True, **L2),
)  # fmt: skip

_STEPS = (
    fault("sign", "ascends", "maximize=True",
          "prepared: -grad if self.maximize else grad => grad if self.maximize else -grad"),
    fault("gradients one step late", "gradients one step late",
          "gradients one step late | stale m",
          "update: given = {path: => grads = late(self, state.step, grads); given = {path:"),
    fault("learning-rate position", "step not times lr", "step not times lr | no lr",
          "descend: s.rate * direction => direction"),
    fault("learning-rate position", "step times lr twice", "",
          "descend: s.rate * direction => s.rate * s.rate * direction"),
    fault("schedule off by one", "schedule one step early", "",
          "schedule_step: return step => return step + 1",
          "schedule_step: else step => else step + 1", **SCHEDULED),
    fault("schedule off by one", "schedule one step late", "",
          "schedule_step: return step => return (step - 1) * (step > 0)",
          "schedule_step: else step => else (step - 1) * (step > 0)", **SCHEDULED),
    fault("schedule off by one", "schedule frozen", "",
          "schedule_step: return step => return 0 * step",
          "schedule_step: else step => else 0 * step", **SCHEDULED),
    fault("trust ratio", "no trust ratio", "",
          "rescaled: trust_ratio(xp, size, norm(xp, direction)) * direction => direction"),
    fault("trust ratio", "ratio without the decay", "",
          "rescaled: direction = decayed_direction( => "
          "bare = direction; direction = decayed_direction(",
          "rescaled: norm(xp, direction)) => norm(xp, bare))", **IN_UPDATE),
    fault("trust ratio", "decay after the ratio", "",
          "rescaled: direction = decayed_direction(self.decay, direction, param, s) => pass",
          "rescaled: size, norm(xp, direction)) * direction => size, norm(xp, direction)) * "
          "direction + s.weight_decay * param", **IN_UPDATE),
    *(
        fault("float32 scalars", f"{name} in float32", "",
              f"{OWN}self = self.replace({name}=single(self.{name})); own = self.scalars(xp, t)",
              **{name: 0.01} if name == "lr" else {})
        for name in ("lr", "betas", "momentum", "weight_decay", "eps", "alpha", "rho")
    ),
)  # fmt: skip

_AVERAGES = (
    *(
        fault(kind, name, expected, *(f"{where}: s.{beta}) => {new})" for where in HERE))
        for beta in ("beta1", "beta2", "beta3")
        for kind, name, expected, new in (
            ("coefficient b or 1 - b", f"{beta}: 1 - b in place of b",
             f"{beta} weights swapped | 1 - {beta}", f"s.{beta}[::-1]"),
            ("sum in place of a mean", f"{beta}: a sum", f"{beta} sum", f"(s.{beta}[0], 1.0)"),
        )
    ),
    fault("coefficient b or 1 - b", "b in the bound on v", "beta2 weights swapped | 1 - beta2",
          "square: s.beta2[1] * => s.beta2[0] *"),
    fault("coefficient b or 1 - b", "1 - b in the maximum", "beta2 weights swapped | 1 - beta2",
          "direction: s.beta2[0] * => s.beta2[1] *"),
    fault("coefficient b or 1 - b", "weights of the only average",
          "weights weights swapped | 1 - rho | 1 - alpha | 1 - momentum",
          "scalars: weights(self.rho) => weights(1 - self.rho)",
          "scalars: weights(self.alpha) => weights(1 - self.alpha)",
          "scalars: weights(self.momentum) => weights(1 - self.momentum)",
          "scalars: (1 - forgotten, forgotten) => (forgotten, 1 - forgotten)"),
    fault("sum in place of a mean", "of the only average", "weights sum",
          "scalars: weights(self.rho) => (self.rho, 1.0)",
          "scalars: weights(self.alpha) => (self.alpha, 1.0)",
          "scalars: (1 - forgotten, forgotten) => (1 - forgotten, 1.0)"),
    *(
        fault("coefficient b or 1 - b", f"1 - beta{i + 1} everywhere",
              f"1 - beta{i + 1} | beta{i + 1} weights swapped",
              f"*: self.betas => complement({i}, self.betas)")
        for i in range(3)
    ),
    fault("swapped betas", "swapped betas", "", "*: self.betas => swapped(self.betas)"),
    fault("swapped betas", "v averaged with beta1", "beta2 weights of beta1",
          "square: s.beta2) => s.beta1)", "local: s.beta2) => s.beta1)"),
    fault("swapped betas", "m averaged with beta2", "beta1 weights of beta2",
          "mean: s.beta1) => s.beta2)", "local: s.beta1) => s.beta2)"),
    fault("stale slots", "stale m", "", "divided: (grad, m, s) => (grad, state.m, s)",
          "direction: s.unbias_m * m => s.unbias_m * state.m",
          "direction: of_m * m, v => of_m * state.m, v",
          "accelerated: if self.nesterov else m) => if self.nesterov else state.m)"),
    fault("stale slots", "stale m1", "", "direction: s.unbias_m1 * m1 => s.unbias_m1 * state.m1"),
    fault("stale slots", "stale v", "stale v | stale v + v_max forgotten",
          "direction: over_root(xp, grad, v, s.root) => over_root(xp, grad, state.v, s.root)",
          "divided: m, s), v, s.root => m, s), state.v, s.root",
          "direction: m, v, s.root) => m, state.v, s.root)",
          "direction: m2, v, s.root) => m2, state.v, s.root)",
          "direction: slots, spread = {\"v\": v}, v => slots, spread = {\"v\": v}, state.v"),
    fault("stale slots", "stale n", "",
          "direction: m + s.unbias_v * v, n => m + s.unbias_v * v, state.n"),
    fault("stale slots", "stale u", "", "direction: divisor = u if => divisor = state.u if"),
    fault("stale slots", "stale nu", "", "direction: grad, nu, s.root => grad, bound, s.root"),
    fault("stale slots", "m already has this gradient", "state updated first",
          "direction: sign(xp, ema(m, grad, s.beta1)) => "
          "sign(xp, ema(ema(m, grad, s.beta2), grad, s.beta1))"),
    fault("largest v", "no maximum", "amsgrad=False | v_max forgotten",
          "divided: xp.maximum(state.v_max, => (lambda a, b: b)(state.v_max,", **AMSGRAD),
    fault("largest v", "after the correction", "amsgrad=corrected",
          "*: self.amsgrad => \"corrected\"", **AMSGRAD),
    fault("largest v", "before the correction", "amsgrad=True",
          "*: self.amsgrad => True", amsgrad="corrected"),
    fault("centred variance", "not centred", "centered=False",
          "direction: v - s.unbias * (g * g) => v", centered=True),
    fault("centred variance", "the mean not corrected", "mean uncorrected",
          "direction: s.unbias * (g * g) => (g * g)", centered=True, **ON),
)  # fmt: skip

_MOMENTUM = (
    fault("momentum start", "starts at zero", "momentum_start=zero",
          "*: self.momentum_start => \"zero\"", momentum_start="gradient", **DAMPENED),
    fault("momentum start", "starts at the gradient", "momentum_start=gradient",
          "*: self.momentum_start => \"gradient\"", momentum_start="zero", **DAMPENED),
    fault("momentum start", "averages start at the gradient", "start=gradient",
          "mean: begun(xp, s, grad, state.m) => (grad if s.t == 1 else state.m)",
          "square: begun(xp, s, square, state.v) => (square if s.t == 1 else state.v)",
          "direction: begun(xp, s, grad, state.m) => (grad if s.t == 1 else state.m)",
          'coefficients: self._numbers() | decay => self._numbers() | {"t": t} | decay',
          start="zero"),
    fault("dampening", "missing", "no dampening | momentum_form=sum",
          "accelerated: s.fresh * step => step", **DAMPENED),
    fault("dampening", "missing from the mean", "momentum_form=sum",
          "accelerated: s.fresh * step => step", **MEAN),
    fault("dampening", "the rest in its place", "1 - dampening",
          "scalars: 1 - damped => damped", **DAMPENED),
    fault("coefficient b or 1 - b", "b for the new step in the momentum", "fresh complement",
          "scalars: 1 - damped => damped", **MEAN),
    fault("sum in place of a mean", "momentum a mean", "momentum_form=mean | 1 - dampening",
          "accelerated: s.fresh * step => (1 - s.momentum) * step", momentum_form="sum"),
    fault("missing momentum", "missing", "no momentum",
          "accelerated: s.momentum * state.m + fresh => fresh", momentum_form="sum"),
    fault("missing momentum", "1 - momentum", "1 - momentum",
          "*: self.momentum => (1 - self.momentum)", "*: s.momentum => (1 - s.momentum)"),
    fault("nesterov form", "looks ahead", "nesterov=True",
          "accelerated: if self.nesterov => if True", nesterov=False),
    fault("nesterov form", "does not look ahead", "nesterov=False",
          "accelerated: if self.nesterov => if False",
          "direction: if self.nesterov => if False",
          "numerator: if self.nesterov => if False", nesterov=True),
    fault("nesterov form", "with the step whole", "nesterov with the step whole",
          "accelerated: (fresh + s.momentum * m if => (step + s.momentum * m if",
          nesterov=True, **MEAN),
    fault("nesterov form", "m corrected as in this step", "look ahead, m corrected as in this step",
          "numerator: return s.unbias_m * m => "
          "return s.unbias_m * (s.beta1[0] * m + s.beta1[1] * grad)"),
    fault("learning-rate position", "inside the momentum", "lr_at=inside",
          "*: self.lr_at => \"inside\"", lr_at="outside", **SCHEDULED),
    fault("learning-rate position", "outside the momentum", "lr_at=outside",
          "*: self.lr_at => \"outside\"", lr_at="inside", **SCHEDULED),
)  # fmt: skip

_OF_RULES = (
    fault("order of a pair", "the factors of the size", "swapped etas",
          "direction: s.etas[1], xp.where(trend < 0, s.etas[0] => "
          "s.etas[0], xp.where(trend < 0, s.etas[1]"),
    fault("limits", "updates not clipped", "no clip_threshold",
          "direction: u = u / at_least(xp, _rms(xp, u) / s.clip_threshold, 1.0) => pass"),
    fault("limits", "no trust coefficient", "no trust_coefficient",
          "direction: s.trust_coefficient * size => size"),
    fault("limits", "no norm clipping", "no scale_clip",
          "rescaled: xp.clip(size, s.scale_clip[0], s.scale_clip[1]) => size",
          scale_clip=(0.0, 0.5)),
)  # fmt: skip

KINDS = {
    "amsgrad": "largest v",
    "bias_correction": "bias correction",
    "centered": "centred variance",
    "decay": "decay family",
    "eps_at": "eps placement",
    "lr_at": "learning-rate position",
    "momentum_form": "sum in place of a mean",
    "momentum_start": "momentum start",
    "nesterov": "nesterov form",
    "start": "momentum start",
}
"""Of a fault that takes another value of an option; else it is the rule's own choice."""

VISIBLE = {
    "bare_decay": {"momentum": 0.0},
    "relative_step": {"lr": 1.0},
}
"""What an option needs to make a difference."""

UNSUITED = ("maximize", "axes", "safeguard_warmup")
"""Options with faults of their own, that slots depend on, or that matter in longer runs only."""


def _options() -> Iterator[Fault]:
    """Another value of every option of every rule, built in where the option is read."""
    for rule in registry.values():
        switches = {slot.only_if for slot in rule._slots.values()}
        for name, declared in () if issubclass(rule, Wrapper) else rule.fields().items():
            unsuited = isinstance(declared, Storage) or name in (*UNSUITED, *switches)
            if not isinstance(declared, Option) or unsuited:
                continue
            default = declared.default
            for value in declared.choices or (False, True) * isinstance(default, bool):
                if value != default:
                    alike = ("decoupled", "in_update") if name == "decay" else ()
                    values = alike if value in alike else (value,)
                    yield fault(
                        KINDS.get(name, "an option of the rule"),
                        f"{name} {value} built in for {default}",
                        " | ".join(f"{name}={v}" for v in values),
                        f"*: self.{name} => {value!r}",
                        **{name: default, **VISIBLE.get(name, {})},
                    )


def _table() -> Iterator[Fault]:
    yield from (*_CORRECTION, *_EPS, *_DECAY, *_STEPS, *_AVERAGES, *_MOMENTUM, *_OF_RULES)
    yield from {(made.name, str(made.given)): made for made in _options()}.values()


FAULTS: tuple[Fault, ...] = tuple(_table())
"""The table."""
