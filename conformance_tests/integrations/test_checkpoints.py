"""Files of ours beside the checkpoints of accelerate, Lightning and orbax: the same state in both.

That those tools' own checkpoints resume exactly is in the tests of each of them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import samestep
from samestep.checkpoints.contents import arrays as arrays_of
from samestep.conformance.integrations import OWN_WARNINGS, kinds, same

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

HALF, STEPS = 5, 10
RULES = kinds()


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))


def train(forward, optimizer, backward, steps):
    """Batches whose gradients change sign and scale."""
    for step in steps:
        noise = torch.Generator().manual_seed(step)
        x, y = torch.randn(8, 4, generator=noise), torch.randn(8, 2, generator=noise)
        optimizer.zero_grad()
        backward(torch.nn.functional.mse_loss(forward(x), (-10.0) ** (step % 3 - 1) * y))
        optimizer.step()


def weights(model):
    return [param.detach().clone().numpy() for param in model.parameters()]


def state(checkpoint):
    """Arrays and counts by name."""
    found = {name: tensor.bits.copy() for name, tensor in arrays_of(checkpoint).items()}
    return found | {path: own.step for path, own in checkpoint.parameters.items()}


def equal(one, other):
    assert one.keys() == other.keys()
    return all(numpy.array_equal(value, other[name]) for name, value in one.items())


def accelerated(rule, seed):
    accelerate = pytest.importorskip("accelerate")
    model = network(seed)
    accelerator = accelerate.Accelerator(cpu=True)
    wrapped = accelerator.prepare(model, adapter.bind(rule, model.named_parameters()))
    return model, *wrapped, accelerator.backward


def under_fabric(rule, seed):
    lightning = pytest.importorskip("lightning")
    model = network(seed)
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    wrapped = fabric.setup(model, adapter.bind(rule, model.named_parameters()))
    return model, *wrapped, fabric.backward


def under_lightning(rule, seed):
    wrappers = pytest.importorskip("lightning.pytorch.core.optimizer")
    model = network(seed)
    optimizer = adapter.bind(rule, model.named_parameters())

    class Wrapped(wrappers.LightningOptimizer):
        """As in manual optimization, without a Trainer to report to."""

        def step(self, closure=None):
            return self.optimizer.step(closure)

    return model, model, Wrapped(optimizer), torch.Tensor.backward


WRAPPERS = {"accelerate": accelerated, "Fabric": under_fabric, "Lightning": under_lightning}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("tool", WRAPPERS)
def test_an_optimizer_in_a_wrapper_is_saved_and_loaded_as_the_one_inside(tool, rule, tmp_path):
    """Whichever of the two is given, the file is the same and the run goes on exactly."""
    path, plain = tmp_path / "wrapped.safetensors", tmp_path / "plain.safetensors"
    model, forward, wrapped, backward = WRAPPERS[tool](rule, 0)
    train(forward, wrapped, backward, range(HALF))
    samestep.save(path, wrapped, model)
    samestep.save(plain, wrapped.optimizer, model)
    assert path.read_bytes() == plain.read_bytes()
    half = weights(model)
    train(forward, wrapped, backward, range(HALF, STEPS))
    ends = {}
    for kind in ("loaded", "lost"):
        other, forward, resumed, backward = WRAPPERS[tool](rule, 1)
        if kind == "loaded":
            samestep.load(path, resumed, other)
            assert same(weights(other), half)
            assert resumed.optimizer.state
        else:
            other.load_state_dict(
                dict(zip(model.state_dict(), map(torch.tensor, half), strict=True))
            )
        train(forward, resumed, backward, range(HALF, STEPS))
        ends[kind] = weights(other)
    assert same(ends["loaded"], weights(model))
    assert not same(ends["lost"], weights(model))


@pytest.mark.parametrize("tool", WRAPPERS)
def test_a_file_that_does_not_fit_changes_nothing_in_a_wrapper(tool, tmp_path):
    model, forward, wrapped, backward = WRAPPERS[tool](samestep.AdamW(), 0)
    train(forward, wrapped, backward, range(2))
    samestep.save(tmp_path / "x.safetensors", wrapped, model)
    other, forward, lion, backward = WRAPPERS[tool](samestep.Lion(), 1)
    train(forward, lion, backward, range(2))
    before = state(samestep.checkpoint(lion, other))
    with pytest.raises(samestep.CheckpointError, match=r"x\.safetensors: .* AdamW, not of Lion"):
        samestep.load(tmp_path / "x.safetensors", lion, other)
    assert equal(state(samestep.checkpoint(lion, other)), before)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_accelerate_checkpoint_holds_what_our_file_holds(rule, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = network(0)
    accelerator = accelerate.Accelerator(cpu=True)
    forward, wrapped = accelerator.prepare(model, adapter.bind(rule, model.named_parameters()))
    train(forward, wrapped, accelerator.backward, range(HALF))
    accelerator.save_state(str(tmp_path / "folder"))
    samestep.save(tmp_path / "x.safetensors", wrapped, model)
    saved = state(samestep.checkpoint(wrapped, model))
    train(forward, wrapped, accelerator.backward, range(HALF, STEPS))
    assert not equal(state(samestep.checkpoint(wrapped, model)), saved)
    accelerator.load_state(str(tmp_path / "folder"))
    assert equal(state(samestep.checkpoint(wrapped, model)), saved)
    train(forward, wrapped, accelerator.backward, range(HALF, STEPS))
    samestep.load(tmp_path / "x.safetensors", wrapped, model)
    assert equal(state(samestep.checkpoint(wrapped, model)), saved)


# orbax, with the state inside an optax.chain.


def tree(seed, is_grad=False):
    jnp = pytest.importorskip("jax.numpy")
    random = numpy.random.default_rng(seed)

    def array(*shape):
        scale = 10.0 ** random.integers(-3, 2, shape) if is_grad else 1
        return jnp.asarray(random.standard_normal(shape) * scale, jnp.float32)

    return {"block": [{"w": array(4, 3), "b": array(4)}], "out": array(3, 4)}


def chained(rule):
    optax = pytest.importorskip("optax")
    jax_adapter = pytest.importorskip("samestep.jax")
    return optax.chain(optax.clip_by_global_norm(0.5), jax_adapter.bind(rule), optax.scale(0.5))


def stepped(optimizer, kept, steps):
    optax = pytest.importorskip("optax")
    params, kept = kept
    for step in steps:
        updates, kept = optimizer.update(tree(100 + step, is_grad=True), kept, params)
        params = optax.apply_updates(params, updates)
    return params, kept


def leaves(kept):
    jax = pytest.importorskip("jax")
    return [numpy.array(leaf) for leaf in jax.tree.leaves(kept)]


def from_orbax(folder):
    """What the new process does: restore, save a file of ours, go on, and write the end down."""
    jax, ocp = pytest.importorskip("jax"), pytest.importorskip("orbax.checkpoint")
    for place, rule in enumerate(RULES.values()):
        optimizer, path = chained(rule), Path(folder) / str(place)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, (tree(1), optimizer.init(tree(1))))
        with ocp.StandardCheckpointer() as checkpointer:
            params, kept = checkpointer.restore(path, target)
        samestep.save(path.with_suffix(".safetensors"), rule, params, own_state(kept))
        numpy.savez(path.with_suffix(".npz"), *leaves(stepped(optimizer, (params, kept), REST)))


def own_state(kept):
    """Ours among the states of a chain."""
    return next(each for each in kept if isinstance(each, samestep.State))


REST = range(HALF, STEPS)


def test_a_chain_that_orbax_restores_holds_what_our_file_holds(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    jax_adapter = pytest.importorskip("samestep.jax")
    halves = {}
    with ocp.StandardCheckpointer() as checkpointer:
        for place, rule in enumerate(RULES.values()):
            optimizer = chained(rule)
            halves[place] = stepped(optimizer, (tree(0), optimizer.init(tree(0))), range(HALF))
            checkpointer.save(tmp_path / str(place), halves[place])
        checkpointer.wait_until_finished()
    code = f"from {__spec__.name} import from_orbax; from_orbax({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for place, rule in enumerate(RULES.values()):
        params, kept = halves[place]
        whole = leaves(stepped(chained(rule), halves[place], REST))
        with numpy.load(tmp_path / f"{place}.npz") as resumed:
            assert same([resumed[name] for name in resumed], whole), rule
        bound = jax_adapter.bind(rule)
        loaded = samestep.load(tmp_path / f"{place}.safetensors", bound, tree(2))
        assert same(leaves(loaded), leaves((params, own_state(kept)))), rule
        put = tuple(loaded[1] if isinstance(each, samestep.State) else each for each in kept)
        assert same(leaves(stepped(chained(rule), (loaded[0], put), REST)), whole), rule
        fresh = chained(rule).init(params)
        assert not same(leaves(stepped(chained(rule), (params, fresh), REST)), whole), rule
