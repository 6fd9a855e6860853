"""optax 0.2.8."""

from __future__ import annotations

from typing import Any

from samestep.declaration import slot
from samestep.dialects import preset
from samestep.parts.moments import gathered, largest
from samestep.parts.orthogonal import looked_ahead
from samestep.quirks import Quirk, changed, with_calls
from samestep.vocabulary import choose, debias, ema, sign, sqrt


def _by_complement(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found: dict[str, Any] = cls.scalars(self, xp, t)
        rest = found["beta2"][1]
        return found | {"ahead": rest, "unbias_v": rest / gathered(self, xp, self.betas[1], t)}

    return {"scalars": scalars}


DIFFERENCE_BY_COMPLEMENT = Quirk(
    "difference by 1 - beta2",
    "weights the gradient difference by 1 - b2 = {complement:.3g}",
    "weights the gradient difference by b2 = {betas[1]:.3g}",
    _by_complement,
    rules=("Adan",),
    formerly=("difference_weight", "1-beta2", "beta2"),
    changes_state=True,
)


def _of_corrected(now: Any) -> Any:
    def largest(rule: Any, xp: Any, v: Any, state: Any) -> Any:
        return now(rule, xp, state.unbias_v * v if rule.amsgrad else v, state)

    return largest


def _corrected_first(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        found = cls.scalars(self, xp, t)
        if not self.amsgrad:
            return {**found, "unbias_v": 1.0}
        gained = gathered(self, xp, self.betas[1], t)
        root = cls.scalars(self.replace(bias_correction=False), xp, t)["root"]
        return {**found, "root": root, "unbias_v": 1 / gained}

    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        state = changed(state, unbias_v=s.unbias_v) if self.amsgrad else state
        return cls.direction(self, xp, grad, param, state, s)

    return {"scalars": scalars, "direction": direction}


MAXIMUM_CORRECTED = Quirk(
    "maximum of the corrected v",
    "divides by the largest v so far, taken after its correction",
    "divides by the largest v so far, taken before its correction",
    (with_calls({largest: _of_corrected}), _corrected_first),
    rules=("AMSGrad", "AdaBelief", "Adam", "AdamP", "AdamW", "LAMB", "RAdam", "RaLars", "TAdam"),
    formerly=("amsgrad", "corrected", True),
)


def _eps_in_lr(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        lr = choose(xp, self.lr == 0, 0.0, self.lr + self.eps)
        return {**cls.scalars(self, xp, t), "weight": lr * sqrt(xp, t), "step_size": lr}

    return {"scalars": scalars}


EPS_IN_LR = Quirk(
    "eps in lr",
    "adds eps = {eps:g} to lr as well",
    "adds eps = {eps:g} to the root only",
    _eps_in_lr,
    rules=("MADGRAD",),
    formerly=("eps_in_lr", True, False),
)


def _late(cls: Any) -> dict[str, Any]:
    def direction(self: Any, xp: Any, grad: Any, param: Any, state: Any, s: Any) -> Any:
        update, slots = cls.direction(self, xp, grad, param, state, s)
        turned = sign(xp, grad) * sign(xp, state.prev) < 0
        return xp.where(turned, 0.0, state.last), slots | {"last": update}

    return {"direction": direction, "last": slot("update of the step before")}


ONE_STEP_LATE = Quirk(
    "one step late",
    "applies the update of the step before",
    "applies each update at once",
    _late,
    rules=("Rprop",),
    formerly=("lag", True, False),
    changes_state=True,
)


def _correcting(now: Any) -> Any:
    def looked_ahead(rule: Any, m: Any, grad: Any, s: Any) -> Any:
        return ema(m, grad, s.ahead) if rule.nesterov else s.unbias_m * m

    return looked_ahead


def _with_corrections(cls: Any) -> dict[str, Any]:
    def scalars(self: Any, xp: Any, t: Any) -> dict[str, Any]:
        beta, gained = self.momentum, debias(xp, self.momentum, t)
        ahead = beta / debias(xp, beta, t + 1), (1 - beta) / gained
        return {**cls.scalars(self, xp, t), "ahead": ahead, "unbias_m": 1 / gained}

    return {"scalars": scalars}


BOTH_CORRECTED = Quirk(
    "look ahead, both corrected",
    "looks ahead with m corrected as in the next step, and the gradient as in this one",
    "looks ahead with neither corrected",
    (with_calls({looked_ahead: _correcting}), _with_corrections),
    rules=("Muon",),
    formerly=("both_corrected", True, False),
)

OF = "optax.{lower}"

PRESETS = {
    "ADOPT": preset(of="optax.contrib.adopt"),
    "AMSGrad": preset(quirks=(MAXIMUM_CORRECTED,)),
    "AdEMAMix": preset(of="optax.contrib.ademamix", decay="in_update"),
    "AdaBelief": preset(),
    "AdaDelta": preset("ascends if no learning rate is given"),
    "Adafactor": preset(
        layout="io", lr=1.0, relative_step=False, axes="largest", min_dim=128, decay="absolute"
    ),
    "Adagrad": preset(eps=1e-07, eps_at="inside", initial_v=0.1),
    "Adam": preset(),
    "AdamW": preset(decay="in_update", weight_decay=0.0001),
    "Adamax": preset(of="optax.adamax and adamaxw", decay="in_update"),
    "Adan": preset(eps_root=1e-08, decay="in_update", quirks=(DIFFERENCE_BY_COMPLEMENT,)),
    "DAdaptAdam": preset(of="optax.contrib.dadapt_adamw", bias_correction=True),
    "LAMB": preset(),
    "LARS": preset(decay="l2"),
    "Lion": preset(decay="in_update", weight_decay=0.001),
    "MADGRAD": preset(of="optax.contrib.madgrad", quirks=(EPS_IN_LR,)),
    "Muon": preset(
        "its vectors are AdamW's",
        of="optax.contrib.muon",
        layout="io",
        ns_guard=("sum", 1e-08),
        decay="in_update",
        quirks=(BOTH_CORRECTED,),
    ),
    "NAdam": preset("no schedule", momentum_schedule=False, decay="in_update"),
    "NovoGrad": preset(betas=(0.9, 0.25), eps=1e-06),
    "Prodigy": preset(of="optax.contrib.prodigy", bias_correction=True),
    "RAdam": preset(threshold=5.0),
    "RMSprop": preset(alpha=0.9, eps_at="inside", lr_at="inside"),
    "Rprop": preset("one step late", quirks=(ONE_STEP_LATE,)),
    "SGD": preset(momentum_start="zero"),
    "SM3": preset(eps=1e-08),
    "SimplifiedAdEMAMix": preset(of="optax.contrib.simplified_ademamix", decay="in_update"),
    "SignSGD": preset(of="optax.sign_sgd"),
    "Signum": preset(),
    "ScheduleFree": preset(of="optax.contrib.schedule_free"),
    "ScheduleFreeAdamW": preset(of="optax.contrib.schedule_free_adamw"),
    "ScheduleFreeSGD": preset(of="optax.contrib.schedule_free_sgd"),
    "Yogi": preset(bias_correction=True, initial_m=1e-06),
    "Accumulate": preset(of="optax.MultiSteps"),
    "Centralize": preset(layout="oi"),
    "ClipGlobalNorm": preset(of="optax.clip_by_global_norm"),
    "ClipValue": preset(of="optax.clip"),
    "Lookahead": preset(),
}
