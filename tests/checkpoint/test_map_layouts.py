"""Maps between the layers of torch, MLX, Flax and Equinox: every layer computes the same there.

The real layers of torch.nn and mlx.nn are called; those of Flax and Equinox are written with lax.
``test_map_state`` has the runs that go on in another layout, and ``test_carrying`` the runs that go
on in another framework.
"""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep import Map
from tests.checkpoint.trained import normal

INPUTS = {
    "line": (2, 4, 9),
    "conv": (2, 3, 6, 7),
    "box": (1, 2, 4, 5, 6),
    "fc": (2, 4),
    "norm": (2, 6),
}
"""Channels second, as in torch; ``line`` is a convolution of two groups."""
TOKENS = [[0, 3], [6, 1]]


def given():
    """The inputs of every layer but the embedding."""
    return ((n, normal(p, shape).astype("float32")) for p, (n, shape) in enumerate(INPUTS.items()))


def torch_model():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.ModuleDict(
        {
            "tok": nn.Embedding(7, 4),
            "line": nn.Conv1d(4, 6, 2, groups=2),
            "conv": nn.Conv2d(3, 4, (2, 3)),
            "box": nn.Conv3d(2, 2, (2, 1, 3)),
            "norm": nn.LayerNorm(6),
            "fc": nn.Linear(4, 5),
        }
    )
    for param in model.parameters():
        nn.init.normal_(param, std=0.5)
    return model


def mlx_model():
    nn = pytest.importorskip("mlx.nn")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tok, self.norm, self.fc = nn.Embedding(7, 4), nn.LayerNorm(6), nn.Linear(4, 5)
            self.line, self.conv = nn.Conv1d(4, 6, 2, groups=2), nn.Conv2d(3, 4, (2, 3))
            self.box = nn.Conv3d(2, 2, (2, 1, 3))

    return Model()


def jax_params(framework):
    """Zeros in the shapes that layers of Flax (Linen, NNX) or Equinox have."""
    xp = pytest.importorskip("jax.numpy")
    found = {}
    for path, param in torch_model().named_parameters():
        (name, leaf), shape = path.split("."), tuple(param.shape)
        if leaf == "weight" and framework != "equinox":
            leaf = {"tok": "embedding", "norm": "scale"}.get(name, "kernel")
        if leaf == "kernel":
            shape = (*shape[2:], shape[1], shape[0])
        found.setdefault(name, {})[leaf] = xp.zeros(shape)
    return {"params": found} if framework == "flax" else found


def torch_outputs(model):
    torch = pytest.importorskip("torch")
    found = {name: model[name](torch.tensor(x)) for name, x in given()}
    found["tok"] = model["tok"](torch.tensor(TOKENS))
    return {name: output.detach().numpy() for name, output in found.items()}


def mlx_outputs(model):
    mx = pytest.importorskip("mlx.core")
    found = {"tok": numpy.array(model["tok"](mx.array(TOKENS)))}
    for name, x in given():
        output = model[name](mx.array(numpy.moveaxis(x, 1, -1)))
        found[name] = numpy.moveaxis(numpy.array(output), -1, 1)
    return found


def jax_outputs(params, framework):
    jax = pytest.importorskip("jax")
    first = framework == "equinox"
    params = params.get("params", params)
    kernel, scale, embedding = ("weight",) * 3 if first else ("kernel", "scale", "embedding")
    found = {"tok": numpy.asarray(params["tok"][embedding][numpy.array(TOKENS)])}
    for name, x in given():
        own = params[name]
        if name == "norm":
            centred = x - x.mean(axis=-1, keepdims=True)
            y = centred / numpy.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * own[scale]
        elif name == "fc":
            y = x @ (own[kernel].T if first else own[kernel])
        else:
            space = "DHW"[-(x.ndim - 2) :]
            order = (f"NC{space}", f"OI{space}", f"NC{space}")
            if not first:
                order = (f"N{space}C", f"{space}IO", f"N{space}C")
            y = jax.lax.conv_general_dilated(
                x if first else numpy.moveaxis(x, 1, -1),
                own[kernel],
                (1,) * len(space),
                "VALID",
                dimension_numbers=order,
                feature_group_count=2 if name == "line" else 1,
            )
            y = y if not first else numpy.moveaxis(y, 1, -1)
        y = y + own["bias"]
        found[name] = numpy.asarray(y if y.ndim < 3 else numpy.moveaxis(y, -1, 1))
    return found


def outputs_in(framework, checkpoint):
    """The outputs of a framework's layers with the parameters of a checkpoint."""
    library = framework if framework in ("torch", "mlx") else "jax"
    adapter = pytest.importorskip(f"samestep.{library}")
    if library == "jax":
        like = jax_params(framework)
        params, _ = samestep.restore(adapter.AdamW(lr=1e-2), checkpoint, like)
        return jax_outputs(params, framework)
    model = torch_model() if library == "torch" else mlx_model()
    named = [model.named_parameters()] if library == "torch" else []
    samestep.restore(adapter.AdamW(*named, lr=1e-2), checkpoint, model)
    return (torch_outputs if library == "torch" else mlx_outputs)(model)


THERE = ("flax", "mlx", "equinox", "nnx", "torch")
BACK = ("mlx", "nnx", "equinox", "flax", "torch")


def test_every_layout_computes_what_torch_does():
    torch = pytest.importorskip("torch")
    model = torch_model()
    optimizer = pytest.importorskip("samestep.torch").AdamW(model.named_parameters(), lr=1e-2)
    for step in range(3):
        for place, param in enumerate(model.parameters()):
            param.grad = torch.tensor(normal(100 * step + place, param.shape), dtype=torch.float32)
        optimizer.step()
    begun = samestep.checkpoint(optimizer, model)
    expected, now, here = torch_outputs(model), begun, "torch"
    for there in [
        "flax",
        "mlx",
        "equinox",
        "nnx",
        "torch",
        "mlx",
        "nnx",
        "equinox",
        "flax",
        "torch",
    ]:
        between = Map.between(here, there, embeddings="tok")
        between.check(now)
        now, here = now.mapped(between), there
        found = outputs_in(there, now)
        for name, output in expected.items():
            numpy.testing.assert_allclose(found[name], output, rtol=2e-5, atol=2e-6, err_msg=name)
    assert now.parameters.keys() == begun.parameters.keys() and now.layout == "torch"
    for path, own in begun.parameters.items():
        others = now.parameters[path].tensors()
        for (_, mine), (_, theirs) in zip(own.tensors(), others, strict=True):
            assert numpy.array_equal(mine.bits, theirs.bits)
