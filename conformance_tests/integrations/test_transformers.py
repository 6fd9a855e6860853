"""Hugging Face: the Trainer and accelerate, on a small GPT-2 that is made here.

Expected values are those of torch's own optimizers in the same tool, in float64.
"""

from __future__ import annotations

import functools

import pytest

import samestep
from samestep.conformance.integrations import OWN_WARNINGS, agree, kinds, pairs, same, within
from samestep.schedules import CosineDecay, warmup_inverse_sqrt, warmup_stable_decay

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")
adapter = pytest.importorskip("samestep.torch")

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

PAIRS = pairs("torch")
STEPS = 12
ROUTED = samestep.route(
    (samestep.Where(path="*.h.*", min_ndim=2), samestep.Muon(lr=0.02, weight_decay=0.1)),
    samestep.Prodigy(lr=0.5, weight_decay=0.1),
)
RULES = {**kinds(), "route": ROUTED}


@pytest.fixture(autouse=True)
def double():
    """Everything in float64, torch's own counts of steps too; accelerate keeps what it finds."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def model(dropout=0.0):
    torch.manual_seed(0)
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 16, "vocab_size": 24}
    config = transformers.GPT2Config(
        **size,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def texts():
    random = torch.Generator().manual_seed(1)
    tokens = torch.randint(24, (64, 12), generator=random)
    return [{"input_ids": row, "labels": row} for row in tokens]


def weights(of):
    return {name: param.detach().numpy() for name, param in of.named_parameters()}


def bound(rule):
    return functools.partial(adapter.bind, rule)


def native(name):
    """torch's optimizer with the hyperparameters of our rule."""
    rule, peer = PAIRS[name]
    return lambda named: peer.make([param for _, param in named], rule.hypers)


def arguments(folder, **options):
    given = {"max_steps": STEPS, "per_device_train_batch_size": 4, "save_strategy": "no", **options}
    return transformers.TrainingArguments(
        folder, use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no", **given
    )


