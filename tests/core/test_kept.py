"""How parameters are kept: what is known, what is said, and what is asked."""

from __future__ import annotations

import numpy
import pytest

import samestep
from samestep import LAMB, Adafactor, AdamW, AdaptiveClip, Lookahead, Muon, Where, route
from samestep.arrays import parts
from samestep.kept import kept_by, roles, rule_of

W = numpy.random.default_rng(0).normal(size=(8, 32))


def length(update):
    return float(numpy.linalg.norm(numpy.asarray(update)))


def seen(rule, name, shape):
    """The letters of the axes of a parameter."""
    return roles(rule_of(rule, name, numpy.zeros(shape)), len(shape))


def test_a_flax_kernel_steps_as_in_optax():
    """Its outputs are last: the update is twice as long as that of a weight of torch."""
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    numbers = optax.contrib.MuonDimensionNumbers((0,), 1)
    theirs = optax.contrib.muon(
        1.0, nesterov=False, muon_weight_dimension_numbers=lambda tree: {"kernel": numbers}
    )
    ours = samestep.jax.Muon(lr=1.0, nesterov=False)
    params = {"kernel": jax.numpy.asarray(W, "float32")}
    expected, _ = theirs.update(params, theirs.init(params), params)
    found, _ = ours.update(params, ours.init(params), params)
    numpy.testing.assert_allclose(found["kernel"], expected["kernel"], rtol=1e-3, atol=1e-4)
    as_weight, _ = ours.update({"weight": params["kernel"]}, *_begun(ours, params["kernel"]))
    assert length(found["kernel"]) == pytest.approx(2 * length(as_weight["weight"]), rel=1e-4)


def _begun(optimizer, array):
    return optimizer.init({"weight": array}), {"weight": array}


@pytest.mark.parametrize(
    ("name", "shape", "letters"),
    [
        ("layer.kernel", (8, 32), "io"),
        ("layer.weight", (32, 8), "oi"),
        ("embed.embedding", (50, 8), "oi"),
        ("Conv_0.kernel", (3, 3, 8, 16), "iiio"),
        ("conv1.weight", (16, 8, 3), "oii"),
        ("layer.bias", (8,), ""),
    ],
)
def test_the_name_of_a_leaf_says_where_its_outputs_are(name, shape, letters):
    assert seen(samestep.AdamP(), name, shape) == letters


KERNELS = [
    ("", "Conv_0.kernel", (3, 3, 4, 6)),
    ("", "net/conv2_d_1.kernel", (3, 5, 4, 6)),
    ("torch", "layer1.0.conv1.weight", (8, 8, 3, 3)),
    ("torch", "features.0.weight", (6, 1, 5, 5)),
    ("torch", "downsample.0.weight", (8, 4, 1, 1)),
    ("torch", "patch_embed.proj.weight", (32, 3, 16, 16)),
    ("torch", "network.0.weight", (32, 4, 8, 8)),
    ("torch", "stem.0.weight", (16, 8, 7, 7)),
    ("", "Conv_0.kernel", (1, 1, 4, 6)),
    ("", "conv2d.weight", (4, 4, 1, 7)),
    ("torch", "branch.1.conv.weight", (4, 4, 1, 7)),
    ("torch", "strip.conv.weight", (8, 1, 21, 1)),
    ("torch", "mixer.conv1d.weight", (8, 1, 4)),
    ("torch", "net.conv3d.weight", (4, 3, 2, 3, 3)),
    ("mlx", "layers.0.weight", (8, 3, 3, 1)),
]
"""Library, name and shape of what is one convolution."""
STACKS = [
    ("", "convnext.fc.kernel", (3, 8, 6)),
    ("", "conversation.kernel", (3, 8, 6)),
    ("", "Conv_0.kernel", (12, 3, 4, 6)),
    ("", "Conv_0.kernel", (3, 3, 3, 4, 6)),
    ("", "Conv_0.kernel", (6, 1, 8, 8)),  # nn.scan over nn.Conv(8, (1,))
    ("", "Conv_0.kernel", (1, 6, 8, 8)),
    ("", "conv.weight", (6, 16, 8, 1)),  # jax.vmap of eqx.nn.Conv1d(8, 16, 1)
    ("", "dwconv.weight", (6, 16, 1, 3)),
    ("torch", "conv.weight", (6, 16, 8, 1)),
    ("torch", "conv_embed.w", (3, 8, 6)),
    ("torch", "x.convert.w", (3, 8, 6)),
    ("torch", "experts.w", (2, 3, 8, 6)),
    ("torch", "experts.w", (4, 2, 8, 8)),
    ("torch", "experts.w", (12, 8, 8, 8)),
    ("torch", "conv1.weight", (5, 32, 16, 3)),
    ("torch", "conv1d.weight", (5, 8, 3, 3)),
    ("torch", "features.0.weight", (5, 8, 3, 3, 3)),
    ("mlx", "experts.w", (2, 3, 8, 6)),
]
"""What may be a stack: of matrices, or of kernels as ``nn.scan`` and ``vmap`` make them."""


