"""Record a run of torch that is resumed without its optimizer's state, and replay it."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise

import torch

import samestep.torch

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--width", type=int, default=64, help="of the network's layers")
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--every", type=int, default=1, help="record a step in so many")
args = parser.parse_args()
folder = tempfile.mkdtemp()


def network():
    """Three linear layers, the same each time."""
    torch.manual_seed(0)
    sizes = (16, *[args.width] * 2, 4)
    layers = [torch.nn.Linear(*pair) for pair in pairwise(sizes)]
    return torch.nn.Sequential(layers[0], torch.nn.GELU(), layers[1], torch.nn.GELU(), layers[2])


def train(model, optimizer, steps):
    """Train on made-up batches; the loss of every step, and the median CPU time of a step."""
    losses, times = [], []
    for step in steps:
        begin = time.process_time()
        random = torch.Generator().manual_seed(step)
        x = torch.randn(args.batch, 16, generator=random)
        optimizer.zero_grad()
        loss = ((model(x) - x[:, :4].sin()) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append(time.process_time() - begin)
    return losses, sorted(times)[len(times) // 2]


model = network()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
count = sum(param.numel() for param in model.parameters())
_, plain = train(model, optimizer, range(args.steps))

model = network()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
first, second = f"{folder}/first.safetensors", f"{folder}/second.safetensors"
chosen = range(0, args.steps, args.every)
with samestep.torch.recorder(first, optimizer, model=model, steps=chosen):
    losses, recorded = train(model, optimizer, range(args.steps))
torch.save(model.state_dict(), f"{folder}/model.pt")  # and what of the optimizer?

resumed = network()
resumed.load_state_dict(torch.load(f"{folder}/model.pt"))
optimizer = torch.optim.AdamW(resumed.parameters(), lr=1e-3)
with samestep.torch.recorder(second, optimizer, model=resumed, first_step=args.steps):
    train(resumed, optimizer, range(args.steps, args.steps + 10))

for step in (0, args.steps - 1):
    print(f"step {step:4}  loss {losses[step]:.4f}")
print(f"{count:,} parameters, {len(chosen)} of {args.steps} steps recorded")
print(f"a step: {plain * 1e3:.1f} ms of CPU time, {recorded * 1e3:.1f} ms while it is recorded")
print(f"the recording: {os.path.getsize(first) / 1e6:.1f} MB\n", flush=True)
for files in ([first], [first, second]):
    words = [sys.executable, "-m", "samestep.command_line.main", "replay"]
    subprocess.run([*words, *map(os.path.basename, files)], cwd=folder, check=False)
    print(flush=True)
