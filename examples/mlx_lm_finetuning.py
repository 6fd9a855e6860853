"""mlx-lm's trainer with an optimizer of ours: LoRA adapters learn to count in a small Llama.

python examples/mlx_lm_finetuning.py --steps 200

A model of your own comes from ``mlx_lm.load(path)``; this one is made here, with random weights.
"""

import argparse
import tempfile
from pathlib import Path

import mlx.core as mx
from mlx_lm.models import llama
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.trainer import TrainingArgs, train
from mlx_lm.tuner.utils import linear_to_lora_layers

from samestep.mlx import Adan
from samestep.schedules import warmup_cosine

WORDS = 32
SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}


class Losses(TrainingCallback):
    """Prints a line where the trainer reports."""

    def on_train_loss_report(self, info):
        print(f"step {info['iteration']:4}  loss {info['train_loss']:.3f}")


def main(steps):
    """Freeze the model, add adapters, and train the adapters."""
    mx.random.seed(0)
    heads = {"num_attention_heads": 4, "rms_norm_eps": 1e-5}
    model = llama.Model(llama.ModelArgs(model_type="llama", vocab_size=WORDS, **SIZE, **heads))
    model.freeze()
    linear_to_lora_layers(model, 2, {"rank": 8, "scale": 10.0, "dropout": 0.0})

    counting = [[(start + place) % WORDS for place in range(24)] for start in range(WORDS)]
    schedule = warmup_cosine(peak=1e-2, warmup_steps=steps // 10, steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArgs(
            batch_size=8,
            iters=steps,
            steps_per_report=max(1, steps // 5),
            adapter_file=Path(folder) / "adapters.safetensors",
        )
        data = [(tokens, 0) for tokens in counting]
        optimizer = Adan(lr=schedule, weight_decay=0.02)
        train(model, optimizer, data, args=arguments, training_callback=Losses())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
