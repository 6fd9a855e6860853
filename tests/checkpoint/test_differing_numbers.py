"""Numbers that an optimizer keeps and the file has otherwise are said; equal ones are not."""

from __future__ import annotations

import re
from importlib import import_module

import numpy
import pytest

import samestep
from samestep import schedules

COSINE = schedules.CosineDecay(0.5, 30)
ONLY_B = samestep.Where(path="b")
PLAIN = {"lr": 0.01, "weight_decay": 0.1}
SETTINGS = {
    "plain": {},
    "mask": {"mask": lambda p: p.ndim > 1},
    "schedule": {"lr": COSINE},
    "of the largest": {"lr": COSINE, "decay": "relative"},
    "longer": {"lr": schedules.CosineDecay(0.5, 40)},
    "function": {"lr": lambda step: 0.3 / (step + 1)},
    "element": {"betas": (schedules.CosineDecay(0.9, 10, 0.5), 0.99)},
    "group": {"groups": [(ONLY_B, {"lr": 0.5})]},
    "other group": {"groups": [(ONLY_B, {"lr": 0.05})]},
    "scheduled group": {"groups": [(ONLY_B, {"lr": COSINE})]},
}
NOW = {step: COSINE(step - 1) for step in (1, 4)}
"""The learning rate of the last call."""


def rule_of(name, around=None):
    rule = samestep.AdamW(**{**PLAIN, **SETTINGS[name]})
    return rule if around is None else around(rule)


class Run:
    """A rule in a library, with a matrix and a vector, and what saves and loads it."""

    def __init__(self, library, rule):
        self.library, self.rule = library, rule
        start = {"w": numpy.ones((2, 2), "float32"), "b": numpy.ones(2, "float32")}
        if library == "numpy":
            self.params, self.state = start, rule.init(start)
            return
        adapter = pytest.importorskip(f"samestep.{library}")
        if library == "torch":
            torch = import_module("torch")
            self.params = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in start.items()}
            self.optimizer = adapter.bind(rule, self.params.items(), execution="reference")
            return
        xp = import_module({"jax": "jax.numpy", "mlx": "mlx.core"}[library])
        self.params = {n: xp.array(p) for n, p in start.items()}
        self.optimizer = adapter.bind(rule)
        self.state = self.optimizer.init(self.params)

    def step(self, count):
        for at in range(count):
            grads = {n: p * 0 + 1 for n, p in self.params.items()}
            if at == 2 and self.library == "torch":
                grads["b"] = None
            if self.library == "numpy":
                self.params, self.state = self.rule.update(grads, self.params, self.state)
            elif self.library == "torch":
                for name, param in self.params.items():
                    param.grad = None if grads[name] is None else grads[name].detach()
                self.optimizer.step()
            elif self.library == "jax":
                _, self.state = self.optimizer.update(grads, self.state, self.params)
            else:
                self.params = self.optimizer.apply_gradients(grads, self.params)

    def checkpoint(self):
        held = self.library in ("torch", "mlx")
        of = self.rule if self.library == "numpy" else self.optimizer
        return samestep.checkpoint(of, self.params, *([] if held else [self.state]))

    def restore(self, saved):
        of = self.rule if self.library == "numpy" else self.optimizer
        samestep.restore(of, saved, self.params)


LIBRARIES = ["numpy", "torch", "jax", "mlx"]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_equal_settings_load_without_a_word(library, name):
    for steps, around in (
        (0, None),
        (1, None),
        (4, None),
        (3, lambda rule: samestep.SkipNonFinite(samestep.Accumulate(rule, every=2))),
    ):
        saving = Run(library, rule_of(name, around))
        saving.step(steps)
        loading = Run(library, rule_of(name, around))
        loading.restore(saving.checkpoint())
        if library == "torch":
            before = [{**group} for group in loading.optimizer.param_groups]
            loading.optimizer.load_state_dict(saving.optimizer.state_dict())
            assert loading.optimizer.param_groups == before


DIFFERING = {
    ("plain", "mask"): "weight_decay is 0.0 here and 0.1 there (in the checkpoint) for b",
    ("mask", "plain"): "weight_decay is 0.1 here and 0.0 there (in the checkpoint) for b",
    ("plain", "group"): "lr is 0.5 here and 0.01 there (in the checkpoint) for b",
    ("group", "plain"): "lr is 0.01 here and 0.5 there (in the checkpoint) for b",
    ("group", "other group"): "lr is 0.05 here and 0.5 there (in the checkpoint) for b",
    ("plain", "schedule"): f"lr is {NOW[4]!r} by {COSINE!r} here and 0.01 there",
    ("plain", "scheduled group"): f"lr is {NOW[4]!r} by {COSINE!r} here and 0.01 there",
    ("scheduled group", "group"): f"lr is 0.5 here and {NOW[4]!r} by {COSINE!r} there",
    ("schedule", "longer"): f" here and {NOW[4]!r} by {COSINE!r} there",
    ("schedule", "plain"): f" here and {NOW[4]!r} by {COSINE!r} there",
    ("element", "plain"): f" here and ({SETTINGS['element']['betas'][0](3)!r} by CosineDecay(",
    ("function", "plain"): " here and 0.075 by <function ",
}


@pytest.mark.parametrize(("saves", "loads"), DIFFERING, ids="-".join)
@pytest.mark.parametrize("library", LIBRARIES)
def test_what_the_file_has_otherwise_is_named(library, saves, loads):
    saving, loading = Run(library, rule_of(saves)), Run(library, rule_of(loads))
    saving.step(4)
    with pytest.warns(UserWarning, match=re.escape(DIFFERING[saves, loads])) as warned:
        loading.restore(saving.checkpoint())
    assert len(warned) == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_two_schedules_that_are_equal_now_differ(library):
    saving, loading = Run(library, rule_of("schedule")), Run(library, rule_of("longer"))
    saving.step(1)
    with pytest.warns(UserWarning, match=re.escape(f"0.5 by {SETTINGS['longer']['lr']!r} here")):
        loading.restore(saving.checkpoint())


def test_a_number_in_a_tensor_takes_the_file_s_number_without_a_word():
    torch = pytest.importorskip("torch")
    saving, loading = Run("torch", rule_of("plain")), Run("torch", rule_of("plain"))
    saving.step(2)
    loading.optimizer.param_groups[0]["lr"] = torch.tensor(0.25)
    loading.restore(saving.checkpoint())
    assert loading.optimizer.param_groups[0]["lr"].equal(torch.tensor(0.01))


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_a_library_s_own_optimizer_says_that_it_has_no_schedule(library):
    saving = Run("numpy", samestep.AdamW(lr=COSINE, like=library, weight_decay=0.1))
    saving.step(4)
    saved = saving.checkpoint()
    if library == "torch":
        torch = pytest.importorskip("torch")
        params = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in saving.params.items()}
        optimizer = torch.optim.AdamW(params.items())
    else:
        mx = pytest.importorskip("mlx.core")
        params = {n: mx.array(p) for n, p in saving.params.items()}
        optimizer = import_module("mlx.optimizers").AdamW(0.1, weight_decay=0.1)
        optimizer.init(params)
        scheduled = import_module("mlx.optimizers").AdamW(lambda _: 0.1, weight_decay=0.1)
        scheduled.init(params)
        samestep.restore(scheduled, saved, params)
    with pytest.warns(UserWarning, match=re.escape(f"{NOW[4]!r} by {COSINE!r}")):
        samestep.restore(optimizer, saved, params)
