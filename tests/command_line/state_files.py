"""Files with the state of an optimizer, and the commands that show and convert them."""

from __future__ import annotations

import json

import numpy
import pytest
from click.testing import CliRunner

import samestep
from samestep.checkpoints import read
from samestep.checkpoints.contents import arrays
from samestep.command_line.main import commands

REFUSED, USAGE = 1, 2
"""Exit codes."""
SHAPES = {"layers.0.weight": (4, 3), "layers.0.bias": (4,), "norm.weight": (3,), "scale": ()}
CLOSE = 16 * 2.0**-23
"""Of one step in float32, relative to the step and the parameter."""
ADAMW = samestep.AdamW(lr=1e-2, weight_decay=0.1)


def command(line, *more):
    """Run a command line, with more arguments that may have spaces."""
    return CliRunner().invoke(commands(), [*line.split(), *more])


def done(line, *more):
    """The output of a command that succeeds."""
    result = command(line, *more)
    assert result.exit_code == 0, result.output
    return result.output


def words(line, *more):
    """The same, in one line."""
    return " ".join(done(line, *more).split())


def inspected(path, line=""):
    """The JSON about a file."""
    return json.loads(done(f"inspect {path} --json {line}"))


def refused(line, *more, code=REFUSED):
    """The message of a command that refuses, in one line."""
    result = command(line, *more)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    if code == REFUSED:
        assert result.output.strip().splitlines()[-1].startswith("Error: ")
    return " ".join(result.output.split())


def needs(to):
    """Skip the test if the library of a target is missing."""
    pytest.importorskip({"samestep": "numpy", "mlx": "mlx.core"}.get(to, to))


def numbers(shapes=SHAPES):
    """Parameters in float32."""
    noise = numpy.random.default_rng(0)
    return {name: noise.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def gradients(step, shapes=SHAPES):
    """Gradients that change sign and size."""
    noise = numpy.random.default_rng(1000 + step)
    return {
        name: (noise.normal(size=shape) * 10.0 ** noise.integers(-3, 2, shape)).astype("float32")
        for name, shape in shapes.items()
    }


def saved(path, rule, steps=10, shapes=SHAPES, **more):
    """Train with a rule, save its checkpoint, and return parameters and state."""
    params = numbers(shapes)
    state = rule.init(params)
    for step in range(steps):
        params, state = rule.update(gradients(step, shapes), params, state)
    samestep.save(path, rule, params, state, **more)
    return params, state


def same_slots(one, other):
    """Check that the slots of two checkpoints are equal to the last bit."""
    first, second = (
        {key: tensor for key, tensor in arrays(read(path)).items() if key.startswith("slots/")}
        for path in (one, other)
    )
    assert first.keys() == second.keys()
    assert first
    for key, tensor in first.items():
        assert (tensor.dtype, tensor.shape) == (second[key].dtype, second[key].shape), key
        assert tensor.bits.tobytes() == second[key].bits.tobytes(), key


def same_bits(one, other):
    """Check that two checkpoints have the same slots, step counts and numbers of the rule."""
    same_slots(one, other)
    ones, others = (read(path).parameters for path in (one, other))
    for path, own in ones.items():
        theirs = others[path]
        assert (own.step, own.shape, own.dtype) == (theirs.step, theirs.shape, theirs.dtype)
        assert own.rule["values"] == theirs.rule["values"]


def close(found, wanted, before):
    """Check a parameter after one more step, in a few ULP of itself and of the step."""
    found, wanted, before = (numpy.asarray(one, numpy.float64) for one in (found, wanted, before))
    size = numpy.maximum(numpy.abs(wanted), numpy.abs(wanted - before))
    worst = numpy.max(numpy.abs(found - wanted) / numpy.maximum(size, 1e-30), initial=0.0)
    assert worst <= CLOSE, worst
    assert numpy.any(found != before)


def damage(path):
    """Flip a bit of the last array."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
