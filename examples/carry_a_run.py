"""One run, in torch, then in JAX, then in MLX, and in torch again, as if it had never moved.

    python examples/carry_a_run.py --steps 100

The state goes from one to the next in a file; at the end the parameters are compared with those of
torch alone.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import numpy as np
import optax
import torch

import samestep
import samestep.jax
import samestep.mlx
import samestep.torch

RULE = samestep.Adan(lr=3e-3, weight_decay=0.02)
SIZES = (8, 32, 1)


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets for every step."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((count, 128, SIZES[0])).astype(np.float32)
    targets = np.sin(inputs[..., :1]) + inputs[..., 1:2] * inputs[..., 2:3]
    return list(zip(inputs, targets, strict=True))


class TorchNet(torch.nn.Module):
    """The network in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.nn.Linear(*SIZES[:2])
        self.output = torch.nn.Linear(*SIZES[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.hidden(x)))


class MLXNet(mlx.nn.Module):
    """The same in MLX, whose linear layers have torch's layout."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = mlx.nn.Linear(*SIZES[:2])
        self.output = mlx.nn.Linear(*SIZES[1:])

    def __call__(self, x: mx.array) -> mx.array:
        return self.output(mlx.nn.relu(self.hidden(x)))


def jax_loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """The same as a function of parameters under torch's names."""
    hidden = jax.nn.relu(x @ params["hidden.weight"].T + params["hidden.bias"])
    return jnp.mean((hidden @ params["output.weight"].T + params["output.bias"] - y) ** 2)


def train_torch(model: TorchNet, optimizer: torch.optim.Optimizer, data: list) -> float:
    """Train, and return the last loss."""
    for x, y in data:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
    return loss.item()


def main(steps: int) -> None:
    """Train in four parts, and alone."""
    data = batches(4 * steps)
    quarters = [data[i * steps : (i + 1) * steps] for i in range(4)]
    torch.manual_seed(0)
    model, alone = TorchNet(), TorchNet()
    alone.load_state_dict(model.state_dict())
    file = Path(tempfile.mkdtemp()) / "run.safetensors"

    optimizer = samestep.torch.bind(RULE, model.named_parameters())
    first = train_torch(model, optimizer, quarters[0][:1])
    loss = train_torch(model, optimizer, quarters[0][1:])
    samestep.save(file, optimizer, model)
    print(f"torch  step {steps:4}  loss {first:.4f} to {loss:.4f}")

    in_jax = samestep.jax.bind(RULE)
    like = {name: jnp.zeros(value.shape) for name, value in model.named_parameters()}
    params, state = samestep.load(file, in_jax, like)
    step = jax.jit(jax.value_and_grad(jax_loss))
    for x, y in quarters[1]:
        value, grads = step(params, x, y)
        updates, state = in_jax.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    samestep.save(file, in_jax, params, state)
    print(f"JAX    step {2 * steps:4}  loss {value:.4f}")

    net, in_mlx = MLXNet(), samestep.mlx.bind(RULE)
    samestep.load(file, in_mlx, net)
    grad = mlx.nn.value_and_grad(net, lambda x, y: mx.mean((net(x) - y) ** 2))
    for x, y in quarters[2]:
        value, grads = grad(mx.array(x), mx.array(y))
        in_mlx.update(net, grads)
        mx.eval(net.parameters(), in_mlx.state)
    samestep.save(file, in_mlx, net)
    print(f"MLX    step {3 * steps:4}  loss {value.item():.4f}")

    model = TorchNet()
    optimizer = samestep.torch.bind(RULE, model.named_parameters())
    samestep.load(file, optimizer, model)
    loss = train_torch(model, optimizer, quarters[3])
    print(f"torch  step {4 * steps:4}  loss {loss:.4f}")

    expected = train_torch(alone, samestep.torch.bind(RULE, alone.named_parameters()), data)
    pairs = zip(model.parameters(), alone.parameters(), strict=True)
    apart = max((one - other).abs().max().item() for one, other in pairs)
    print(f"torch alone       loss {expected:.4f}, parameters at most {apart:.1e} apart")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="in each of the four parts")
    main(parser.parse_args().steps)
