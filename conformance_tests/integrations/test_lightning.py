"""Lightning's Trainer and Fabric: stepping, clipping, accumulating, saving, resuming.

Expected values are those of torch's own optimizers under the same Trainer, in float64; and, for
rules that torch does not have, of the loop that the Trainer stands for, bit for bit.
"""

from __future__ import annotations

import functools

import pytest

import samestep
from samestep.conformance.integrations import OWN_WARNINGS, agree, kinds, pairs, same, within

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("lightning")
adapter = pytest.importorskip("samestep.torch")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402  (after the search for it)

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

PAIRS = pairs("torch")
BATCHES, EPOCHS = 6, 4
ROUTED = samestep.route(
    (samestep.Where(min_ndim=2), samestep.Muon(lr=0.02, weight_decay=0.1)),
    samestep.Prodigy(lr=0.5, weight_decay=0.1),
)
RULES = {**kinds(), "route": ROUTED}


@pytest.fixture(autouse=True)
def double():
    """Everything in float64, torch's own counts of steps too."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loader():
    """Batches whose gradients change sign and scale."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(BATCHES * 8, 6, generator=random)
    y = torch.randn(BATCHES * 8, 2, generator=random)
    scale = torch.logspace(-1, 1, BATCHES).repeat_interleave(8)[:, None]
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, scale * y), batch_size=8)


class Model(lightning.LightningModule):
    """Two layers, an optimizer that it is given, and a schedule of learning rate and momentum."""

    def __init__(self, make):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
        )
        self.make = make

    def loss(self, batch):
        x, y = batch
        return torch.nn.functional.mse_loss(self.layers(x), y)

    def training_step(self, batch, index):
        return self.loss(batch)

    def configure_optimizers(self):
        optimizer = self.make(self.layers.named_parameters())
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def weights(self):
        return {name: param.detach().numpy() for name, param in self.layers.named_parameters()}


class ByHand(Model):
    """The same in manual optimization, clipped, through the closure of the optimizer."""

    automatic_optimization = False

    def training_step(self, batch, index):
        optimizer, schedule = self.optimizers(), self.lr_schedulers()

        def closure():
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            return loss

        optimizer.step(closure=closure)
        schedule.step()


def fit(folder, model, resume=None, epochs=EPOCHS, **options):
    callbacks = [ModelCheckpoint(folder, "{epoch}", save_top_k=-1)] if resume != "none" else []
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(model, loader(), ckpt_path=resume)
    return model


def looped(make, clip=lambda params: None, together=1, precision=None):
    """What the Trainer does, in a loop."""
    model = Model(make)
    found = model.configure_optimizers()
    optimizer, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader(), 1):
            if index % together == 1 % together:
                optimizer.zero_grad()
            with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
                loss = model.loss(batch) / together
            loss.backward()
            if index % together == 0:
                clip([param for group in optimizer.param_groups for param in group["params"]])
                optimizer.step()
                schedule.step()
    return model


def bound(rule):
    return functools.partial(adapter.bind, rule)


def native(name):
    """torch's optimizer with the hyperparameters of our rule."""
    rule, peer = PAIRS[name]
    return lambda named: peer.make([param for _, param in named], rule.hypers)


@pytest.mark.parametrize("name", PAIRS)
def test_every_rule_that_torch_has_trains_to_the_weights_of_torch(name, tmp_path):
    ours, theirs = (
        fit(tmp_path, Model(make)).weights() for make in (bound(PAIRS[name][0]), native(name))
    )
    agree(ours, theirs, Model(native(name)).weights(), within(PAIRS[name]))


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.5},
        {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 3},
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_clipped_and_accumulated_gradients_train_to_the_weights_of_torch(name, options, tmp_path):
    ours, theirs, plain = (
        fit(tmp_path, Model(make), **given).weights()
        for make, given in (
            (bound(PAIRS[name][0]), options),
            (native(name), options),
            (native(name), {}),
        )
    )
    agree(ours, theirs, Model(native(name)).weights(), within(PAIRS[name]))
    assert not same(theirs.values(), plain.values())


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_manual_optimization_trains_to_the_weights_of_torch(name, tmp_path):
    ours, theirs = (
        fit(tmp_path, ByHand(make)).weights() for make in (bound(PAIRS[name][0]), native(name))
    )
    agree(ours, theirs, Model(native(name)).weights(), within(PAIRS[name]))


