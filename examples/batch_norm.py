"""Schedule-Free with BatchNorm in torch: its means and variances are gathered anew at the average.

Gradients are taken at one point and the model is evaluated at another, the average. What BatchNorm
has gathered in training is of the first point. Run it with ``python batch_norm.py``; the digits
come with scikit-learn.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from samestep.torch import ScheduleFreeAdamW

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
seen, unseen = slice(1500), slice(1500, None)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
optimizer = ScheduleFreeAdamW(model.parameters(), lr=0.01)


@torch.no_grad()
def loss_on_unseen():
    """The loss on digits that were not trained on."""
    model.eval()
    return cross_entropy(model(images[unseen]), labels[unseen]).item()


def evaluate():
    """The losses at the average, with its own statistics and with those of training."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    optimizer.eval()  # the averages are in the model
    stale = loss_on_unseen()
    update_bn(images[seen].split(300), model)
    right = loss_on_unseen()
    optimizer.train()  # the parameters are back
    model.load_state_dict(kept, strict=False)  # and so are their statistics
    model.train()
    return right, stale


for step in range(1, steps + 1):
    batch = torch.randint(1500, (128,))
    optimizer.zero_grad()
    cross_entropy(model(images[batch]), labels[batch]).backward()
    optimizer.step()
    if step == 1 or step % max(1, steps // 3) == 0:
        right, stale = evaluate()
        print(f"step {step:4}  loss {right:.4f}  with the statistics of training {stale:.4f}")
