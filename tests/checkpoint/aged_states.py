"""States that versions of samestep before this one have written, in the formats that people use.

``python -m tests.checkpoint.aged_states NAME`` writes the states of the version that is installed
to ``aged/NAME``. Every later version must take up a training where such a file leaves it.
"""

from __future__ import annotations

import pickle
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy

import samestep

AGED = Path(__file__).parent / "aged"
BEFORE, AFTER = range(5), range(5, 8)

Tree = dict[str, Any]


class Case(NamedTuple):
    """A rule and the shapes of its parameters, whose names say where the outputs are."""

    rule: Any
    shapes: dict[str, tuple[int, ...]] = {"weight": (3, 4), "bias": (3,)}  # noqa: RUF012


CASES = {
    "adamw": Case(samestep.AdamW(lr=1e-2, weight_decay=0.1)),
    "adafactor": Case(samestep.Adafactor(lr=1e-2, momentum=0.9)),
    "muon": Case(samestep.Muon(), {"weight": (3, 4)}),
    "muon_io": Case(samestep.Muon(layout="io"), {"kernel": (4, 3)}),
    "quirk": Case(samestep.Adan(lr=1e-2, like="optax")),
    "accumulate": Case(samestep.Accumulate(samestep.AdamW(lr=1e-2), every=2)),
    "route": Case(
        samestep.SkipNonFinite(
            samestep.route((samestep.Where(ndim=2), samestep.Muon()), samestep.Prodigy())
        )
    ),
}


def parameters(case: Case) -> Tree:
    """The first parameters."""
    return {
        name: numpy.cos(numpy.arange(numpy.prod(shape)) + place, dtype="f4").reshape(shape)
        for place, (name, shape) in enumerate(case.shapes.items())
    }


def gradients(case: Case, step: int) -> Tree:
    """Gradients of many sizes; one call in which SkipNonFinite skips."""
    scale = numpy.float32("inf" if "Skip" in repr(case.rule) and step == 2 else 10.0 ** (step % 3))
    return {
        name: numpy.sin(1.7 * param + step, dtype="f4") * scale
        for name, param in parameters(case).items()
    }


def as_arrays(tree: Tree, array: Callable[[Any], Any]) -> Tree:
    """The same tree in arrays of a framework."""
    return {name: array(value) for name, value in tree.items()}


class WithTorch:
    """``torch.save`` of a state dict; the bias has no gradient in the second step."""

    suffix = "pt"

    def __init__(self, case: Case, params: Tree) -> None:
        import torch  # noqa: PLC0415

        import samestep.torch as adapter  # noqa: PLC0415

        self.torch, self.case = torch, case
        self.model = as_arrays(params, lambda value: torch.nn.Parameter(torch.tensor(value)))
        self.optimizer = adapter.bind(case.rule, self.model.items())

    def train(self, steps: range) -> None:
        """Take steps."""
        for step in steps:
            for name, grad in gradients(self.case, step).items():
                missing = (name, step) == ("bias", 1)
                self.model[name].grad = None if missing else self.torch.tensor(grad)
            self.optimizer.step()

    def params(self) -> Tree:
        """The parameters."""
        return {name: param.detach().numpy().copy() for name, param in self.model.items()}

    def write(self, path: Path) -> None:
        """Write the state."""
        self.torch.save(self.optimizer.state_dict(), path)

    def read(self, path: Path) -> None:
        """Read it."""
        self.optimizer.load_state_dict(self.torch.load(path, weights_only=True))


class WithPickle(WithTorch):
    """``pickle`` of parameters and optimizer together."""

    suffix = "pkl"

    def write(self, path: Path) -> None:
        """Write the state."""
        path.write_bytes(pickle.dumps((self.model, self.optimizer)))

    def read(self, path: Path) -> None:
        """Read it."""
        self.model, self.optimizer = pickle.loads(path.read_bytes())


class WithJax:
    """``pickle`` of a state."""

    suffix = "pickle"

    def __init__(self, case: Case, params: Tree) -> None:
        import jax.numpy as jnp  # noqa: PLC0415
        import optax  # noqa: PLC0415

        import samestep.jax as adapter  # noqa: PLC0415

        self.array, self.apply, self.case = jnp.asarray, optax.apply_updates, case
        self.tree = as_arrays(params, self.array)
        self.optimizer = adapter.bind(case.rule)
        self.state: Any = self.optimizer.init(self.tree)

    def train(self, steps: range) -> None:
        """Take steps."""
        for step in steps:
            grads = as_arrays(gradients(self.case, step), self.array)
            updates, self.state = self.optimizer.update(grads, self.state, self.tree)
            self.tree = self.apply(self.tree, updates)

    def params(self) -> Tree:
        """The parameters."""
        return as_arrays(self.tree, numpy.asarray)

    def write(self, path: Path) -> None:
        """Write the state."""
        import jax  # noqa: PLC0415

        path.write_bytes(pickle.dumps(jax.device_get(self.state)))

    def read(self, path: Path) -> None:
        """Read it."""
        import jax  # noqa: PLC0415

        self.state = jax.device_put(pickle.loads(path.read_bytes()))