KINDS = {
    "element": samestep.Lion(lr=0.01, weight_decay=0.1),
    "tensor": samestep.LAMB(lr=0.01, weight_decay=0.1),
    "tree": samestep.Prodigy(lr=0.5, weight_decay=0.1),
    "wrapper": samestep.Lookahead(samestep.Adan(lr=0.01, weight_decay=0.1), sync_period=4),
    "route": ROUTED,
}


@pytest.mark.parametrize("precision", [None, "bf16-mixed"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_adds_nothing_to_the_loop_that_it_stands_for(kind, precision, tmp_path):
    torch.set_default_dtype(torch.float32)
    options = {"precision": precision} if precision else {}
    model = fit(
        tmp_path,
        Model(bound(KINDS[kind])),
        gradient_clip_val=0.5,
        accumulate_grad_batches=2,
        **options,
    )
    expected = looped(
        bound(KINDS[kind]),
        lambda params: torch.nn.utils.clip_grad_norm_(params, 0.5),
        together=2,
        precision=torch.bfloat16 if precision else None,
    )
    assert same(model.weights().values(), expected.weights().values())
    assert {param.dtype for param in model.parameters()} == {torch.float32}


def test_mixed_precision_changes_the_gradients(tmp_path):
    torch.set_default_dtype(torch.float32)
    full, mixed = (
        fit(tmp_path, Model(bound(KINDS["element"])), precision=precision).weights()
        for precision in ("32-true", "bf16-mixed")
    )
    assert not same(full.values(), mixed.values())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_resumed_training_goes_on_exactly(rule, tmp_path):
    """Weights and state; with the weights alone it would go elsewhere."""
    whole = fit(tmp_path, Model(bound(rule)))
    resumed = fit(tmp_path, Model(bound(rule)), resume=tmp_path / "epoch=1.ckpt")
    assert same(whole.weights().values(), resumed.weights().values())
    ours, theirs = (model.optimizers().optimizer for model in (whole, resumed))
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]
    leaves = torch.utils._pytree.tree_leaves
    kept = [leaves(list(optimizer.state.values())) for optimizer in (ours, theirs)]
    assert same(*kept)
    assert [value.dtype for value in kept[0]] == [value.dtype for value in kept[1]]
    checkpoint = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    forgetful = Model(bound(rule))
    forgetful.load_state_dict(checkpoint["state_dict"])
    if rule.slots():
        fit(tmp_path, forgetful, resume=None, epochs=EPOCHS - 2)
        assert not same(whole.weights().values(), forgetful.weights().values())


def test_a_checkpoint_of_another_rule_is_refused(tmp_path):
    fit(tmp_path, Model(bound(samestep.Adan())), epochs=1)
    model = Model(bound(samestep.Lion()))
    with pytest.raises(ValueError, match=r"^Lion"):
        fit(tmp_path, model, resume=tmp_path / "epoch=0.ckpt")
    assert not model.optimizers().optimizer.state


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_fabric_trains_to_the_weights_of_torch(name, tmp_path):
    def train(make):
        fabric = lightning.Fabric(accelerator="cpu", devices=1)
        module = Model(make)
        model, optimizer = fabric.setup(module.layers, make(module.layers.named_parameters()))
        for index, (x, y) in enumerate(list(loader()) * EPOCHS):
            optimizer.zero_grad()
            fabric.backward(torch.nn.functional.mse_loss(model(x), y))
            fabric.clip_gradients(model, optimizer, max_norm=0.5)
            optimizer.step()
            if index == BATCHES:
                state = {"model": model, "optimizer": optimizer}
                fabric.save(tmp_path / "saved.ckpt", state)
                fabric.load(tmp_path / "saved.ckpt", state)
        return module.weights()

    ours, theirs = train(bound(PAIRS[name][0])), train(native(name))
    agree(ours, theirs, Model(native(name)).weights(), within(PAIRS[name]))