@pytest.mark.parametrize(("library", "name", "shape"), KERNELS)
def test_a_convolution_is_known_by_its_layer_s_name_and_shape(library, name, shape):
    assert "b" not in roles(rule_of(Muon(), name, numpy.zeros(shape), library), len(shape))


@pytest.mark.parametrize(("library", "name", "shape"), STACKS)
def test_what_may_be_a_stack_is_asked_about(library, name, shape):
    with pytest.raises(ValueError, match="must know whether that is a stack of matrices"):
        rule_of(Muon(), name, numpy.zeros(shape), library)


@pytest.mark.parametrize("library", ["torch", "mlx.core"])
def test_torch_and_mlx_keep_outputs_first_whatever_the_name(library):
    xp = pytest.importorskip(library)
    for name, shape in {"kernel": (4, 3), "0": (4, 3), "w": (4, 2, 2, 2)}.items():
        assert roles(rule_of(Muon(), name, xp.zeros(shape)), len(shape))[0] == "o"
    with pytest.raises(ValueError, match="must know whether that is a stack of matrices"):
        rule_of(Muon(), "experts", xp.zeros((4, 3, 2)))


def test_groups_and_arguments_go_before_what_is_known():
    groups = [
        (Where(path="*.kernel"), {"lr": 0.5}),
        (Where(path="layers.*"), {"batch_axes": 0}),
        (Where(path="layers.odd.*"), {"layout": "oi", "lr": 0.1}),
    ]
    rule = Muon(lr=0.02, groups=groups)
    assert seen(rule, "layers.a.kernel", (3, 8, 6)) == "bio"
    assert seen(rule, "layers.odd.kernel", (3, 8, 6)) == "boi"
    assert rule_of(rule, "layers.odd.kernel", numpy.zeros((3, 8, 6))).lr == 0.5
    assert rule_of(rule, "layers.a.weight", numpy.zeros((3, 8, 6))).lr == 0.02
    assert seen(Muon(layout="oi"), "a.kernel", (8, 6)) == "oi"
    assert seen(Muon(batch_axes=1), "a.kernel", (8, 4, 6)) == "ibo"
    assert seen(Lookahead(Muon(layout="io")), "w", (8, 6)) == "io"
    assert seen(AdaptiveClip(Muon(), layout="io"), "w", (8, 6)) == "io"
    assert seen(LAMB(batch_axes=(0,)), "w", (3, 8, 6)) == "b.."
    assert seen(Adafactor(), "w", (8, 6)) == ""
    assert seen(Muon(layout="xoi"), "conv.kernel", (3, 3, 4, 5)) == "iioi"
    assert seen(Muon(layout="ioo", batch_axes=0), "q.kernel", (7, 8, 2, 3)) == "bioo"
    assert seen(route((Where(ndim=2), Muon()), AdamW()), "a.kernel", (8, 6)) == "io"


def test_the_rule_of_a_parameter_may_get_other_numbers_whatever_groups_there_are():
    groups = [(Where(min_ndim=3), {"layout": "io", "batch_axes": 0})]
    rule = AdaptiveClip(Muon(lr=0.1), groups=groups)
    changed = rule_of(rule, "weight", W).replace(lr=0.3)
    assert (changed.hypers["lr"], roles(changed, 2)) == (0.3, "oi")
    params = {"weight": W, "v": {"weight": W[None]}}
    params, state = rule.update(params, params, rule.init(params))
    samestep.restore(rule, samestep.checkpoint(rule, params, state), params)


