"""PyTorch's own optimizer test machinery over every rule, and PyTorch's tools beside torch.optim.

An ``OptimizerInfo`` is derived from each rule's declaration; what test_optim.py checks with it is
checked here. Under schedulers, scalers and the like the expected values are those of the optimizer
of the same name in torch.optim, under the very same tool.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import math
import pickle

import pytest

import samestep
from samestep.arrays import parts
from samestep.conformance.harness import classes
from samestep.conformance.harness.settings import is_own, settings, typical
from samestep.declaration import Hyper

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")
from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402
from torch.optim import lr_scheduler, swa_utils  # noqa: E402  (torch is there)
from torch.optim import optimizer as optim  # noqa: E402
from torch.testing._internal.common_optimizers import (  # noqa: E402
    ErrorOptimizerInput,
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    get_error_inputs_for_all_optims,
)
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from samestep.conformance.harness.torch_training import (  # noqa: E402
    assert_equal,
    everything,
    gradient,
    train,
)

NATIVE = {name.lower(): native for name, native in vars(torch.optim).items()}
PEERS = [
    name
    for name in samestep.rules.__all__
    if isinstance(NATIVE.get(name.lower()), type) and "torch" in getattr(samestep, name).dialects
]
"""Rules that torch.optim has too."""


def outside(field):
    """Values that a field does not take."""
    if not isinstance(field, Hyper):
        return ["nonsense"]
    found = [math.nan]
    found += [bound - 1 for bound in (field.ge,) if bound is not None]
    found += [bound + 1 for bound in (field.le,) if bound is not None]
    found += [bound for bound in (field.gt, field.lt) if bound is not None]
    several = isinstance(field.default, tuple)
    return [(bad, *field.default[1:]) if several else bad for bad in found]


def error_inputs(cls):
    """Every field with a value outside its range."""
    inner = {"rule": samestep.AdamW()} if issubclass(cls, samestep.Wrapper) else {}
    return [
        ErrorOptimizerInput(
            OptimizerInput([torch.ones(2, 2)], {**inner, name: value}, f"{name}={value}"),
            error_type=ValueError,
            error_regex=rf"{cls.__name__}\({name}=.*must be",
        )
        for name, field in cls.fields().items()
        for value in outside(field)
    ]


def info(cls):
    """PyTorch's description of an optimizer, from a rule's declaration."""
    return OptimizerInfo(
        getattr(adapter, cls.__name__),
        optim_inputs_func=lambda device, dtype=None: [
            OptimizerInput(None, classes.arguments(rule), label)
            for label, rule in settings(cls).items()
        ],
        optim_error_inputs_func=lambda device, dtype: error_inputs(cls),
        supported_impls=("differentiable",),
        not_og_supported_flags=("differentiable",),
        has_capturable_arg=True,
        supports_complex=not typical(cls).sees_axes,
    )


def made(rule, params, **options):
    """The native optimizer of a rule."""
    return classes.made(adapter, rule, params, **options)


def parameters(rule, shapes=((3,), (4, 5), (2, 3, 2)), seed=0, dtype=torch.float64):
    noise = torch.Generator().manual_seed(seed)
    shapes = [shape for shape in shapes if len(shape) >= rule.min_ndim]
    made = [torch.randn(shape, generator=noise, dtype=dtype) for shape in shapes]
    return [torch.nn.Parameter(param) for param in made]


def assert_close(params, others, tolerance=1e-12):
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=tolerance, atol=tolerance)


def peers(name, params, others, **hypers):
    """Our optimizer and torch.optim's own of that name."""
    native = NATIVE[name.lower()]
    known = inspect.signature(native).parameters
    hypers = {name: value for name, value in hypers.items() if name in known}
    return getattr(adapter, name)(params, like="torch", **hypers), native(others, **hypers)


