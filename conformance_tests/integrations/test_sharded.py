"""The tools that shard a model for people, on two ranks, next to one process that has everything.

Each trains 20 steps in float64: torchtitan's container of optimizers, Lightning's
``ModelParallelStrategy``, and FSDP2 under accelerate and under the Trainer of transformers. The
last two shard only what is on accelerators, so they are told that their processes have some; arrays
stay on the CPU.
"""

from __future__ import annotations

import os
import tempfile

import numpy
import pytest

import samestep
from samestep.conformance.harness.ranks import started
from samestep.conformance.integrations import OWN_WARNINGS

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)
ranks = started("torch", 2)

STEPS, BATCH = 20, 8
RULES = {
    "AdamW": samestep.AdamW(lr=0.01, weight_decay=0.1),
    "LAMB": samestep.LAMB(lr=0.01, weight_decay=0.1),
    "Muon": samestep.route(
        (samestep.Where(min_ndim=2), samestep.Muon(lr=0.02, weight_decay=0.1)),
        samestep.AdamW(lr=0.01),
    ),
    "Prodigy": samestep.Prodigy(lr=0.5, weight_decay=0.1),
}
CLOSE = 1e-11
"""Of the farthest move: each rank averages over half of a batch, and both are averaged then."""


class Net(torch.nn.Module):
    """Some layers, of which a rank has no equal parts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Linear(6, 9, dtype=torch.float64)
        self.middle = torch.nn.Linear(9, 5, dtype=torch.float64)
        self.outer = torch.nn.Linear(5, 2, dtype=torch.float64)

    def forward(self, x, labels=None):
        found = self.outer(torch.tanh(self.middle(torch.tanh(self.inner(x)))))
        return found if labels is None else {"loss": torch.nn.functional.mse_loss(found, labels)}


def examples():
    """All of a training; gradients change sign and scale."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS * BATCH, 6, generator=random, dtype=torch.float64)
    y = torch.randn(STEPS * BATCH, 2, generator=random, dtype=torch.float64)
    return x, y * torch.logspace(-1, 1, STEPS).to(y).repeat_interleave(BATCH)[:, None]


def batches(rank=None):
    """Of each step the inputs and labels; of a rank, half of them."""
    x, y = examples()
    for at in range(0, STEPS * BATCH, BATCH):
        here = slice(at, at + BATCH) if rank is None else slice(at + rank, at + BATCH, 2)
        yield x[here], y[here]


def weights(model):
    """All parameters, whole."""
    found = {}
    for name, param in model.named_parameters():
        value = param.detach()
        found[name] = (value.full_tensor() if hasattr(value, "full_tensor") else value).numpy()
    return found


def alone(rule):
    """The loop that every tool stands for."""
    model = Net()
    optimizer = adapter.bind(rule, model.named_parameters())
    for x, y in batches():
        optimizer.zero_grad()
        model(x, y)["loss"].backward()
        optimizer.step()
    return weights(model)