def test_element_rules_are_not_asked_and_take_no_such_argument():
    for rule in (AdamW(), Adafactor(like="optax"), samestep.SM3(), LAMB(), samestep.Prodigy()):
        rule.init({"w": numpy.ones((3, 8, 6))})
    with pytest.raises(TypeError, match="there is no batch_axes"):
        AdamW(batch_axes=0)


@pytest.mark.parametrize("rule", [Muon(), Lookahead(Muon()), AdaptiveClip(AdamW())])
def test_what_is_not_known_is_asked_in_words(rule):
    who = "AdaptiveClip" if rule.name == "AdaptiveClip" else "Muon"
    with pytest.raises(ValueError) as caught:
        rule.init({"block": {"w": W}})
    assert str(caught.value) == (
        f"{who}: parameter 'block.w' has shape (8, 32); {who} must know which axis has its "
        "outputs, and the name does not say it. Say groups=[(Where(path='block.w'), {'layout': "
        "'oi'})] if they come first (torch, MLX, Equinox), and layout 'io' if they come last "
        f"(Flax); or give {who}(layout=...) for all parameters"
    )
    with pytest.raises(ValueError) as caught:
        rule.init({"layers": {"kernel": numpy.ones((3, 8, 6))}})
    assert str(caught.value) == (
        f"{who}: parameter 'layers.kernel' has shape (3, 8, 6); {who} must know whether that is a "
        "stack of matrices. Say groups=[(Where(path='layers.kernel'), {'batch_axes': 0})] if "
        "layers or experts are stacked along axis 0, and batch_axes () if it is one parameter, "
        "such as a convolution kernel, or layout 'ioo' if it has several axes of outputs; or give "
        f"{who}(batch_axes=...) for all parameters"
    )


def test_batch_axes_that_a_parameter_lacks_are_refused():
    with pytest.raises(ValueError, match=r"'w' has shape \(3, 4\); batch_axes=\(2,\) must be axes"):
        LAMB(batch_axes=2).init({"w": numpy.ones((3, 4))})
    for wrong in (-1, 1.0, "0", (0, -1), True):
        with pytest.raises(ValueError, match="batch_axes must be an axis, a tuple of axes"):
            LAMB(batch_axes=wrong)
    with pytest.raises(ValueError, match=r"\(3, 8\) and 1 batch axes; Muon takes arrays with at"):
        Muon(batch_axes=0).init({"kernel": numpy.ones((3, 8))})
    with pytest.raises(ValueError, match=r"^Lookahead: .*'b' has shape \(3,\); Muon takes arrays"):
        samestep.Lookahead(Muon()).init({"b": numpy.ones(3)})


def test_a_parameter_is_kept_in_one_way():
    with pytest.raises(ValueError, match="layout is 'io' here and 'oi' inside; a parameter"):
        AdaptiveClip(Muon(layout="oi"), layout="io")


def test_a_rule_declares_no_layout_of_its_own():
    with pytest.raises(TypeError, match="declares 'layout', which every rule that needs axes has"):

        class Mine(samestep.Rule, register=False):
            needs = "axes"
            lr = samestep.vocabulary.hyper(0.1, "step size", unit="parameter", ge=0)
            layout = samestep.vocabulary.option("oi", "layout", choices=("oi", "io"))


def test_the_options_of_before_are_named_as_they_are_now():
    with pytest.raises(TypeError, match=r"there is no clip_layout; .* Did you mean layout"):
        AdaptiveClip(AdamW(), clip_layout="io")
    old = {"name": "AdaptiveClip", "version": 1, "values": {"clip_layout": "io"}}
    inside = {"name": "SGD", "version": 1, "values": {"lr": 0.1}}
    assert samestep.checkpoints.description.made({**old, "rule": inside}).layout == "io"


