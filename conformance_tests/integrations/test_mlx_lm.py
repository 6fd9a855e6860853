"""mlx-lm: its trainer and its LoRA layers, on a small Llama that is made here.

Expected values are those of mlx.optimizers in the same trainer, in float64.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import samestep
from samestep.conformance.integrations import OWN_WARNINGS

mx = pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")
from mlx import nn, optimizers, utils  # noqa: E402
from mlx_lm.models import llama  # noqa: E402
from mlx_lm.tuner import trainer  # noqa: E402
from mlx_lm.tuner.callbacks import TrainingCallback  # noqa: E402
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers  # noqa: E402

adapter = pytest.importorskip("samestep.mlx")

pytestmark = [pytest.mark.filterwarnings(*OWN_WARNINGS)]

LR = 2.0**-6  # MLX holds the rate in float32, which must not round it
WORDS = 24
CLOSE = 1e-11
EXAMPLE = Path(samestep.__file__).parent.parent / "examples" / "mlx_lm_finetuning.py"
SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": WORDS,
}


@pytest.fixture(autouse=True)
def _in_float64(monkeypatch):
    """On the processor, since Metal has no float64; and files have none either."""
    monkeypatch.setattr(mx, "save_safetensors", lambda *_: None)
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(device)


class Reports(TrainingCallback):
    """What the trainer reports: the loss and the learning rate of every iteration."""

    def __init__(self):
        self.losses, self.rates = [], []

    def on_train_loss_report(self, train_info):
        self.losses.append(train_info["train_loss"])
        self.rates.append(train_info["learning_rate"])


def model():
    mx.random.seed(0)
    made = llama.Model(llama.ModelArgs(model_type="llama", **SIZE))
    made.set_dtype(mx.float64)
    return made


def with_lora():
    """The same with adapters in its last layer, and everything else frozen."""
    made = model()
    made.freeze()
    linear_to_lora_layers(made, 1, {"rank": 2, "scale": 4.0, "dropout": 0.1})
    made.set_dtype(mx.float64)
    return made


def texts():
    """Sequences that count in steps of their own."""
    return [
        ([(start + step * place) % WORDS for place in range(12)], 0)
        for step in (1, 2, 5)
        for start in range(8)
    ]


def train(model, optimizer, iters=10, accumulated=1):
    """The trainer's reports of some iterations."""
    np.random.seed(iters)
    mx.random.seed(iters)
    reports = Reports()
    arguments = trainer.TrainingArgs(
        batch_size=4, iters=iters, steps_per_report=1, grad_accumulation_steps=accumulated
    )
    trainer.train(model, optimizer, texts(), args=arguments, training_callback=reports)
    return reports


def twins(lr=LR, **hypers):
    """AdamW, ours and MLX's, of the same numbers."""
    hypers = {"betas": (0.9, 0.99), "weight_decay": 0.1, **hypers}
    return adapter.AdamW(lr=lr, like="mlx", **hypers), optimizers.AdamW(lr, **hypers)


def flat(tree):
    return dict(utils.tree_flatten(tree))


def assert_close(actual, expected, tolerance=CLOSE):
    actual, expected = flat(actual), flat(expected)
    assert actual.keys() == expected.keys()
    for path, value in expected.items():
        a, b = np.array(actual[path], np.float64), np.array(value, np.float64)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), path


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("make", [model, with_lora])
def test_a_model_is_finetuned_as_under_mlx_s_own_optimizer(make, accumulated):
    models, both = (make(), make()), twins()
    reports = [
        train(each, optimizer, accumulated=accumulated)
        for each, optimizer in zip(models, both, strict=True)
    ]
    assert_close(reports[0].losses, reports[1].losses, 2.0**-22)  # the trainer's loss is float32
    assert_close(models[0].parameters(), models[1].parameters())
    assert reports[0].rates == reports[1].rates == [LR] * 10
    assert both[0].step.item() == both[1].step.item() == 10 // accumulated
    before, trained = flat(make().parameters()), flat(models[0].trainable_parameters())
    for path, value in flat(models[0].parameters()).items():
        assert mx.array_equal(value, before[path]).item() == (path not in trained), path
    slots = {path.rpartition(".")[0] for path in flat(both[0].state) if "." in path}
    assert slots == trained.keys()


def test_a_schedule_of_mlx_lm_s_configuration_is_followed():
    schedule = build_schedule(
        {"name": "cosine_decay", "arguments": [LR, 8], "warmup": 3, "warmup_init": 1e-4}
    )
    models, both = (with_lora(), with_lora()), twins(schedule)
    rates = [train(each, optimizer).rates for each, optimizer in zip(models, both, strict=True)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-6) and len(set(rates[0])) > 5
    assert_close(models[0].parameters(), models[1].parameters(), 1e-6)  # a rate in float32


def test_a_second_training_continues_the_first_from_its_state():
    models, both = (with_lora(), with_lora()), twins()
    for each, optimizer in zip(models, both, strict=True):
        train(each, optimizer, 5)
    loaded = twins()[0]
    loaded.state = utils.tree_unflatten(list(flat(both[0].state).items()))
    for each, optimizer in zip(models, (loaded, both[1]), strict=True):
        train(each, optimizer, 6)
    assert_close(models[0].parameters(), models[1].parameters())
    assert loaded.step.item() == 11


def test_optimizers_beside_each_other_train_their_own_parts():
    """A route has no learning rate that the trainer could report; a MultiOptimizer has."""
    models = model(), model()

    def matrices(path, parameter):
        return "layers" in path and parameter.ndim == 2

    lion = adapter.Lion(lr=LR / 4, weight_decay=0.1), optimizers.Lion(LR / 4, weight_decay=0.1)
    for each, *pair in zip(models, lion, twins(), strict=True):
        train(each, optimizers.MultiOptimizer(pair, [matrices]))
    assert_close(models[0].parameters(), models[1].parameters())


@pytest.mark.skipif(not EXAMPLE.exists(), reason="samestep is installed, not a checkout")
def test_the_example_finetunes():
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--steps", "60"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines() if " loss " in line]
    assert losses[-1] < 0.8 * losses[0], done.stdout


def test_a_quantised_base_stays_and_its_adapters_train():
    """In float32: what ``quantize`` makes of the base is integers, which no optimizer sees."""
    trained = []
    for optimizer in twins():
        each = model()
        each.set_dtype(mx.float32)
        nn.quantize(each, group_size=32, bits=4, class_predicate=lambda _, m: wide(m))
        each.freeze()
        linear_to_lora_layers(each, 2, {"rank": 2, "scale": 4.0, "dropout": 0.0})
        base = {
            path: mx.array(v) for path, v in flat(each.parameters()).items() if "lora" not in path
        }
        train(each, optimizer)
        after = flat(each.parameters())
        assert any(value.dtype == mx.uint32 for value in base.values())
        assert all(mx.array_equal(after[path], value) for path, value in base.items())
        trained.append({path: v for path, v in after.items() if "lora" in path})
    assert_close(*trained, 1e-5)


def wide(module):
    return isinstance(module, nn.Linear) and module.weight.shape[1] % 32 == 0
