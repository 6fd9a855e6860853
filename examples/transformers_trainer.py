"""Hugging Face ``Trainer``: a small GPT-2, made here, learns to count on from any digit.

Run it with ``python transformers_trainer.py``; nothing is downloaded.
"""

import argparse
import tempfile

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)

from samestep.torch import Adan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

torch.manual_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=10,
        n_positions=16,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
)
counted = [(torch.arange(16) + start) % 10 for start in range(10)]
texts = [{"input_ids": text, "labels": text} for text in counted * 100]

optimizer = Adan(
    model.named_parameters(), lr=0.01, weight_decay=0.02, mask=lambda parameter: parameter.ndim > 1
)
schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=8,
        logging_steps=max(1, steps // 10),
        logging_first_step=True,
        save_strategy="no",
        report_to=[],
    )
    Trainer(model, arguments, train_dataset=texts, optimizers=(optimizer, schedule)).train()