def sharded(model):
    """By FSDP2, layer by layer."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    for layer in (model.inner, model.middle, model.outer):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def in_torchtitan(rank, rule):
    from torchtitan.components.optimizer import (  # noqa: PLC0415
        OptimizersContainer,
        ParamGroupConfig,
    )

    class Container(OptimizersContainer):
        """As its documentation has it: a subclass with another optimizer."""

        @staticmethod
        def _resolve_optimizer_factory(name):
            return lambda groups: adapter.bind(rule, groups)

        @staticmethod
        def _build_impl_kwargs(config):
            return {}

    config = Container.Config(
        param_groups=[
            ParamGroupConfig(pattern="bias", optimizer_name="ours"),
            ParamGroupConfig(pattern=".*", optimizer_name="ours"),
        ]
    )
    model = sharded(Net())
    Container(config, model_parts=[model]).state_dict()  # takes a step at a learning rate of 0
    assert all(
        numpy.array_equal(w, v)
        for w, v in zip(weights(model).values(), weights(Net()).values(), strict=True)
    )
    container = Container(config, model_parts=[model])
    for step, (x, y) in enumerate(batches(rank)):
        container.zero_grad()
        model(x, y)["loss"].backward()
        container.step()
        if step == STEPS // 2:
            saved = container.state_dict()
            assert any(key.startswith("state.inner.weight.") for key in saved)
            container.load_state_dict(saved)
    return weights(model)


def in_lightning(rank, rule):
    import lightning  # noqa: PLC0415
    from lightning.pytorch.strategies import ModelParallelStrategy  # noqa: PLC0415

    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def configure_model(self):
            from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

            assert self.device_mesh["data_parallel"].size() == 2
            fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

        def training_step(self, batch, index):
            return self.net(*batch)["loss"]

        def configure_optimizers(self):
            return adapter.bind(rule, self.net.named_parameters())

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    module = Module()
    trainer.fit(module, torch.utils.data.DataLoader(list(batches(rank)), batch_size=None))
    return weights(module.net)


def joined(rank):
    """What accelerate reads of the ranks, whose group is there already."""
    import accelerate  # noqa: PLC0415

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    return accelerate


def told_of_accelerators(accelerate):
    """accelerate takes the processes for those of accelerators."""
    found = accelerate.PartialState(cpu=True)
    assert found.num_processes == 2
    found.distributed_type = accelerate.DistributedType.MULTI_GPU


def in_accelerate(rank, rule):
    accelerate = joined(rank)
    told_of_accelerators(accelerate)
    plugin = accelerate.FullyShardedDataParallelPlugin(fsdp_version=2)
    plugin.cpu_ram_efficient_loading = False
    accelerator = accelerate.Accelerator(cpu=True, fsdp_plugin=plugin)
    assert accelerator.is_fsdp2
    model = Net()
    optimizer = adapter.bind(rule, model.named_parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    for x, y in batches(rank):
        optimizer.zero_grad()
        accelerator.backward(model(x, y)["loss"])
        optimizer.step()
    return weights(accelerator.unwrap_model(model))


def in_transformers(rank, rule):
    import transformers  # noqa: PLC0415

    accelerate = joined(rank)
    x, y = examples()
    with tempfile.TemporaryDirectory() as folder:
        given = transformers.TrainingArguments(
            folder,
            use_cpu=True,
            fsdp=True,
            fsdp_config={"version": 2, "auto_wrap_policy": "NO_WRAP"},
            max_steps=STEPS,
            per_device_train_batch_size=BATCH // 2,
            max_grad_norm=0.0,
            lr_scheduler_type="constant",
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            logging_strategy="no",
        )
        told_of_accelerators(accelerate)

        class Trainer(transformers.Trainer):
            def create_optimizer(self, model=None):  # it takes none that was made before
                if self.optimizer is None:
                    self.optimizer = adapter.bind(rule, (model or self.model).named_parameters())
                return self.optimizer

            def _get_train_sampler(self, *_):
                return torch.utils.data.SequentialSampler(self.train_dataset)

        trainer = Trainer(
            Net(),
            given,
            train_dataset=[{"x": x[at], "labels": y[at]} for at in range(len(x))],
        )
        trainer.train()
        assert trainer.accelerator.is_fsdp2
        assert trainer.state.global_step == STEPS
        return weights(trainer.accelerator.unwrap_model(trainer.model))


TOOLS = {
    "torchtitan": in_torchtitan,
    "lightning": in_lightning,
    "accelerate": in_accelerate,
    "transformers": in_transformers,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_shards_reaches_the_weights_of_one_process(ranks, tool, rule):
    pytest.importorskip(tool)
    expected, first = alone(RULES[rule]), weights(Net())
    for found in ranks.run(TOOLS[tool], RULES[rule]):
        for name, value in expected.items():
            moved = numpy.abs(value - first[name]).max()
            assert numpy.abs(found[name] - value).max() <= CLOSE * moved, name