def test_a_parameter_that_is_kept_as_it_is_seen_costs_nothing():
    rule = rule_of(Muon(), "a.weight", W)
    assert kept_by(rule, 2) == samestep.kept.PLAIN
    assert samestep.shaping.seen(samestep.step.advance, samestep.kept.PLAIN) is (
        samestep.step.advance
    )


def test_state_is_made_from_shapes_whatever_the_layout():
    jax = pytest.importorskip("jax")
    shapes = jax.eval_shape(lambda: {"kernel": jax.numpy.ones((8, 6))})
    assert samestep.jax.Muon().init(shapes).slots["m"]["kernel"].shape == (8, 6)


def layers_under(vmap):
    """Two layers of LAMB under a framework's ``vmap``."""
    rule = LAMB(batch_axes=0)
    state, grad = rule.init(W), numpy.ones(W.shape)
    entry = samestep.step.entry(rule, numpy, "w", 0, grad, W, state.slots)
    return next(iter(samestep.step.run(numpy, [entry], {}, vmap=vmap)[0]))[0]


def test_a_rule_that_cannot_be_mapped_goes_layer_by_layer():
    torch = pytest.importorskip("torch")

    def vmap(function):
        return lambda *arrays: torch.vmap(lambda x: x if x > 0 else -x)(torch.ones(2))

    numpy.testing.assert_array_equal(layers_under(vmap), layers_under(None))


def test_another_error_under_vmap_is_raised():
    def vmap(function):
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        layers_under(vmap)


KERNEL = numpy.random.default_rng(1).normal(size=(6, 5, 3, 3))
LAYOUTS = {
    "torch": ("weight", (0, 1, 2, 3)),
    "jax.numpy": ("kernel", (2, 3, 1, 0)),
    "mlx.core": ("weight", (0, 2, 3, 1)),
}
"""Name and axes of a convolution's kernel in each library: OIHW, HWIO, OHWI."""


def stepped(library, rule):
    """A kernel after three steps in a library, as OIHW."""
    xp, (name, order) = pytest.importorskip(library), LAYOUTS[library]

    def given(array):
        turned = numpy.ascontiguousarray(array.transpose(order), "float32")
        return {f"conv.{name}": (xp.array if library == "mlx.core" else xp.asarray)(turned)}

    params = given(KERNEL)
    state = rule.init(params)
    for step in range(3):
        params, state = rule.update(given(numpy.cos((step + 2) * KERNEL)), params, state)
    (found,) = params.values()
    return numpy.asarray(found).transpose(numpy.argsort(order))


