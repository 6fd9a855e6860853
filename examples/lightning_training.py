"""Lightning: a ``LightningModule`` whose ``configure_optimizers`` returns ours.

Run it with ``python lightning_training.py``; the digits come with scikit-learn.
"""

import argparse

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from samestep.torch import Adan

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps


class Digits(lightning.LightningModule):
    """A network with one hidden layer."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, index):
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        step = self.global_step + 1
        if step in (1, steps) or step % 20 == 0:
            print(f"step {step:4}  loss {loss.item():.4f}")
        return loss

    def configure_optimizers(self):
        optimizer = Adan(self.named_parameters(), lr=0.01, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


lightning.seed_everything(0, verbose=False)
images, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(images / 16).float(), torch.tensor(labels))
trainer = lightning.Trainer(
    max_steps=steps,
    gradient_clip_val=1.0,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
trainer.fit(Digits(), DataLoader(digits, batch_size=128, shuffle=True))