class WithFlax(WithJax):
    """Flax's msgpack of a state."""

    suffix = "msgpack"

    def write(self, path: Path) -> None:
        """Write the state."""
        from flax import serialization  # noqa: PLC0415

        path.write_bytes(serialization.to_bytes(self.state))

    def read(self, path: Path) -> None:
        """Read it into the first state."""
        from flax import serialization  # noqa: PLC0415

        self.state = serialization.from_bytes(self.state, path.read_bytes())


class WithOrbax(WithJax):
    """A folder of orbax, in an archive."""

    suffix = "orbax.tar.gz"

    def write(self, path: Path) -> None:
        """Write the state."""
        import orbax.checkpoint as ocp  # noqa: PLC0415

        with TemporaryDirectory() as folder:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
                checkpointer.save(Path(folder) / "state", self.state)
            with tarfile.open(path, "w:gz") as archive:
                archive.add(Path(folder) / "state", "state")

    def read(self, path: Path) -> None:
        """Read it into the first state."""
        import jax  # noqa: PLC0415
        import orbax.checkpoint as ocp  # noqa: PLC0415

        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, self.state)
        with TemporaryDirectory() as folder, tarfile.open(path) as archive:
            how = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.11.4
            archive.extractall(folder, **how)
            with ocp.StandardCheckpointer() as checkpointer:
                self.state = checkpointer.restore(Path(folder) / "state", like)


class WithMlx:
    """The recipe of MLX's documentation: the flattened state in safetensors."""

    suffix = "mlx.safetensors"

    def __init__(self, case: Case, params: Tree) -> None:
        import mlx.core as mx  # noqa: PLC0415
        from mlx import utils  # noqa: PLC0415

        import samestep.mlx as adapter  # noqa: PLC0415

        self.mx, self.utils, self.case = mx, utils, case
        self.tree = as_arrays(params, mx.array)
        self.optimizer = adapter.bind(case.rule)

    def train(self, steps: range) -> None:
        """Take steps."""
        for step in steps:
            grads = as_arrays(gradients(self.case, step), self.mx.array)
            self.tree = self.optimizer.apply_gradients(grads, self.tree)

    def params(self) -> Tree:
        """The parameters."""
        return as_arrays(self.tree, numpy.asarray)

    def write(self, path: Path) -> None:
        """Write the state."""
        self.mx.save_safetensors(str(path), dict(self.utils.tree_flatten(self.optimizer.state)))

    def read(self, path: Path) -> None:
        """Read it."""
        self.optimizer.state = self.utils.tree_unflatten([*self.mx.load(str(path)).items()])


class WithSamestep:
    """``samestep.save``, of the rule in NumPy."""

    suffix = "safetensors"

    def __init__(self, case: Case, params: Tree) -> None:
        self.case, self.tree, self.state = case, params, case.rule.init(params)

    def train(self, steps: range) -> None:
        """Take steps."""
        for step in steps:
            grads = gradients(self.case, step)
            self.tree, self.state = self.case.rule.update(grads, self.tree, self.state)

    def params(self) -> Tree:
        """The parameters."""
        return self.tree

    def write(self, path: Path) -> None:
        """Write the state."""
        samestep.save(path, self.case.rule, self.tree, self.state)

    def read(self, path: Path) -> None:
        """Read it."""
        self.tree, self.state = samestep.load(path, self.case.rule, self.tree)


FORMS: dict[str, Any] = {
    form.suffix: form
    for form in (WithTorch, WithPickle, WithJax, WithFlax, WithOrbax, WithMlx, WithSamestep)
}


def write(folder: Path) -> None:
    """A file of every case and format, and the parameters at that step and three steps later."""
    folder.mkdir(parents=True)
    values = {}
    for name, case in CASES.items():
        for suffix, form in FORMS.items():
            training = form(case, parameters(case))
            training.train(BEFORE)
            training.write(folder / f"{name}.{suffix}")
            found = [flat(case, training.params())]
            training.train(AFTER)
            values[f"{name}.{suffix}"] = numpy.stack([*found, flat(case, training.params())])
    numpy.savez(folder / "parameters.npz", **values)


def flat(case: Case, tree: Tree) -> Any:
    """All parameters in one vector."""
    return numpy.concatenate([numpy.ravel(tree[name]) for name in case.shapes])


def shaped(case: Case, vector: Any) -> Tree:
    """Parameters from one vector."""
    sizes = [int(numpy.prod(shape)) for shape in case.shapes.values()]
    pieces = numpy.split(vector, numpy.cumsum(sizes)[:-1])
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(case.shapes.items(), pieces, strict=True)
    }


if __name__ == "__main__":
    write(AGED / sys.argv[1])
