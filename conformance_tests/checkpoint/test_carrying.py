"""A network trained in one framework after another ends where each of them would have alone."""

from __future__ import annotations

from functools import cache, partial

import numpy
import pytest

import samestep
from samestep.checkpoints import read
from samestep.command_line.demonstration.network import logits
from samestep.conformance.harness.parametrized import each_rule
from samestep.conformance.harness.settings import typical
from samestep.parity.backend import Backend, backends

STAGE = 100
"""Steps in one framework."""
STAGES = ("torch (packed)", "jax.jit", "mlx", "torch (packed)")

BOUND = 1e-10
"""Of the largest element. In float64 a step is off by some 1e-16, and the network makes more of it
in 400 steps; a state that is lost or mistaken is off by much more."""

pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")

for name in STAGES:
    if not isinstance(backends().get(name), Backend):
        pytest.skip(f"needs {name}", allow_module_level=True)


def problem():
    """A network of two layers and a batch for every step."""
    random = numpy.random.default_rng(0)
    sizes = {"hidden": (6, 8), "output": (8, 3)}
    params = {}
    for layer, shape in sizes.items():
        params[f"{layer}.weight"] = random.normal(size=shape) * shape[0] ** -0.5
        params[f"{layer}.bias"] = random.normal(size=shape[1]) * 0.1
    batches = []
    for _ in range(STAGE * len(STAGES)):
        images = random.normal(size=(32, 6))
        classes = numpy.argmax(images[:, :3] ** 2 - images[:, 3:], axis=1)
        batches.append((images, numpy.eye(3)[classes]))
    return params, batches


params, batches = problem()


def loss(xp, params, images, labels):
    """The mean squared error; the exponential of MLX has no more than 9 digits in float64."""
    errors = logits(xp, params, images) - labels
    return xp.sum(errors * errors) / images.shape[0]


@cache
def gradient_on(name):
    """A function of parameters and a batch, by the library's own differentiation."""
    backend = backends()[name]
    if backend.library != "jax":
        return partial(backend.value_and_grad, loss)
    jax = pytest.importorskip("jax")
    return jax.jit(jax.value_and_grad(partial(loss, jax.numpy)))


def trained(run, name, first, count):
    """The run after ``count`` steps of training, from batch ``first``."""
    backend = backends()[name]
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        for images, labels in batches[first : first + count]:
            data = (backend.array(images, "float64"), backend.array(labels, "float64"))
            _, grads = gradient_on(name)(dict(run.params()), *data)
            run.step({path: backend.numpy(grad) for path, grad in grads.items()})
    return run


def suited(rule):
    """The parameters that the rule takes; the others are not trained."""
    return {path: array for path, array in params.items() if array.ndim >= rule.min_ndim}


class Frozen:
    """A run whose optimizer has some of the parameters only."""

    def __init__(self, run, backend):
        self.run, self.restore, self.checkpoint = run, run.restore, run.checkpoint
        self.rest = {path: backend.array(array, "float64") for path, array in params.items()}

    def step(self, grads):
        own = self.run.params()
        self.run.step({path: grad for path, grad in grads.items() if path in own})

    def params(self):
        return self.rest | dict(self.run.params())


def start(rule, name):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        backend = backends()[name]
        return Frozen(backend.start(rule, suited(rule), "float64"), backend)


@pytest.mark.parametrize("rule_name", each_rule(most=3))
def test_a_run_carried_through_three_frameworks_ends_where_each_does_alone(rule_name, tmp_path):
    rule = typical(getattr(samestep, rule_name))
    file = tmp_path / "state.safetensors"
    for stage, name in enumerate(STAGES):
        run = start(rule, name)
        if stage:
            run.restore(read(file))
        samestep.save(file, trained(run, name, stage * STAGE, STAGE).checkpoint())
    carried = {path: backends()[name].numpy(array) for path, array in run.params().items()}
    for alone in dict.fromkeys(STAGES):
        whole = trained(start(rule, alone), alone, 0, len(batches))
        for path, array in whole.params().items():
            expected = backends()[alone].numpy(array)
            worst = numpy.abs(carried[path] - expected).max() / numpy.abs(expected).max()
            assert worst <= BOUND, f"{path} in {alone}: {worst:.1e}"
            moved = numpy.abs(expected - params[path]).max() / numpy.abs(expected).max()
            assert moved > 1e-3 or rule.min_ndim > params[path].ndim, path


@pytest.mark.parametrize("rule_name", each_rule(lambda rule: rule.slots() or rule.shared()))
def test_it_ends_elsewhere_without_the_state(rule_name):
    rule = typical(getattr(samestep, rule_name))
    name = STAGES[0]
    first = trained(start(rule, name), name, 0, STAGE)
    stateless = start(rule, name)
    values = {path: array.detach().clone() for path, array in first.params().items()}
    for path, array in stateless.run.params().items():
        array.detach().copy_(values[path])
    ended = trained(stateless, name, STAGE, STAGE).params()
    whole = trained(start(rule, name), name, 0, 2 * STAGE).params()
    assert any(
        float((ended[path] - whole[path]).abs().max() / whole[path].abs().max()) > BOUND
        for path in suited(rule)
    )