@pytest.fixture
def exact():
    """torch.optim counts steps, and keeps its products of betas, in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# What test_optim.py checks.


def test_every_error_input_is_refused(rule_class):
    described = info(rule_class)
    generic = get_error_inputs_for_all_optims("cpu", torch.float32)
    inner = {"rule": samestep.AdamW()} if issubclass(rule_class, samestep.Wrapper) else {}
    seen = 0
    for error in (*generic, *described.optim_error_inputs_func("cpu", torch.float32)):
        given = error.optimizer_error_input
        if given.params is None and inner:
            continue  # a wrapper has no lr of its own
        words = rf"{rule_class.__name__}\(lr=" if given.params is None else error.error_regex
        assert error.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
        warned = issubclass(error.error_type, Warning)  # a parameter twice: refused here
        with pytest.raises(ValueError if warned else error.error_type, match=words):
            described.optim_cls(given.params, **{**inner, **given.kwargs})
        seen += 1
    assert seen >= len(generic) - 1


@pytest.mark.only(where=is_own)
def test_every_input_goes_the_right_direction_under_schedulers(rule_class):
    """With the default lr, which for a rule from outside of the package need not suit this loss."""
    described, rules = info(rule_class), settings(rule_class)
    (scheduled,) = described.scheduler_inputs
    for place, given in enumerate(described.optim_inputs_func("cpu")):
        noise = torch.Generator().manual_seed(0)
        stride = 1 + place % 2  # every other one is not contiguous
        weight = torch.nn.Parameter(torch.randn(10, 5, stride, generator=noise)[..., 0])
        bias = torch.nn.Parameter(torch.randn(10, stride, generator=noise)[..., 0])
        point = torch.randn(5, generator=noise)
        rule = rules[given.desc]
        optimizer = described.optim_cls([weight, bias][: 3 - max(1, rule.min_ndim)], **given.kwargs)
        schedulers = [make(optimizer) for make in scheduled]

        def closure(weight=weight, bias=bias, point=point, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (weight.mv(point) + bias).pow(2).sum()
            loss.backward()
            return loss

        losses = []
        for _ in range(20):
            losses.append(float(optimizer.step(closure).detach()))
            for scheduler in schedulers:
                plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
                scheduler.step(*losses[-1:] if plateau else [])
        assert (losses[-1] > losses[0]) == rule.hypers["maximize"], given.desc


@pytest.mark.only(where=lambda rule: not rule.reduces)
def test_groups_have_their_own_lr_and_weight_decay(rule_class):
    rule = typical(rule_class)
    a, b, c = (parameters(rule, seed=seed) for seed in (1, 2, 3))
    optimizer = made(rule, [
        {"params": a, "lr": 0.01, "weight_decay": 0.5},
        {"params": b},
        {"params": c, "lr": 0.0},
        {"params": []},
    ])  # fmt: skip
    train(optimizer, [*a, *b, *c], range(6))
    alone = [rule.replace(lr=0.01, weight_decay=0.5), rule, rule.replace(lr=0.0)]
    for place, (changed, together) in enumerate(zip(alone, (a, b, c), strict=True)):
        params = parameters(rule, seed=place + 1)
        train(adapter.bind(changed, params), params, range(6), offset=place * len(a))
        assert all(map(torch.equal, together, params))


@pytest.mark.only(where=lambda rule: not isinstance(rule, samestep.Wrapper))
@pytest.mark.parametrize("dimensions", [0, 1, 2])
def test_a_learning_rate_may_be_a_tensor_of_one_element(rule_class, dimensions):
    rule = typical(rule_class)
    numbers, tensors = parameters(rule), parameters(rule)
    lr = torch.full((1,) * dimensions, 0.5, dtype=torch.float64)
    number = made(rule.replace(lr=0.5), numbers)
    tensor = getattr(adapter, rule.name)(tensors, **{**classes.arguments(rule), "lr": lr})
    for step, value in enumerate((0.5, 0.5, 0.25, 0.0)):
        lr.fill_(value)
        number.param_groups[0]["lr"] = value
        train(number, numbers, [step])
        train(tensor, tensors, [step])
        assert all(map(torch.equal, numbers, tensors))


def test_a_step_without_gradients_or_with_zeros_changes_nothing(rule_class):
    rule = typical(rule_class, **({} if issubclass(rule_class, samestep.Wrapper) else PLAIN))
    if isinstance(rule, samestep.Wrapper):
        rule = rule_class(samestep.AdamW(weight_decay=0.0))
    params = parameters(rule)
    kept = [param.detach().clone() for param in params]
    optimizer = made(rule, params)
    optimizer.step()
    assert all(map(torch.equal, params, kept)) and not optimizer.state
    for _ in range(3):
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
    assert all(map(torch.equal, params, kept))
    assert all(len(state) > 0 for state in optimizer.state.values())


PLAIN = {"weight_decay": 0.0}


def test_an_optimizer_can_be_printed(rule_class):
    rule = typical(rule_class)
    params = parameters(rule)
    optimizer = made(rule, params)
    train(optimizer, params, range(2))
    text = repr(optimizer)
    assert text.startswith(f"{rule.name} (") and "Parameter Group 0" in text
    assert all(f"    {name}: " in text for name in rule.hypers)


def test_the_default_dtype_has_no_say(rule_class):
    rule = typical(rule_class)
    results = []
    for dtype in (torch.float32, torch.float64):
        params = parameters(rule, dtype=torch.float32)
        torch.set_default_dtype(dtype)
        try:
            optimizer = made(rule, params)
            train(optimizer, params, range(4))
        finally:
            torch.set_default_dtype(torch.float32)
        results.append(everything(optimizer, params))
    assert_equal(*results)


def test_hooks_are_called_around_a_step_in_torchs_order():
    param, calls = torch.ones(2, requires_grad=True), []
    optimizer = adapter.AdamW([param], lr=0.5, weight_decay=0.0)
    closures = []

    def noted(name, answer=None):
        def hook(given, args, kwargs):
            assert given is optimizer
            calls.append((name, float(param.detach()[0]), args[1:], kwargs))
            return answer

        return hook

    def other():
        closures.append("other")
        return torch.tensor(3.0)

    with contextlib.ExitStack() as stack:
        for handle in (
            optim.register_optimizer_step_pre_hook(noted("all before")),
            optim.register_optimizer_step_post_hook(noted("all after")),
            optimizer.register_step_pre_hook(noted("before", ((optimizer, other), {}))),
            optimizer.register_step_post_hook(noted("after")),
        ):
            stack.callback(handle.remove)
        param.grad = torch.ones(2)
        assert optimizer.step() == 3.0
    before, after = 1.0, 0.5
    assert [(name, round(value, 6)) for name, value, *_ in calls] == [
        ("all before", before),
        ("before", before),
        ("after", after),
        ("all after", after),
    ]
    assert closures == ["other"] and calls[2][2] == (other,)
    optimizer.step()
    assert len(calls) == 4


@pytest.mark.parametrize("dump", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_keep_names_options_and_numbers(rule_class, dump):
    rule = typical(rule_class)
    params = parameters(rule)
    named = [(f"layer.{place}", param) for place, param in enumerate(params)]
    optimizer = made(rule, [{"params": named, "lr": 0.01}], capturable=True)
    train(optimizer, params, range(3))
    copies, copied = dump((params, optimizer))
    assert repr(copied) == repr(optimizer) and copied.capturable
    assert copied.param_groups[0]["param_names"] == [name for name, _ in named]
    copied.add_param_group({"params": [("new", copies[0].detach().clone())]})
    assert copied.param_groups[1].keys() == optimizer.param_groups[0].keys()
    train(optimizer, params, range(3, 6))
    train(copied, copies, range(3, 6))
    expected = everything(optimizer, params)
    assert_equal({k: v for k, v in everything(copied, copies).items() if k in expected}, expected)


def test_names_are_in_the_groups_and_in_messages(rule_class):
    rule = typical(rule_class)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2), torch.nn.Conv2d(2, 1, 2))
    named = [(n, p) for n, p in model.named_parameters() if p.ndim >= rule.min_ndim]
    optimizer = made(rule, iter(named))
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in named]
    last, param = named[-1]
    param.grad = torch.ones_like(param).to_sparse()
    with pytest.raises(TypeError) as refusal:
        optimizer.step()
    assert all(word in str(refusal.value) for word in (rule.name, repr(last), "sparse", "dense"))
    assert not optimizer.state


@pytest.mark.parametrize("moved", [torch.float64, torch.bfloat16, torch.float32])
def test_a_model_may_change_its_dtype_and_state_does_not(rule_class, moved):
    """Parameters stay the same objects; the state is as it was, and steps are the rule's own."""
    rule = typical(rule_class)
    model = torch.nn.Linear(3, 2, bias=rule.min_ndim < 2)
    params = list(model.parameters())
    optimizer = made(rule, params)
    train(optimizer, params, range(2))
    kinds = {key: value.dtype for key, value in everything(optimizer, params).items()}
    values = [param.detach().clone().to(moved) for param in params]
    state = samestep.rule.State(
        2,
        {n: [copied(optimizer.state[param][n]) for param in params] for n in rule.slots()},
        {n: optimizer.param_groups[0][n].clone() for n in rule.shared()},
    )
    model.to(moved)
    for step in range(2, 5):
        train(optimizer, params, [step])
        values, state = rule.update([param.grad for param in params], values, state)
    assert all(map(torch.equal, params, values))
    after = {key: value.dtype for key, value in everything(optimizer, params).items()}
    assert after == {k: moved if k[0] == "param" else kind for k, kind in kinds.items()}


