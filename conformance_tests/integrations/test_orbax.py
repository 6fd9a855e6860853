"""orbax: checkpoints of parameters and state, written here and restored in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import samestep
from samestep.conformance.integrations import OWN_WARNINGS, kinds, same

jax = pytest.importorskip("jax")
ocp = pytest.importorskip("orbax.checkpoint")
optax = pytest.importorskip("optax")
adapter = pytest.importorskip("samestep.jax")

jnp = jax.numpy

pytestmark = [
    pytest.mark.filterwarnings(*OWN_WARNINGS),
]

HALF, STEPS = 4, 8
SHAPES = {"embed": (6, 4), "block.w": (4, 5), "block.b": (4,), "scale": ()}


def rules():
    """A rule of every kind; state in a dtype of its own; a route that has shared state."""
    matrices = samestep.Where(min_ndim=2)
    return {
        **kinds(),
        "Lion": samestep.Lion(weight_decay=0.1),
        "narrow": samestep.AdamW(weight_decay=0.1, state_dtype={"m": "bfloat16"}),
        "route": samestep.route((matrices, samestep.Muon(layout="oi")), samestep.Prodigy(lr=0.5)),
    }


def arrays(seed):
    random = numpy.random.default_rng(seed)
    flat = {
        name: jnp.asarray(10 ** random.uniform(-3, 1) * random.standard_normal(shape), jnp.float32)
        for name, shape in SHAPES.items()
    }
    inner = {"w": flat["block.w"], "b": flat["block.b"].astype(jnp.bfloat16)}
    return {"embed": flat["embed"], "block": inner, "scale": flat["scale"], "nothing": None}


def trained(optimizer, kept, steps):
    params, state = kept
    for step in steps:
        updates, state = optimizer.update(arrays(1 + step), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def begun(optimizer):
    return arrays(0), optimizer.init(arrays(0))


def leaves(tree):
    """Values as float64, which holds every narrower number, and the dtypes they had."""
    found = jax.tree.leaves(tree)
    return [numpy.asarray(leaf, numpy.float64) for leaf in found], [str(x.dtype) for x in found]


def resume(folder):
    """What the new process does: restore, go on, and write the values down."""
    with ocp.StandardCheckpointer() as checkpointer:
        for place, rule in enumerate(rules().values()):
            optimizer = adapter.bind(rule)
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, begun(optimizer))
            restored = checkpointer.restore(Path(folder) / str(place), target)
            restored_values, dtypes = leaves(restored)
            values, _ = leaves(trained(optimizer, restored, range(HALF, STEPS)))
            numpy.savez(Path(folder) / f"{place}.npz", *restored_values, *values, dtypes=dtypes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of every rule halfway, and what another process has made of them."""
    place = tmp_path_factory.mktemp("orbax")
    with ocp.StandardCheckpointer() as checkpointer:
        for name, rule in enumerate(rules().values()):
            optimizer = adapter.bind(rule)
            checkpointer.save(place / str(name), trained(optimizer, begun(optimizer), range(HALF)))
        checkpointer.wait_until_finished()
    code = f"from {__spec__.name} import resume; resume({str(place)!r})"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("name", rules())
def test_a_new_process_goes_on_exactly(name, folder):
    optimizer = adapter.bind(rules()[name])
    half = trained(optimizer, begun(optimizer), range(HALF))
    values, dtypes = leaves(half)
    whole, _ = leaves(trained(optimizer, half, range(HALF, STEPS)))
    with numpy.load(folder / f"{[*rules()].index(name)}.npz") as kept:
        restored = [kept[f"arr_{place}"] for place in range(len(values) + len(whole))]
        assert [*kept["dtypes"]] == dtypes
    assert same(restored[: len(values)], values)
    assert same(restored[len(values) :], whole)
    assert not same(values, whole)


def test_a_state_of_another_rule_does_not_pass_for_one(folder, tmp_path):
    place = [*rules()].index("Lion")
    optimizer = adapter.AdamW()
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, begun(optimizer))
    with ocp.StandardCheckpointer() as checkpointer, pytest.raises(ValueError, match="slots"):
        checkpointer.restore(folder / str(place), target)
