"""A training loop in PyTorch: digits, a schedule, no decay on biases, a checkpoint halfway.

Run it with ``python torch_training.py``; the digits come with scikit-learn.
"""

import argparse
import io

import torch
from sklearn.datasets import load_digits
from torch import nn

from samestep.torch import Adan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16).float(), torch.tensor(labels)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = Adan(
    model.named_parameters(), lr=0.01, weight_decay=0.02, mask=lambda parameter: parameter.ndim > 1
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

for step in range(1, steps + 1):
    batch = torch.randint(len(images), (128,))
    loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step == steps // 2:
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    if step in (1, steps) or step % 20 == 0:
        print(f"step {step:4}  loss {loss.item():.4f}")