def copied(value):
    return tuple(map(copied, value)) if isinstance(value, tuple) else value.clone()


def test_state_is_made_and_stepped_on_meta(rule_class):
    """Shapes and dtypes are those of a real run, without memory or values."""
    rule = typical(rule_class)
    found = []
    for device in ("cpu", "meta"):
        params = [torch.nn.Parameter(param.to(device)) for param in parameters(rule)]
        optimizer = made(rule, params, execution="reference")
        optimizer.init_state()
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        tensors = everything(optimizer, params)
        assert {v.device.type for k, v in tensors.items() if k[0] != "step"} == {device}
        assert {int(v) for k, v in tensors.items() if k[0] == "step"} == {1}
        found.append({key: (value.shape, value.dtype) for key, value in tensors.items()})
    assert found[0] == found[1]


def test_a_model_built_on_meta_takes_its_state_from_a_file(rule_class):
    rule = typical(rule_class)
    bias = rule.min_ndim < 2
    trained = torch.nn.Linear(3, 2, bias=bias)
    optimizer = made(rule, trained.named_parameters())
    train(optimizer, [*trained.parameters()], range(3))
    with torch.device("meta"):
        model = torch.nn.Linear(3, 2, bias=bias)
    model.to_empty(device="cpu").load_state_dict(trained.state_dict())
    loaded = made(rule, model.named_parameters())
    loaded.load_state_dict(optimizer.state_dict())
    train(optimizer, [*trained.parameters()], range(3, 6))
    train(loaded, [*model.parameters()], range(3, 6))
    assert all(map(torch.equal, trained.parameters(), model.parameters()))


# Complex parameters.


COMPLEX = [(3,), (4, 5), (2, 3, 2), ()]


@pytest.mark.only(where=lambda rule_class: info(rule_class).supports_complex)
@pytest.mark.parametrize("execution", ["reference", "packed"])
def test_complex_parameters_step_as_their_real_and_imaginary_parts(rule_class, execution):
    rule = typical(rule_class)
    params = parameters(rule, COMPLEX, dtype=torch.complex128)
    twins = [torch.view_as_real(param.detach().clone()) for param in params]
    ours, pairs = (made(rule, both, execution=execution) for both in (params, twins))
    for step in range(6):
        for place, (param, twin) in enumerate(zip(params, twins, strict=True)):
            param.grad = gradient(step, place, param)
            twin.grad = torch.view_as_real(param.grad.clone())
        if step == 3:
            params[0].grad = params[0].grad.conj().resolve_conj().conj()  # lazily conjugate
        ours.step()
        pairs.step()
    assert all(param.is_complex() for param in params)
    assert_close([torch.view_as_real(param.detach()) for param in params], twins, 1e-14)
    for param, twin in zip(params, twins, strict=True):
        for name in rule.slots():
            pair = zip(parts(ours.state[param][name]), parts(pairs.state[twin][name]), strict=True)
            for one, other in pair:
                torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [n for n in PEERS if not typical(getattr(samestep, n)).sees_axes])
def test_complex_parameters_step_as_in_torch(name, exact):
    rule = getattr(samestep, name)()
    params = parameters(rule, COMPLEX, dtype=torch.complex128)
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    both = peers(name, params, others, lr=0.01, weight_decay=0.1)
    for optimizer, own in zip(both, (params, others), strict=True):
        train(optimizer, own, range(60))
    assert_close(params, others)


@pytest.mark.only(where=lambda rule_class: not info(rule_class).supports_complex)
def test_complex_parameters_are_refused_where_axes_matter(rule_class):
    rule = typical(rule_class)
    real = torch.ones(3, 2, requires_grad=True)
    other = torch.ones(3, 2, dtype=torch.complex64)
    optimizer = adapter.bind(rule, [("real", real), ("wave", other)])
    train(optimizer, [real], range(2))
    before = everything(optimizer, [real, other])
    real.grad, other.grad = torch.ones(3, 2), torch.ones(3, 2, dtype=torch.complex64)
    for action in (optimizer.step, optimizer.init_state):
        with pytest.raises(TypeError) as refusal:
            action()
        words = (rule.name, "'wave'", "complex64", "axes")
        assert all(word in str(refusal.value) for word in words)
        assert_equal(everything(optimizer, [real, other]), before)


@pytest.mark.parametrize("execution", ["reference", "packed"])
def test_a_conjugate_view_is_refused_as_a_parameter_and_taken_as_a_gradient(execution):
    """What is written into a copy of it would be lost."""
    values = torch.randn(3, dtype=torch.complex64)
    param, other = torch.nn.Parameter(values.clone()), torch.nn.Parameter(values.clone())
    optimizers = [adapter.AdamW([p], lr=0.1, execution=execution) for p in (param, other)]
    param.grad, other.grad = torch.conj(values), torch.conj_physical(values)
    assert param.grad.is_conj()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(param, other) and not torch.equal(param.detach(), values)
    before = everything(optimizers[0], [param])
    bad = torch.nn.Parameter(values.conj())
    bad.grad = torch.ones_like(bad)
    optimizers[0].add_param_group({"params": bad})
    with pytest.raises(ValueError, match="AdamW: parameter '1' is a view that conjugates"):
        optimizers[0].step()
    assert_equal(everything(optimizers[0], [param]), before)


# Gradients through steps.


def stepped(rule, param, grads, lr=None, **state):
    """What a parameter and its state have become after a step with each of the gradients."""
    param = param.clone()
    own = rule if lr is None else rule.replace(lr=lr)
    optimizer = adapter.bind(own, [param], differentiable=True)
    for grad in grads:
        param.grad = grad
        optimizer.step()
    slots = [part for name in rule.slots() for part in parts(optimizer.state[param][name])]
    return param, *(part for part in slots if part.requires_grad)