def trained(folder, make, dropout=0.0, resume=None, **options):
    """A trainer that has trained, with our or torch's optimizer and a schedule passed in."""
    own = model(dropout)
    optimizer = make(own.named_parameters())
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 3, STEPS)
    trainer = transformers.Trainer(
        own, arguments(folder, **options), train_dataset=texts(), optimizers=(optimizer, schedule)
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("name", PAIRS)
def test_the_trainer_reaches_the_weights_of_torch_with_every_rule_that_torch_has(name, tmp_path):
    ours, theirs = (
        weights(trained(tmp_path, make).model) for make in (bound(PAIRS[name][0]), native(name))
    )
    agree(ours, theirs, weights(model()), within(PAIRS[name]))


@pytest.mark.parametrize(
    "options",
    [{"gradient_accumulation_steps": 3}, {"max_grad_norm": 0.1}, {"max_grad_norm": 0.0}],
    ids=str,
)
def test_accumulation_and_clipping_are_those_of_torch(options, tmp_path):
    make = bound(PAIRS["SGD"][0]), native("SGD")
    ours, theirs = (weights(trained(tmp_path, one, **options).model) for one in make)
    agree(ours, theirs, weights(model()), within(PAIRS["SGD"]))
    assert not same(theirs.values(), weights(trained(tmp_path, make[1]).model).values())


def test_the_trainer_makes_our_class_as_it_makes_its_own(tmp_path):
    """Its groups, its weight decay and its schedule; it passes beta1 and beta2 as betas."""
    numbers = {"learning_rate": 0.01, "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.99}
    given = arguments(tmp_path, optim="adamw_torch", **numbers)
    theirs = transformers.Trainer(model(), given, train_dataset=texts())
    ours = transformers.Trainer(
        model(),
        given,
        train_dataset=texts(),
        optimizer_cls_and_kwargs=(adapter.AdamW, {"lr": 0.01, "betas": (0.8, 0.99)}),
    )
    for trainer in (ours, theirs):
        trainer.train()
    assert type(ours.optimizer.optimizer) is adapter.AdamW
    assert [group["weight_decay"] for group in ours.optimizer.param_groups] == [0.1, 0.0]
    agree(weights(ours.model), weights(theirs.model), weights(model()), within(PAIRS["AdamW"]))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_trainer_resumes_exactly(rule, tmp_path):
    """With dropout, whose random state it saves as well."""
    options = {"save_strategy": "steps", "save_steps": STEPS // 2, "dropout": 0.1}
    whole = trained(tmp_path, bound(rule), **options)
    resumed = trained(
        tmp_path, bound(rule), resume=str(tmp_path / f"checkpoint-{STEPS // 2}"), **options
    )
    assert resumed.state.global_step == STEPS
    assert same(weights(whole.model).values(), weights(resumed.model).values())
    kept = [
        torch.utils._pytree.tree_leaves(list(trainer.optimizer.state.values()))
        for trainer in (whole, resumed)
    ]
    assert same(*kept)
    assert [value.dtype for value in kept[0]] == [value.dtype for value in kept[1]]


def accelerated(make, schedule, folder=None, save=None, load=None, **options):
    """A loop under accelerate; saved after, or loaded before, a number of batches."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, **options)
    own = model()
    optimizer = make(own.named_parameters())
    batches = torch.utils.data.DataLoader(texts(), batch_size=4)
    prepared = accelerator.prepare(own, optimizer, batches, schedule(optimizer))
    if load is not None:
        accelerator.load_state(folder)
    own, optimizer, batches, schedule = prepared
    for index, batch in enumerate(batches):
        if load is not None and index < load:
            continue
        with accelerator.accumulate(own):
            accelerator.backward(own(**batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(own.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if index + 1 == save:
            accelerator.save_state(folder)
    return accelerator.unwrap_model(own), optimizer


def falling(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def constant(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([torch.zeros(1)]), lambda step: 1.0)


@pytest.mark.parametrize("name", PAIRS)
def test_accelerate_reaches_the_weights_of_torch(name):
    ours, theirs = (
        weights(accelerated(make, falling)[0]) for make in (bound(PAIRS[name][0]), native(name))
    )
    agree(ours, theirs, weights(model()), within(PAIRS[name]))


SCHEDULED = samestep.AdamW(lr=CosineDecay(0.01, 20), weight_decay=0.1)
SAVED = {**kinds(), "route": ROUTED, "scheduled": SCHEDULED}


@pytest.mark.parametrize("rule", SAVED.values(), ids=SAVED)
def test_accelerate_saves_and_loads_exactly(rule, tmp_path):
    schedule = constant if rule is SCHEDULED else falling
    whole, optimizer = accelerated(bound(rule), schedule, tmp_path, save=8)
    loaded, other = accelerated(bound(rule), schedule, tmp_path, load=8)
    assert same(weights(whole).values(), weights(loaded).values())
    leaves = torch.utils._pytree.tree_leaves
    assert same(leaves(list(optimizer.state.values())), leaves(list(other.state.values())))


def test_accelerate_in_mixed_precision_keeps_the_parameters_in_float32():
    torch.set_default_dtype(torch.float32)
    make = bound(PAIRS["AdamW"][0])
    full, _ = accelerated(make, falling)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    mixed, _ = accelerated(make, falling, mixed_precision="bf16")
    assert {param.dtype for param in mixed.parameters()} == {torch.float32}
    assert not same(weights(full).values(), weights(mixed).values())


def rates(make):
    """The learning rates of a scheduler of the library, one a step."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    schedule, found = make(optimizer), []
    for _ in range(STEPS + 4):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_schedules_of_its_names_are_ours():
    found = {"sqrt": rates(lambda o: transformers.get_inverse_sqrt_schedule(o, 3))}
    ours = {"sqrt": warmup_inverse_sqrt(0.3, 3)}
    for decay in ("linear", "cosine", "1-sqrt"):
        numbers = {"num_training_steps": STEPS, "decay_type": decay}
        found[decay] = rates(lambda o, n=numbers: transformers.get_wsd_schedule(o, 3, 4, **n))
        ours[decay] = warmup_stable_decay(0.3, 3, 4, STEPS, decay=decay)
    for name, schedule in ours.items():
        expected = [schedule(step) for step in range(STEPS + 4)]
        assert found[name] == pytest.approx(expected, rel=1e-14, abs=1e-16), name
