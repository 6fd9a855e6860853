"""Two recordings of one run, in two frameworks: what differed first?"""

from __future__ import annotations

import numpy
import pytest

from samestep import Map
from samestep.recording import RecordingError, read
from samestep.replay import against

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
import samestep.jax  # noqa: E402  (needs JAX)
import samestep.torch  # noqa: E402

STEPS = 60


def start():
    random = numpy.random.default_rng(0)
    made = {"hidden": (6, 12), "bias": (12,), "out": (12, 2)}
    return {n: random.normal(0, 0.4, size).astype("float32") for n, size in made.items()}


def loss(xp, params, x, y):
    return ((xp.tanh(x @ params["hidden"] + params["bias"]) @ params["out"] - y) ** 2).mean()


def batch(step):
    random = numpy.random.default_rng(step)
    sizes = (random.normal(size=(16, 6)), random.normal(size=(16, 2)))
    return [part.astype("float32") for part in sizes]


def in_torch(path, make, *, params=None, grads=lambda step, grads: None):
    params = {n: torch.tensor(v, requires_grad=True) for n, v in (params or start()).items()}
    optimizer = make(params.values())
    with samestep.torch.recorder(path, optimizer, model=params):
        for step in range(STEPS):
            x, y = map(torch.from_numpy, batch(step))
            optimizer.zero_grad()
            loss(torch, params, x, y).backward()
            grads(step, params)
            optimizer.step()
    return read(path)


def in_jax(path, transformation, rule=None):
    with samestep.jax.recorder(path, rule=rule) as recording:
        optimizer = recording(transformation)
        params = jax.tree.map(jax.numpy.asarray, start())
        state = optimizer.init(params)

        @jax.jit
        def step(params, state, x, y):
            grads = jax.grad(lambda params: loss(jax.numpy, params, x, y))(params)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        for place in range(STEPS):
            params, state = step(params, state, *batch(place))
    return read(path)


def adamw(params):
    return torch.optim.AdamW(params, lr=1e-2, weight_decay=0.1)


@pytest.fixture
def theirs(tmp_path):
    rule = samestep.AdamW(lr=1e-2, weight_decay=0.1)
    return in_jax(tmp_path / "jax.safetensors", optax.adamw(1e-2, weight_decay=0.1), rule)


def test_the_same_run_in_two_frameworks_agrees(tmp_path, theirs):
    found = against(in_torch(tmp_path / "torch.safetensors", adamw), theirs)
    assert found.verdict == "agree", (found.sentence, found.first)
    assert len(found.rows) == STEPS and not found.hyperparameters
    assert found.rows[0].before == 0 < found.rows[-1].before < 1e-4


def test_a_gradient_that_differs_first_is_named_with_step_and_tensor(tmp_path, theirs):
    def perturb(step, params):
        if step == 21:
            params["out"].grad[3, 1] *= 1.2

    found = against(in_torch(tmp_path / "torch.safetensors", adamw, grads=perturb), theirs)
    assert found.sentence == "the gradients differed first"
    assert (found.first.kind, found.first.step, found.first.path) == ("gradients", 21, "out")
    assert found.first.relative > 1e-3 and found.first.ulp > 1000


def test_an_optimizer_that_differs_first_is_named(tmp_path, theirs):
    def without_correction(params):
        class Uncorrected(torch.optim.AdamW):
            @torch.no_grad()
            def step(self, closure=None):
                if self.state and next(iter(self.state.values()))["step"] == 30:
                    for own in self.state.values():
                        own["exp_avg"].zero_()
                super().step(closure)

        return Uncorrected(params, lr=1e-2, weight_decay=0.1)

    found = against(in_torch(tmp_path / "torch.safetensors", without_correction), theirs)
    assert found.sentence == "the optimizer differed first"
    assert (found.first.kind, found.first.step) == ("optimizer", 30)


def test_other_parameters_to_start_from_are_said_before_all_else(tmp_path, theirs):
    other = start()
    other["bias"][4] += 0.01
    found = against(in_torch(tmp_path / "torch.safetensors", adamw, params=other), theirs)
    assert found.sentence == "the parameters to start from differ"
    assert (found.first.step, found.first.path) == (0, "bias")


def test_hyperparameters_that_differ_are_named_with_both_numbers(tmp_path, theirs):
    def other(params):
        return torch.optim.AdamW(params, lr=1e-2, weight_decay=0.05)

    found = against(in_torch(tmp_path / "torch.safetensors", other), theirs)
    assert [(a.path, a.step, a.a, a.b) for a in found.hyperparameters] == [
        ("weight_decay", 0, 0.05, 0.1)
    ]
    assert found.first.kind == "optimizer" and found.verdict == "differ"


def test_parameters_are_matched_by_a_map(tmp_path):
    """A linear layer of torch has the transposed kernel of Flax."""
    random = numpy.random.default_rng(1)
    weight, grads = random.normal(size=(3, 5)).astype("f4"), random.normal(size=(20, 3, 5))
    layer = torch.nn.Sequential(torch.nn.Linear(5, 3, bias=False))
    with torch.no_grad():
        layer[0].weight.copy_(torch.from_numpy(weight))
    made = torch.optim.SGD(layer.parameters(), 0.1)
    with samestep.torch.recorder(tmp_path / "a.safetensors", made, model=layer):
        for grad in grads.astype("f4"):
            layer[0].weight.grad = torch.from_numpy(grad)
            made.step()
    with samestep.jax.recorder(tmp_path / "b.safetensors") as recording:
        optimizer = recording(optax.sgd(0.1))
        params = {"params": {"0": {"kernel": jax.numpy.asarray(weight.T)}}}
        state = optimizer.init(params)
        for grad in grads.astype("f4"):
            own = {"params": {"0": {"kernel": jax.numpy.asarray(grad.T)}}}
            updates, state = optimizer.update(own, state, params)
            params = optax.apply_updates(params, updates)
    one, other = read(tmp_path / "a.safetensors"), read(tmp_path / "b.safetensors")
    with pytest.raises(RecordingError, match=r"in common: 0\.weight and params\.0\.kernel"):
        against(one, other)
    found = against(one, other, names=Map.between("torch", "flax"))
    assert found.verdict == "agree" and len(found.rows) == 20