def smooth(seed, *shape):
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=noise, dtype=torch.float64)


def test_gradients_flow_through_steps_to_parameters_gradients_and_state(rule_class):
    """Against finite differences; where a step has a sign in it, both are zero."""
    rule = typical(rule_class, **({"sync_period": 2} if hasattr(rule_class, "sync_period") else {}))
    shape = (2,) * max(2, rule.min_ndim)
    inputs = [smooth(seed, *shape).requires_grad_() for seed in range(4)]

    def outputs(param, *grads):
        return stepped(rule, param, grads)

    assert len(outputs(*inputs)) > 1 or not rule.slots()
    assert torch.autograd.gradcheck(outputs, inputs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Lion", "LAMB", "Adafactor", "Muon", "Prodigy"])
def test_gradients_flow_through_steps_to_a_learning_rate(name):
    rule = typical(getattr(samestep, name), lr=0.1)
    param, *grads = (smooth(seed, 2, 3) for seed in range(4))

    def outputs(lr):
        return stepped(rule, param, grads, lr)[0]

    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, [lr], atol=1e-6, rtol=1e-4)
    assert torch.autograd.grad(outputs(lr).sum(), lr)[0] != 0


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_gradients_through_steps_are_those_of_torch(name, exact):
    """The derivative of a loss after five steps by everything that went into them."""
    found = []
    for make in (adapter, torch.optim):
        lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        start, point = smooth(0, 3, 2).requires_grad_(), smooth(1, 2)
        options = {"like": "torch"} if make is adapter else {}
        param = start.clone()
        optimizer = getattr(make, name)([param], lr=lr, differentiable=True, **options)
        for _ in range(5):
            loss = (param @ point).pow(2).sum().exp() / 100
            (param.grad,) = torch.autograd.grad(loss, param, create_graph=True)
            optimizer.step()
        found.append(torch.autograd.grad((param @ point).pow(2).sum(), [start, lr]))
    assert_close(*found, tolerance=1e-10)


def test_a_step_to_differentiate_through_has_the_same_numbers(rule_class):
    rule = typical(rule_class)
    params = parameters(rule)
    plain = made(rule, params, execution="reference")
    copies = [param.detach().clone().requires_grad_().clone() for param in params]
    traced = made(rule, copies, differentiable=True)
    train(plain, params, range(5))
    train(traced, copies, range(5))
    assert all(map(torch.equal, params, copies)) and all(param.requires_grad for param in copies)


def test_a_leaf_cannot_be_differentiated_through():
    leaf = torch.ones(2, requires_grad=True)
    other = leaf.clone()
    optimizer = adapter.bind(samestep.AdamW(), [("w", other), ("v", leaf)], differentiable=True)
    other.grad, leaf.grad = torch.ones(2), torch.ones(2)
    with pytest.raises(ValueError, match=r"AdamW: parameter 'v' is a leaf .* param.clone\(\)"):
        optimizer.step()
    assert torch.equal(other, torch.ones(2)) and not optimizer.state


@pytest.mark.parametrize("execution", ["packed", "compiled"])
def test_only_the_reference_is_differentiated_through(execution):
    with pytest.raises(ValueError, match=rf"AdamW\(.*{execution}.*'auto' or 'reference'"):
        adapter.AdamW([torch.ones(2)], differentiable=True, execution=execution)


def test_a_tensor_that_is_no_leaf_is_refused_without_differentiable():
    with pytest.raises(ValueError, match="non-leaf"):
        adapter.AdamW([torch.ones(2, requires_grad=True).clone()])


# The tools.


class Model(torch.nn.Module):
    """Two layers, from a seed."""

    def __init__(self, seed=0, dtype=torch.float64):
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        self.inner = torch.nn.Linear(4, 8, dtype=dtype)
        self.outer = torch.nn.Linear(8, 2, dtype=dtype)
        for param in self.parameters():
            param.data = torch.randn(param.shape, generator=noise, dtype=dtype) / 2

    def forward(self, points):
        return self.outer(torch.tanh(self.inner(points)))

    def loss(self, step):
        """Of a batch; its scale changes over decades."""
        points = smooth(step, 16, 4).to(self.inner.weight.dtype)
        wanted = points[:, :2] * points[:, 2:] * 10.0 ** (step % 3 - 1)
        return (self(points) - wanted).pow(2).mean()


SUPPORTED = "_step_supports_amp_scaling"


def models(count=2, **options):
    return [Model(**options) for _ in range(count)]


HALVES = {"base_lr": 0.01, "max_lr": 0.1}
SCHEDULERS = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 5), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 10),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 12, 1e-4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, **HALVES, step_size_up=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=12),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 9], 0.3),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40, three_phase=True),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 25, 2.0),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.StepLR(o, 4, 0.5)], [5]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 4, 0.3),
    "SWALR": lambda o: swa_utils.SWALR(o, 1e-3, anneal_epochs=7),
}
CYCLES = ("CyclicLR", "OneCycleLR")
"""Schedulers of momentum or betas too."""


def test_there_is_a_test_of_every_scheduler():
    classes = [*vars(lr_scheduler).values(), *vars(swa_utils).values()]
    there = {
        one.__name__
        for one in classes
        if isinstance(one, type) and issubclass(one, lr_scheduler.LRScheduler)
    }
    assert {name for name in there if not name.startswith("_")} - {"LRScheduler"} == {*SCHEDULERS}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("name, hypers", [("AdamW", {}), ("SGD", {"momentum": 0.9})])
def test_a_scheduler_does_with_ours_what_it_does_with_torchs(name, hypers, kind):
    ours, theirs = models()
    optimizers = peers(
        name,
        [{"params": ours.inner.parameters()}, {"params": ours.outer.parameters(), "lr": 0.02}],
        [{"params": theirs.inner.parameters()}, {"params": theirs.outer.parameters(), "lr": 0.02}],
        lr=0.05,
        weight_decay=0.1,
        **hypers,
    )
    schedulers = [SCHEDULERS[kind](optimizer) for optimizer in optimizers]
    seen = {"lr": set(), "cycled": set()}
    for step in range(40):
        for model, optimizer, scheduler in zip((ours, theirs), optimizers, schedulers, strict=True):
            optimizer.zero_grad()
            loss = model.loss(step)
            loss.backward()
            optimizer.step()
            if step == 20:  # as after an interruption
                scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
            if step < 39:
                scheduler.step(*([loss.item()] if plateau else []))
        groups = [optimizer.param_groups for optimizer in optimizers]
        for one, other in zip(*groups, strict=True):
            assert one["lr"] == other["lr"] and one.get("betas") == other.get("betas")
            assert one.get("momentum") == other.get("momentum")
            seen["lr"].add(one["lr"])
            seen["cycled"].add((one.get("betas"), one.get("momentum")))
    assert_close(ours.parameters(), theirs.parameters(), 1e-10)
    assert len(seen["lr"]) > 2 and (len(seen["cycled"]) > 1) == (kind in CYCLES)