@pytest.mark.parametrize(
    "rule",
    [Adafactor(), Adafactor(axes="largest"), Lookahead(Adafactor()), AdaptiveClip(Adafactor())],
    ids=repr,
)
def test_a_convolution_takes_one_step_in_every_layout(rule):
    """Its inputs and outputs are factored, as optax does in HWIO."""
    expected = stepped("torch", rule)
    for library in ("jax.numpy", "mlx.core"):
        numpy.testing.assert_allclose(stepped(library, rule), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(("like", "ratio"), [("keller-jordan", 3 / 3), ("mlx", 3 / 5)])
def test_a_dialect_scales_a_kernel_by_the_axes_of_its_library_in_every_layout(like, ratio):
    """By height and width of OIHW, and by width and inputs of OHWI."""
    rules = [Muon(like=like, scale=scale, ns_dtype="float32") for scale in ("none", "unit_rms")]
    for library in LAYOUTS:
        plain, scaled = (
            stepped(library, rule.replace(weight_decay=0.0)) - KERNEL for rule in rules
        )
        numpy.testing.assert_allclose(scaled, ratio**0.5 * plain, rtol=1e-3, atol=1e-6)


def test_a_first_value_is_computed_of_a_parameter_as_its_rule_sees_it():
    class Mine(samestep.Rule, register=False):
        needs = "axes"
        lr = samestep.hyper(0.1, "step size", unit="1", ge=0)
        size = samestep.slot(
            "sum of an output",
            init=lambda xp, param: (
                0.0 * param + xp.sum(param, axis=tuple(range(1, param.ndim)), keepdims=True)
            ),
            fixed=True,
        )

        def direction(self, xp, grad, param, state, s):
            return state.size * grad, {}

    expected = stepped("torch", Mine())
    for library in ("jax.numpy", "mlx.core"):
        numpy.testing.assert_allclose(stepped(library, Mine()), expected, rtol=1e-4, atol=1e-5)
    heads = samestep.AdamMini(per="head", heads=2).init({"q": {"kernel": numpy.ones((3, 4))}})
    assert heads.slots["v"]["q"]["kernel"].shape == (1, 4)


def test_a_kernel_is_factored_like_a_library_whose_dialect_is_asked_for():
    torch = pytest.importorskip("torch")
    mine, theirs = (torch.nn.Parameter(torch.tensor(KERNEL)) for _ in range(2))
    ours = samestep.torch.Adafactor([("w", mine)], lr=1e-2, like="torch", eps=(1e-8, 1e-3))
    native = torch.optim.Adafactor([theirs], lr=1e-2, eps=(1e-8, 1e-3))
    for step in range(3):
        mine.grad = theirs.grad = torch.cos((step + 2) * torch.tensor(KERNEL))
        ours.step(), native.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_the_order_of_inputs_and_outputs_is_asked_where_a_rule_factors_them():
    with pytest.raises(ValueError, match="Adafactor must know whether that is a stack"):
        Adafactor().init({"w": numpy.ones((3, 8, 6))})
    with pytest.raises(ValueError, match="Adafactor must know which axis has its outputs"):
        Adafactor(batch_axes=()).init({"w": numpy.ones((3, 8, 6))})
    Adafactor().init({"kernel": numpy.ones((3, 8, 6))})  # the last two axes, in a stack too


ONE = Muon(), samestep.AdamP(), AdaptiveClip(AdamW())
ONE += AdaptiveClip(Adafactor()), samestep.Centralize(samestep.SM3())


@pytest.mark.parametrize("rule", ONE, ids=repr)
def test_several_axes_of_outputs_are_one(rule):
    """Those of a DenseGeneral of Flax, in another framework a matrix (outputs, inputs)."""
    kernel, grad = KERNEL[0], numpy.cos(3 * KERNEL[0])
    several = samestep.kept.saying(rule, {"layout": "ioo", "batch_axes": ()})
    matrix = samestep.kept.saying(rule, {"layout": "oi", "batch_axes": ()})
    state, found = several.init(kernel), kernel
    turned, expected = (numpy.asarray(a.reshape(5, 9).T, order="C") for a in (grad, kernel))
    other = matrix.init(expected)
    for _ in range(2):
        found, state = several.update(grad, found, state)
        expected, other = matrix.update(turned, expected, other)
    numpy.testing.assert_array_equal(found.reshape(5, 9).T, expected)
    kept = [part.ndim for slot in state.slots.values() for part in parts(slot)]
    assert kept == [kernel.ndim] * len(kept)


def test_a_transposed_convolution_is_asked_about():
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict({"deconv": torch.nn.ConvTranspose2d(4, 6, 3, bias=False)})
    with pytest.raises(ValueError, match=r"'layout': 'iox'\}\)\] for torch.nn.ConvTranspose"):
        samestep.torch.Muon(model.named_parameters()).init_state()
    groups = [(Where(path="deconv.*"), {"layout": "iox"})]
    rule = Muon(groups=groups)
    assert seen(rule, "deconv.weight", (4, 6, 3, 3)) == "ioii"
    with pytest.raises(ValueError, match=r"layout='ioo' must have 2 letters, one for each axis"):
        Muon(layout="ioo").init({"kernel": W})


def test_a_rule_that_has_the_layout_of_a_parameter_is_shown_as_one_that_can_be_made():
    """A rule inside has the layout that it sees, which would be said twice and be refused."""
    given = samestep.AdaptiveClip(samestep.Adafactor(), layout="oi", batch_axes=())
    own = rule_of(given, "conv.weight", numpy.ones((4, 3, 2, 2)))
    assert own.inside[0].layout == "oixx"
    again = eval(repr(own), vars(samestep))
    assert rule_of(again, "conv.weight", numpy.ones((4, 3, 2, 2))) == own
