"""The faults that the diagnosis has to name: what people get wrong, each described once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from samestep.declaration import Option
from samestep.kept import Keeping
from samestep.precisions import PRECISION_KINDS
from samestep.rule import registry
from samestep.wrapper import Wrapper

from .edits import TableFault, fault

__all__ = ["FAULTS"]


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
TWICE = "coefficients: self.weight_decay => (self.lr * self.weight_decay)"
IN_S = "X.weight_decay * P => s.lr * X.weight_decay * P"
DEBIAS = "debias(X, B, T) => "


def _where(place: int, wrong: str) -> str:
    """Something else for the correction of one beta."""
    return f"{DEBIAS}{wrong} if B == self.betas[{place}] else debias(X, B, T)"


_CORRECTION = (
    fault("bias correction", "none", "bias_correction=False | v uncorrected", f"{DEBIAS}1.0", **ON),
    fault("bias correction", "m uncorrected",
          "m uncorrected | beta1 uncorrected | bias_correction=False", _where(0, "1.0"), **ON),
    fault("bias correction", "v uncorrected",
          "v uncorrected | beta2 uncorrected | bias_correction=False", _where(1, "1.0"), **ON),
    fault("bias correction", "n uncorrected", "v uncorrected | beta3 uncorrected",
          _where(2, "1.0"), **ON),
    fault("bias correction", "m corrected by beta2 and v by beta1", "corrections swapped",
          _where(0, "debias(X, self.betas[1], T)").replace("else debias(X, B, T)",
          "else debias(X, self.betas[0], T) if B == self.betas[1] else debias(X, B, T)"), **ON),
    fault("bias correction", "no root of the correction", "v corrected outside the root",
          "1 / sqrt(X, A) => 1 / A", **ON),
    fault("bias correction", "m times its correction", "", _where(0, "1 / debias(X, B, T)"), **ON),
    fault("bias correction", "one step later", "correction one step later",
          f"{DEBIAS}debias(X, B, T + 1)", **ON),
    fault("bias correction", "one step earlier", "correction one step earlier",
          f"{DEBIAS}debias(X, B, max(T - 1, 1))", **ON),
    fault("bias correction", "always that of the first step",
          "correction of the first step | bias_correction=False + weights sum"
          " | bias_correction=False + square sum",
          f"{DEBIAS}debias(X, B, 1)", **ON),
    fault("bias correction", "steps counted from 2",
          "steps counted from 2 | correction one step later",
          "coefficients: self.scalars(X, T) => self.scalars(X, T + 1)"),
    fault("float32 scalars", "correction in float32", "",
          f"{DEBIAS}1 - float(numpy.float32(B) ** numpy.float32(T))", **ON),
    fault("float32 scalars", "beta in float32, in the correction", "beta in float32",
          f"{DEBIAS}1 - single(B) ** T", **ON),
)  # fmt: skip

_EPS = (
    fault("eps placement", "squared inside the root", "eps_at=inside + eps squared",
          "X.eps_at => 'inside' & X.eps => X.eps ** 2", **OUTSIDE),
    fault("eps placement", "outside both roots", "eps beside the root",
          "xp.sqrt(A + X.eps) => xp.sqrt(A) + X.eps"),
    fault("eps placement", "as a bound", "eps as a bound",
          "over_root: A + B => numpy.maximum(A, B)",
          "direction: xp.sqrt(A + X.eps) => xp.sqrt(numpy.maximum(A, X.eps))", **OUTSIDE),
    fault("eps placement", "as a bound under the root", "eps as a bound",
          "over_root: A + B => numpy.maximum(A, B)", **INSIDE),
    fault("eps placement", "missing", "no eps", "X.eps => (0.0 * X.eps)"),
    fault("eps placement", "squared", "eps squared", "X.eps => X.eps ** 2"),
    fault("eps placement", "its root", "root of eps", "X.eps => X.eps ** 0.5"),
    fault("trust ratio", "eps in the ratio", "",
          "trust_ratio(X, A, B) => trust_ratio(X, A, B + s.eps)"),
)  # fmt: skip

_DECAY = (
    fault("missing decay", "l2", "no weight_decay",
          "decayed_gradient: A + X.weight_decay * P => A", **L2),
    fault("missing decay", "decoupled", "no weight_decay",
          "weight_decay.scalars: 1 - L * W => 1.0", **DECOUPLED),
    fault("missing decay", "absolute", "no weight_decay",
          "weight_decay.scalars: 1 - W => 1.0", **ABSOLUTE),
    fault("missing decay", "proximal", "no weight_decay",
          "weight_decay.scalars: 1 / (1 + L * W) => 1.0", **PROXIMAL),
    fault("missing decay", "in update", "no weight_decay",
          "decayed_direction: A + X.weight_decay * P => A", **IN_UPDATE),
    *(
        fault("decay times lr twice", str(given["decay"]), "decay times lr twice",
              TWICE if given in (DECOUPLED, PROXIMAL) else IN_S, **given)
        for given in (L2, DECOUPLED, PROXIMAL, IN_UPDATE)
    ),
    fault("decay order", "decoupled decay after the step", "decay=post | decay after the step",
          "descend: A - _times((X.rate,), D) => X.keep[0] * (param - X.rate * D)", **DECOUPLED),
    fault("decay order", "absolute decay after the step", "decay after the step",
          "descend: A - _times((X.rate,), D) => X.keep[0] * (param - X.rate * D)", **ABSOLUTE),
    fault("decay order", "proximal decay before the step", "decay before the step",
          "descend: A - _times((X.rate,), D) => A - X.rate * D / X.shrink[0]", **PROXIMAL),
    fault("decay family", "decoupled but not times lr", "decay=absolute | decay not times lr",
          "weight_decay.scalars: 1 - L * W => 1 - W", **DECOUPLED),
    fault("decay family", "proximal but not times lr", "decay not times lr",
          "weight_decay.scalars: 1 + L * W => 1 + W", **PROXIMAL),
    fault("decay family", "a product for the proximal quotient",
          "decay=decoupled + decay after the step",
          "weight_decay.scalars: 1 / (1 + L * W) => 1 - L * W", **PROXIMAL),
    fault("sign", "l2 decay grows the parameter", "negative decay",
          "decayed_gradient: A + X.weight_decay * P => A - X.weight_decay * P", **L2),
    fault("sign", "decoupled decay grows the parameter", "negative decay",
          "weight_decay.scalars: 1 - L * W => 1 + L * W", **DECOUPLED),
    fault("sign", "proximal decay grows the parameter", "negative decay",
          "weight_decay.scalars: 1 + L * W => 1 - L * W", **PROXIMAL),
    fault("sign", "the decay's sign turned with the gradient's", "negative decay",
          "prepared: F.decayed_gradient(D, G, P, S) => F.decayed_gradient(D, G, -P, S)",
          maximize=True, **L2),
)  # fmt: skip

_STEPS = (
    fault("sign", "ascends", "maximize=True",
          "prepared: A if self.maximize else B => B if self.maximize else A"),
    fault("learning-rate position", "step not times lr", "step not times lr | no lr",
          "descend: _times((X.rate,), D) => D"),
    fault("learning-rate position", "step times lr twice", "",
          "descend: _times((X.rate,), D) => X.rate * X.rate * D"),
    fault("schedule off by one", "schedule one step early", "",
          "schedule_step: step => step + 1", **SCHEDULED),
    fault("schedule off by one", "schedule one step late", "",
          "schedule_step: step => (step - 1) * (step > 0)", **SCHEDULED),
    fault("schedule off by one", "schedule frozen", "",
          "schedule_step: step => 0 * step", **SCHEDULED),
    fault("trust ratio", "no trust ratio", "", "trust_ratio(X, A, B) * D => D"),
    fault("trust ratio", "decay after the ratio", "",
          "decayed_direction(F, D, P, S) => D & "
          "trust_ratio(X, A, B) * D => trust_ratio(X, A, B) * D + s.weight_decay * param",
          **IN_UPDATE),
    *(
        fault("float32 scalars", f"{name} in float32", "", f"X.{name} => single(X.{name})",
              **{name: 0.01} if name == "lr" else {})
        for name in ("lr", "betas", "momentum", "weight_decay", "eps", "alpha", "rho")
    ),
)  # fmt: skip

_AVERAGES = (
    *(
        fault(kind, name, expected, f"ema(A, B, X.{beta}) => ema(A, B, {new})")
        for beta in ("beta1", "beta2", "beta3")
        for kind, name, expected, new in (
            ("coefficient b or 1 - b", f"{beta}: 1 - b in place of b",
             f"{beta} weights swapped | 1 - {beta}", f"X.{beta}[::-1]"),
            ("sum in place of a mean", f"{beta}: a sum", f"{beta} sum", f"(X.{beta}[0], 1.0)"),
        )
    ),
    fault("coefficient b or 1 - b", "b in the bound on v", "beta2 weights swapped | 1 - beta2",
          "X.beta2[1] * A => X.beta2[0] * A"),
    fault("coefficient b or 1 - b", "1 - b in the maximum", "beta2 weights swapped | 1 - beta2",
          "direction: X.beta2 * A => (1 - X.beta2) * A"),
    fault("coefficient b or 1 - b", "weights of the only average",
          "weights weights swapped | 1 - rho | 1 - alpha | 1 - momentum",
          *(f"weights(X.{name}) => weights(1 - X.{name})" for name in ("rho", "alpha", "momentum")),
          "scalars: (1 - A, A) => (A, 1 - A)"),
    fault("sum in place of a mean", "of the only average", "weights sum",
          *(f"weights(X.{name}) => (X.{name}, 1.0)" for name in ("rho", "alpha")),
          "scalars: (1 - A, A) => (1 - A, 1.0)"),
    *(
        fault("coefficient b or 1 - b", f"1 - beta{i + 1} everywhere",
              f"1 - beta{i + 1} | beta{i + 1} weights swapped",
              f"X.betas => complement({i}, X.betas)")
        for i in range(3)
    ),
    fault("swapped betas", "swapped betas", "", "X.betas => swapped(X.betas)"),
    fault("swapped betas", "v averaged with beta1", "beta2 weights of beta1",
          "ema(A, B, X.beta2) => ema(A, B, X.beta1)"),
    fault("swapped betas", "m averaged with beta2", "beta1 weights of beta2",
          "ema(A, B, X.beta1) => ema(A, B, X.beta2)"),
    fault("stale slots", "m already has this gradient", "state updated first",
          "ema(A, B, S.beta1) => ema(ema(A, B, S.beta2), B, S.beta1) & "
          "{'m':ema(A, B, S.beta2)} => {'m':ema(A, B, S.beta2)}"),
    fault("largest v", "no maximum", "amsgrad=False | v_max forgotten",
          "xp.maximum(X.v_max, A) => A", amsgrad=True),
    fault("centred variance", "not centred", "centered=False",
          "direction: A - X.unbias * (G * G) => A", centered=True),
    fault("centred variance", "the mean not corrected", "mean uncorrected",
          "direction: A - X.unbias * (G * G) => A - G * G", centered=True, **ON),
)  # fmt: skip

_MOMENTUM = (
    fault("momentum start", "starts at zero", "momentum_start=zero",
          "X.momentum_start => 'zero'", momentum_start="gradient", **DAMPENED),
    fault("momentum start", "starts at the gradient", "momentum_start=gradient",
          "X.momentum_start => 'gradient'", momentum_start="zero", **DAMPENED),
    fault("dampening", "missing", "no dampening | momentum_form=sum", "X.fresh * A => A",
          **DAMPENED),
    fault("dampening", "missing from the mean", "momentum_form=sum", "X.fresh * A => A", **MEAN),
    fault("dampening", "the rest in its place", "1 - dampening",
          "X.fresh * A => (1 - X.fresh) * A", **DAMPENED),
    fault("coefficient b or 1 - b", "b for the new step in the momentum", "fresh complement",
          "X.fresh * A => (1 - X.fresh) * A", **MEAN),
    fault("sum in place of a mean", "momentum a mean", "momentum_form=mean | 1 - dampening",
          "X.fresh * A => (1 - X.momentum) * A", momentum_form="sum"),
    fault("missing momentum", "missing", "no momentum",
          "X.momentum * M + A => A", momentum_form="sum"),
    fault("missing momentum", "1 - momentum", "1 - momentum | x weights swapped",
          "X.momentum => (1 - X.momentum)"),
    fault("nesterov form", "looks ahead", "nesterov=True", "X.nesterov => True", nesterov=False),
    fault("nesterov form", "does not look ahead", "nesterov=False", "X.nesterov => False",
          nesterov=True),
    fault("nesterov form", "with the step whole", "nesterov with the step whole",
          "accelerated: A + X.momentum * M => step + X.momentum * M", nesterov=True, **MEAN),
    fault("learning-rate position", "inside the momentum", "lr_at=inside",
          "X.lr_at => 'inside'", lr_at="outside", **SCHEDULED),
    fault("learning-rate position", "outside the momentum", "lr_at=outside",
          "X.lr_at => 'outside'", lr_at="inside", **SCHEDULED),
)  # fmt: skip

_OF_RULES = (
    fault("order of a pair", "the factors of the size", "swapped etas",
          "direction: X.etas[0] => X.etas[1] & direction: X.etas[1] => X.etas[0]"),
    fault("limits", "updates not clipped", "no clip_threshold",
          "at_least(X, A / B.clip_threshold, 1.0) => 1.0"),
    fault("limits", "no trust coefficient", "no trust_coefficient",
          "X.trust_coefficient * A => A"),
    fault("limits", "no norm clipping", "no scale_clip",
          "xp.clip(A, X.scale_clip[0], X.scale_clip[1]) => A", scale_clip=(0.0, 0.5)),
)  # fmt: skip

ALIKE = {"decay": ("decoupled", "in_update"), "scale": ("shape", "unit_rms")}
"""Values of options that are one, by lr outside of the update, and of a matrix of more outputs."""
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
"""The expected name of a fault that takes another value of an option."""

VISIBLE = {
    "bare_decay": {"momentum": 0.0},
    "relative_step": {"lr": 1.0},
}
"""The numbers with which an option makes a difference."""

UNSUITED = ("maximize", "axes", "safeguard_warmup")
"""Options with faults of their own, that slots depend on, or that matter in longer runs only."""


def _options() -> Iterator[TableFault]:
    """Another value of every option of every rule, built in where the option is read."""
    for rule in registry.values():
        switches = {slot.only_if for slot in rule._slots.values()}
        for name, declared in () if issubclass(rule, Wrapper) else rule.fields().items():
            unsuited = isinstance(declared, (*PRECISION_KINDS, Keeping)) or name in (
                *UNSUITED,
                *switches,
            )
            if not isinstance(declared, Option) or unsuited:
                continue
            default = declared.default
            for value in declared.choices or (False, True) * isinstance(default, bool):
                if value != default:
                    alike = ALIKE.get(name, ())
                    values = alike if value in alike else (value,)
                    yield fault(
                        KINDS.get(name, "an option of the rule"),
                        f"{name} {value} built in for {default}",
                        " | ".join(f"{name}={v}" for v in values),
                        f"X.{name} => {value!r}",
                        **{name: default, **VISIBLE.get(name, {})},
                    )


def _stale() -> Iterator[TableFault]:
    """The old value of every slot that any rule keeps, used in place of the new one."""
    slots = dict.fromkeys(slot for rule in registry.values() for slot in rule._slots)
    for slot in slots:
        names = [[f"stale {slot}"], [f"stale {slot}", f"{slot}_max forgotten"], *SAME.get(slot, ())]
        yield TableFault(
            "stale slots", f"stale {slot}", tuple(map(frozenset, names)), (), {}, stale=slot
        )


SAME = {
    "m": [["nesterov=False"]],  # the look-ahead from the old m is the new m
    "v": [["no rho", "weights weights swapped"]],  # AdaDelta's v and u then stay equal
    "v_max": [["stale v"]],  # the largest so far is then that of the step before
}
"""Names that are equally true of a stale slot."""

LATE = "gradients one step late"


def _table() -> Iterator[TableFault]:
    yield from (*_CORRECTION, *_EPS, *_DECAY, *_STEPS, *_AVERAGES, *_MOMENTUM, *_OF_RULES)
    yield TableFault(LATE, LATE, tuple(map(frozenset, ([LATE], ["stale m"]))), (), {}, late=True)
    yield from _stale()
    yield from {(made.name, str(made.given)): made for made in _options()}.values()


FAULTS: tuple[TableFault, ...] = tuple(_table())
"""The table."""