@pytest.mark.parametrize("kind", sorted({*SCHEDULERS} - {*CYCLES, "ReduceLROnPlateau"}))
@pytest.mark.parametrize("schedule", [samestep.schedules.CosineDecay(0.1, 9), lambda step: 0.1])
def test_a_scheduler_of_a_schedule_is_refused(kind, schedule):
    """Those that bring rates of their own take its place, as they do with a number."""
    model = Model()
    optimizer = adapter.AdamW(
        [{"params": model.inner.parameters(), "lr": 0.1}, {"params": model.outer.parameters()}],
        lr=schedule,
    )
    before = str(optimizer.param_groups)
    with pytest.raises(TypeError) as refusal:
        SCHEDULERS[kind](optimizer)
    words = f"AdamW: lr of group 1 is {schedule!r}, a schedule of its own; a torch.optim.lr_sched"
    assert str(refusal.value).startswith(words) and "a number" in str(refusal.value)
    if kind != "SWALR":  # adds its own to the groups first
        assert str(optimizer.param_groups) == before
    assert "step" not in vars(optimizer)


@pytest.mark.parametrize("name", PEERS)
def test_a_cycle_does_with_ours_what_it_does_with_torchs(name, exact):
    """Learning rate, and momentum or the first beta where there is one."""
    ours, theirs = models()
    weights = [[p for p in model.parameters() if p.ndim > 1] for model in (ours, theirs)]
    optimizers = peers(name, *weights, lr=0.01)
    cycled = {"betas", "momentum"} & {*optimizers[1].defaults}
    schedulers = [
        lr_scheduler.OneCycleLR(o, 0.05, total_steps=31, cycle_momentum=bool(cycled))
        for o in optimizers
    ]
    for step in range(30):
        for model, optimizer, scheduler in zip((ours, theirs), optimizers, schedulers, strict=True):
            optimizer.zero_grad()
            model.loss(step).backward()
            optimizer.step()
            scheduler.step()
    assert_close(*weights, 1e-11)


@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_a_grad_scaler_scales_and_skips_as_with_torchs(name, clips):
    pair = models(dtype=torch.float32)
    optimizers = peers(name, *(model.parameters() for model in pair), lr=0.01, weight_decay=0.1)
    scalers = [torch.amp.GradScaler("cpu", 2.0**8, growth_interval=3) for _ in optimizers]
    taken = {id(optimizer): 0 for optimizer in optimizers}
    for optimizer in optimizers:
        optimizer.register_step_post_hook(
            lambda own, args, kwargs: taken.update({id(own): taken[id(own)] + 1})
        )
    for step in range(24):
        for model, optimizer, scaler in zip(pair, optimizers, scalers, strict=True):
            optimizer.zero_grad()
            scaler.scale(model.loss(step)).backward()
            if step in (5, 6, 17):
                model.inner.weight.grad[0, 0] = math.inf if step != 6 else math.nan
            before = everything(optimizer, [*model.parameters()])
            if clips:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
            if step in (5, 6, 17):
                assert_equal(everything(optimizer, [*model.parameters()]), before)
        assert scalers[0].get_scale() == scalers[1].get_scale()
    assert {*taken.values()} == {21}
    assert {int(state["step"]) for state in optimizers[0].state.values()} == {21}
    assert scalers[0].get_scale() > 2.0**8
    for one, other in zip(*(model.parameters() for model in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6)


class NothingRead(TorchDispatchMode):
    """No value of a tensor may be asked for: on a GPU that is to wait for it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def scaled(rule, fast, unscales, execution="reference"):
    """Everything after steps under a scaler, of which four overflow, and what tells the skips."""
    torch.manual_seed(0)
    params = [torch.randn(shape, requires_grad=True) for shape in [(4, 5), (6, 3), (4, 5)]]
    optimizer = adapter.bind(rule, params, capturable=True, execution=execution)
    assert optimizer._step_supports_amp_scaling
    if not fast:
        optimizer.__class__ = type("Slow", (adapter.RuleOptimizer,), {SUPPORTED: False})
    scaler = torch.amp.GradScaler("cpu", 3.0, growth_factor=1.7, growth_interval=3)
    noise, seen = torch.Generator().manual_seed(1), []
    for step in range(12):
        for param in params:
            grad = torch.randn(param.shape, generator=noise) * 10.0 ** (step % 3 - 1)
            param.grad = scaler.scale(grad)
        if step in (0, 5, 6, 9):
            params[1].grad[0, 0] = math.nan if step == 6 else math.inf
        if unscales:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(params, 0.5, foreach=False)
        before = everything(optimizer, params)
        with NothingRead() if fast and step > 1 else contextlib.nullcontext():
            scaler.step(optimizer)
        if step in (5, 6, 9):
            assert_equal(everything(optimizer, params), before)
        seen += [param.grad.clone() for param in params]
        scaler.update()
        assert not hasattr(optimizer, "found_inf") and not hasattr(optimizer, "grad_scale")
    assert {int(optimizer.state[param]["step"]) for param in params} == {8}
    found = everything(optimizer, params)
    return found | {("grad", i): grad.nan_to_num() for i, grad in enumerate(seen)}


@pytest.mark.parametrize("unscales", [False, True])
def test_a_grad_scaler_on_its_fast_path_has_the_numbers_of_the_slow_one(rule_class, unscales):
    """Where steps are counted on the device; nothing is read from it then, and skips are exact."""
    rule = typical(rule_class)
    assert_equal(scaled(rule, True, unscales), scaled(rule, False, unscales))


@pytest.mark.parametrize("name", ["AdamW", "Adafactor", "Muon", "Prodigy", "Lookahead"])
@pytest.mark.parametrize("execution", ["packed", "compiled"])
def test_a_grad_scaler_takes_its_fast_path_in_every_execution(name, execution):
    rule = typical(getattr(samestep, name))
    fast, slow = (scaled(rule, fast, False, execution) for fast in (True, False))
    assert fast.keys() == slow.keys()
    for key, value in slow.items():
        torch.testing.assert_close(fast[key], value, rtol=2e-6, atol=2e-6)


def test_a_grad_scaler_takes_its_slow_path_where_steps_are_counted_on_the_host():
    """It has to be known there whether this is one; a subclass of tensor is not chosen between."""
    params = [torch.ones(3, requires_grad=True)]
    assert adapter.AdamW(params, capturable=True)._step_supports_amp_scaling
    assert not adapter.AdamW(params)._step_supports_amp_scaling
    copies = [torch.ones(3, requires_grad=True).clone()]
    both = adapter.AdamW(copies, capturable=True, differentiable=True)
    assert not both._step_supports_amp_scaling


def test_a_grad_scaler_that_is_off_is_not_there():
    model, alone = models()
    optimizer, other = (adapter.AdamW(own.parameters()) for own in (model, alone))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for step in range(3):
        scaler.scale(model.loss(step)).backward()
        alone.loss(step).backward()
        scaler.step(optimizer)
        scaler.update()
        other.step()
    assert all(map(torch.equal, model.parameters(), alone.parameters()))


@pytest.mark.parametrize("average", [None, swa_utils.get_ema_multi_avg_fn(0.9)])
def test_averaged_models_are_those_of_torch(average):
    pair = models()
    optimizers = peers("AdamW", *(model.parameters() for model in pair), lr=0.05)
    averages = [swa_utils.AveragedModel(model, multi_avg_fn=average) for model in pair]
    swaps = [swa_utils.SWALR(optimizer, 0.01, 5) for optimizer in optimizers]
    for step in range(30):
        for model, optimizer, averaged, swap in zip(pair, optimizers, averages, swaps, strict=True):
            optimizer.zero_grad()
            model.loss(step).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step > 10:
                averaged.update_parameters(model)
                swap.step()
    assert_close(averages[0].parameters(), averages[1].parameters())
    assert not torch.equal(averages[0].module.inner.weight, pair[0].inner.weight)


@pytest.mark.only(where=lambda rule: not rule.reduces)
def test_gradients_may_be_released_in_the_backward_pass(rule_class):
    """An optimizer for each parameter, stepped as soon as its gradient is there."""
    rule = typical(rule_class)
    together, released = models()
    pair = [
        [p for p in model.parameters() if p.ndim >= rule.min_ndim] for model in (together, released)
    ]
    optimizer = made(rule, pair[0])
    own = {param: made(rule, [param]) for param in pair[1]}

    def release(param):
        own[param].step()
        own[param].zero_grad()

    for param in pair[1]:
        param.register_post_accumulate_grad_hook(release)
    for step in range(6):
        together.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
        released.loss(step).backward()
        assert all(param.grad is None for param in pair[1])
    assert_close(*pair, 1e-14)


def test_a_functional_training_loop_has_the_numbers_of_the_class(rule_class):
    rule = typical(rule_class)
    model, trained = models()
    optimizer = made(
        rule, ((n, p) for n, p in trained.named_parameters() if p.ndim >= rule.min_ndim)
    )
    fixed = {n: p.detach() for n, p in model.named_parameters() if p.ndim < rule.min_ndim}
    params = {n: p.detach() for n, p in model.named_parameters() if n not in fixed}
    state = rule.init(params)

    def loss(params, step):
        points = smooth(step, 16, 4)
        wanted = points[:, :2] * points[:, 2:] * 10.0 ** (step % 3 - 1)
        found = torch.func.functional_call(model, {**params, **fixed}, (points,))
        return (found - wanted).pow(2).mean()

    for step in range(6):
        params, state = rule.update(torch.func.grad(loss)(params, step), params, state)
        optimizer.zero_grad()
        trained.loss(step).backward()
        optimizer.step()
    named = dict(trained.named_parameters())
    assert_close(params.values(), [named[name] for name in params], 1e-10)


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "Muon", "Prodigy"])
def test_an_ensemble_is_stepped_under_vmap(name):
    rule = typical(getattr(samestep, name))
    grads, stacked = smooth(1, 3, 4, 2), smooth(0, 3, 4, 2)

    def two_steps(param, grad):
        params, state = {"w": param}, rule.init({"w": param})
        for factor in (1.0, -0.1):
            params, state = rule.update({"w": factor * grad}, params, state)
        return params["w"]

    together = torch.func.vmap(two_steps)(stacked, grads)
    for one, param, grad in zip(together, stacked, grads, strict=True):
        torch.testing.assert_close(one, two_steps(param, grad), rtol=1e-12, atol=1e-12)


# torch.compile.

compiling = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""Dynamo itself looks at it."""


@pytest.fixture
def dynamo():
    """Counts of the graphs and breaks of torch.compile, from a fresh start."""
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def training_step(model, optimizer):
    def train(points):
        optimizer.zero_grad()
        loss = (model(points) - points[:, :2].sign()).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    return train


KINDS = ["AdamW", "Lion", "LAMB", "Adafactor", "Prodigy", "Lookahead"]
"""A rule of each kind that takes parameters of any shape."""


@compiling
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", KINDS)
def test_a_compiled_training_step_has_the_numbers_of_the_plain_one(name, compiler, dynamo):
    """After two steps nothing is compiled again, also where the learning rate changes."""
    rule = typical(getattr(samestep, name))
    pair = models(dtype=torch.float32)
    optimizers = [made(rule, model.parameters()) for model in pair]
    schedulers = [lr_scheduler.ExponentialLR(optimizer, 0.9) for optimizer in optimizers]
    steps = [training_step(*both) for both in zip(pair, optimizers, strict=True)]
    counting = CompileCounterWithBackend(compiler)
    compiled = torch.compile(steps[1], backend=counting)
    graphs = 0
    for step in range(10):
        points = smooth(step, 16, 4).float() * 10.0 ** (step % 3 - 1)
        again = torch._dynamo.config.patch(error_on_recompile=step >= 2)
        with again:
            losses = steps[0](points), compiled(points)
        torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
        for scheduler in schedulers:
            scheduler.step()
        graphs = counting.frame_count if step < 2 else graphs
        assert counting.frame_count == graphs > 0
    tolerance = 0.0 if compiler == "eager" else 1e-5
    assert_close(*(model.parameters() for model in pair), tolerance)


@compiling
def test_a_graph_breaks_where_it_does_with_torch(dynamo):
    """torch.optim keeps its step out of the graph around it too, and refuses fullgraph."""
    breaks = []
    for make in (adapter.AdamW, torch.optim.AdamW):
        torch._dynamo.reset()
        dynamo.clear()
        model = Model()
        optimizer = make(model.parameters())
        torch.compile(training_step(model, optimizer), backend="eager")(smooth(0, 16, 4))
        breaks.append(len(dynamo["graph_break"]))
        with pytest.raises(torch._dynamo.exc.Unsupported):
            torch.compile(lambda o=optimizer: o.step(), backend="eager", fullgraph=True)()
    assert breaks[0] == breaks[1]


@compiling
def test_a_compiled_step_calls_hooks_and_closures(dynamo):
    param, calls = torch.ones(2, requires_grad=True), []
    optimizer = adapter.SGD([param], lr=0.25)
    optimizer.register_step_post_hook(lambda *given: calls.append(param.detach().clone()))

    def closure():
        optimizer.zero_grad()
        loss = (param * param).sum()
        loss.backward()
        return loss

    step = torch.compile(optimizer.step, backend="eager")
    assert [step(closure).item() for _ in range(3)] == [2.0, 0.5, 0.125]
    assert [float(value[0]) for value in calls] == [0.5, 0.25, 0.125]


# Routes.


ROUTED = samestep.route(
    (samestep.Where(min_ndim=2) & ~samestep.Where(path="outer*"), samestep.Muon(lr=0.02)),
    (samestep.Where(max_ndim=1), samestep.SGD(lr=0.05, momentum=0.9)),
    samestep.AdamW(lr=0.01, weight_decay=0.1),
)
RULES = {
    "inner.weight": samestep.Muon(lr=0.02),
    "inner.bias": samestep.SGD(lr=0.05, momentum=0.9),
    "outer.weight": samestep.AdamW(lr=0.01, weight_decay=0.1),
    "outer.bias": samestep.SGD(lr=0.05, momentum=0.9),
}


def test_a_route_is_as_many_groups_with_the_values_of_their_rules():
    model = Model()
    optimizer = adapter.bind(ROUTED, model.named_parameters())
    groups = optimizer.param_groups
    assert [group["param_names"] for group in groups] == [
        ["inner.weight"],
        ["inner.bias", "outer.bias"],
        ["outer.weight"],
    ]
    assert [group["lr"] for group in groups] == [0.02, 0.05, 0.01]
    assert "betas" not in groups[0] and groups[2]["betas"] == (0.9, 0.999)


def test_routed_parameters_step_as_under_their_own_optimizers_with_schedulers():
    model, alone = models()
    optimizer = adapter.bind(ROUTED, model.named_parameters())
    named = dict(alone.named_parameters())
    others = [adapter.bind(rule, [(name, named[name])]) for name, rule in RULES.items()]
    schedulers = [lr_scheduler.CosineAnnealingLR(one, 20) for one in (optimizer, *others)]
    for step in range(12):
        if step == 6:
            model, optimizer, schedulers[0] = copy.deepcopy((model, optimizer, schedulers[0]))
        for own in (model, alone):
            own.zero_grad()
            own.loss(step).backward()
        for one in (optimizer, *others):
            one.step()
        for scheduler in schedulers:
            scheduler.step()
    assert_close(model.parameters(), alone.parameters(), 1e-13)
    assert len({group["lr"] for group in optimizer.param_groups}) == 3


def test_a_routed_state_goes_through_a_file():
    model, copied_model = models()
    first, second = (adapter.bind(ROUTED, m.named_parameters()) for m in (model, copied_model))
    for step in range(3):
        first.zero_grad()
        model.loss(step).backward()
        first.step()
    file = io.BytesIO()
    torch.save((model.state_dict(), first.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    copied_model.load_state_dict(weights)
    second.load_state_dict(state)
    for step in range(3, 6):
        for own, optimizer in ((model, first), (copied_model, second)):
            optimizer.zero_grad()
            own.loss(step).backward()
            optimizer.step()
    assert all(map(torch.equal, model.parameters(), copied_model.parameters()))


def test_routed_parameters_without_names_are_called_by_their_places():
    """In the order given, also after the groups have been made and when one is added."""
    seen = []

    def is_second(parameter):
        seen.append(parameter.path)
        return parameter.path in ("1", "4")

    rule = samestep.route((is_second, samestep.SGD(lr=1.0)), samestep.SGD(lr=0.1))
    params = [torch.zeros(2, requires_grad=True) for _ in range(5)]
    optimizer = adapter.bind(rule, params[:3])
    optimizer.add_param_group({"params": iter(params[3:])})
    for param in params:
        param.grad = torch.ones(2)
    optimizer.step()
    assert [round(float(param.detach()[0]), 6) for param in params] == [-0.1, -1, -0.1, -0.1, -1]
    assert {*seen} == {"0", "1", "2", "3", "4"}
    copies = [param.detach().clone() for param in params]
    loaded = adapter.bind(rule, copies[:3])
    loaded.add_param_group({"params": copies[3:]})
    loaded.load_state_dict(optimizer.state_dict())
    params[1].grad = copies[1].grad = torch.ones(2).to_sparse()
    for one in (optimizer, loaded):
        with pytest.raises(TypeError, match="SGD: parameter '1' has a gradient of layout"):
            one.step()


def test_a_mask_inside_a_route_is_asked_about_the_same_paths():
    by_place = {"groups": [(lambda p: p.path == "2", {"lr": 0.0})]}
    rule = samestep.route(
        (samestep.Where(ndim=2), samestep.SGD(lr=1.0)), samestep.SGD(lr=0.1, **by_place)
    )
    params = [torch.zeros(2), torch.zeros(2, 2), torch.zeros(2), torch.zeros(3)]
    optimizer = adapter.bind(rule, params)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    moved = [round(float(param.flatten()[0]), 6) for param in params]
    assert moved == [-0.1, -1.0, 0.0, -0.1]


SGD = samestep.SGD(lr=0.1)
MATRICES_ONLY = samestep.route(
    (samestep.Where(min_ndim=2), samestep.Muon()), (samestep.Where(path="b*"), samestep.AdamW())
)


def test_a_parameter_that_goes_nowhere_is_named_and_nothing_is_added():
    good, bad = torch.ones(2, 2, requires_grad=True), torch.ones(3)
    words = r"'stray' of shape \(3,\) goes nowhere"
    with pytest.raises(ValueError, match=words):
        adapter.bind(MATRICES_ONLY, [("w", good), ("stray", bad)])
    optimizer = adapter.bind(MATRICES_ONLY, [("w", good)])
    train(optimizer, [good], range(2))
    before = everything(optimizer, [good])
    with pytest.raises(ValueError, match=words):
        optimizer.add_param_group({"params": [("v", torch.ones(2, 2)), ("stray", bad)]})
    assert len(optimizer.param_groups) == 1
    assert_equal(everything(optimizer, [good]), before)


@pytest.mark.parametrize(
    "group, error, words",
    [
        ({"params": [("w", (2, 2)), ("b", (2,))], "eps": -1.0}, ValueError, r"AdamW\(eps=-1.0\)"),
        ({"params": [("w", (2, 2)), (None, (2, 2))]}, ValueError, "with/without names"),
        ({"params": [("w", (2, 2)), ("b", None)]}, TypeError, "can only optimize Tensors"),
        ({"params": {"w"}}, TypeError, "ordered collections"),
    ],
)
def test_a_routed_group_is_added_with_all_its_parts_or_not_at_all(group, error, words):
    def item(name, shape):
        value = "b" if shape is None else torch.ones(shape)
        return value if name is None else (name, value)

    given = group["params"]
    params = given if isinstance(given, set) else [item(*pair) for pair in given]
    optimizer = adapter.bind(MATRICES_ONLY, [("first", torch.ones(2, 2))])
    with pytest.raises(error, match=words):
        optimizer.add_param_group({**group, "params": params})
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": [("w", torch.ones(2, 2)), ("b", torch.ones(2))]})
    assert [group["param_names"] for group in optimizer.param_groups] == [["first"], ["w"], ["b"]]


def test_the_groups_of_an_optimizer_may_be_given_to_another():
    """Neither what it says of its own parts nor shared state goes along, and it stays as it is."""
    params = [torch.ones(2, 2), torch.ones(3), torch.ones(2, 2)]
    rule = samestep.route((samestep.Where(ndim=2), samestep.Prodigy()), samestep.SGD(lr=0.1))
    first = adapter.bind(rule, params)
    train(first, params, range(2))
    before = everything(first, params)
    groups = str(first.param_groups)
    second = adapter.bind(rule, first.param_groups)
    third = adapter.AdamW(first.param_groups)
    assert str(first.param_groups) == groups
    assert [group["places"] for group in first.param_groups] == [["0", "2"], ["1"]]
    assert [group["places"] for group in second.param_groups] == [["0", "1"], ["2"]]
    assert not [group for group in third.param_groups if {"branch", "places"} & {*group}]
    assert "d" not in second.param_groups[0]
    assert_equal(everything(first, params), before)
    for optimizer in (second, third, first):
        train(optimizer, params, range(2))


def test_names_go_along_with_the_groups_of_another_optimizer():
    named = [("a", torch.ones(2, 2)), ("b", torch.ones(3)), ("c", torch.ones(2, 2))]
    plain = adapter.AdamW(named)
    rule = samestep.route((samestep.Where(path="b"), samestep.SGD(lr=0.1)), samestep.AdamW())
    routed = adapter.bind(rule, plain.param_groups)
    assert [group["param_names"] for group in routed.param_groups] == [["b"], ["a", "c"]]
    again = adapter.AdamW(routed.param_groups)
    assert [group["param_names"] for group in again.param_groups] == [["b"], ["a", "c"]]
    assert plain.param_groups[0]["param_names"] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="AdamW: a parameter group has 1 parameters and 2 param_"):
        adapter.AdamW([{"params": [torch.ones(2)], "param_names": ["a", "b"]}])


SGD_OR_ADAMW = samestep.route((samestep.Where(path="a"), samestep.SGD(lr=0.1)), samestep.AdamW())


@pytest.mark.parametrize("rule", [SGD_OR_ADAMW, samestep.AdamW()])
def test_a_parameter_that_is_given_twice_is_named(rule):
    """In one group, in two, on two branches of a route."""
    param, other = torch.ones(2), torch.ones(2)
    with pytest.raises(ValueError, match=f"{rule.name}: .* duplicate parameters: 'b' .* 'a'"):
        adapter.bind(rule, [("a", param), ("b", param)])
    with pytest.raises(ValueError, match=f"{rule.name}: .* duplicate parameters: '2' .* '0'"):
        adapter.bind(rule, [param, other, param])
    optimizer = adapter.bind(rule, [("a", other), ("c", param)])
    groups = str(optimizer.param_groups)
    where = len(optimizer.param_groups) - 1
    with pytest.raises(ValueError, match=f"'b' is the same as 'c' of group {where}; give it once"):
        optimizer.add_param_group({"params": [("d", torch.ones(2)), ("b", param)]})
    assert str(optimizer.param_groups) == groups


def test_a_cycle_is_taken_by_a_route_whose_rules_all_have_a_momentum():
    rule = samestep.route(
        (samestep.Where(ndim=2), samestep.AdamW(lr=0.1)),
        samestep.AdamW(lr=0.2, betas=(0.8, 0.99)),
    )
    params = [torch.ones(2, 2), torch.ones(3)]
    optimizer = adapter.bind(rule, params)
    assert [group["betas"][0] for group in optimizer.param_groups] == [0.9, 0.8]
    lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=31, max_momentum=0.97)
    assert [group["betas"] for group in optimizer.param_groups] == [(0.97, 0.999), (0.97, 0.99)]
    other = adapter.bind(samestep.route((samestep.Where(ndim=2), samestep.AdamW()), SGD), params)
    with pytest.raises(ValueError, match="must support momentum or beta1"):
        lr_scheduler.OneCycleLR(other, 0.05, total_steps=31)


def test_a_route_may_have_an_empty_group():
    optimizer = adapter.bind(ROUTED, [{"params": []}, {"params": [torch.ones(2, 2)]}])
    optimizer.param_groups[1]["params"][0].grad = torch.ones(2, 2)
    optimizer.step()
    assert [len(group["params"]) for group in optimizer.param_groups] == [0, 1]
