"""The torch optimizers as torch's own tools use them: groups, schedulers, checkpoints, compilers.

The expected values are those of the rule itself, stepped by ``rule.update`` on tensors: an adapter
adds no arithmetic, so everything is equal to the last bit unless a compiler rearranges it.
"""

import copy
import inspect
import io
import itertools
import pickle

import pytest

import samestep
from samestep.arrays import parts
from samestep.conformance.harness.classes import build, made
from samestep.conformance.harness.parametrized import each_rule

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")
from samestep.conformance.harness.torch_training import (  # noqa: E402
    assert_equal,
    everything,
    gradient,
    same,
    train,
)
from samestep.torch import kernels  # noqa: E402  (after torch has been looked for)

RULES = each_rule()
SHAPES = [(), (3,), (4, 5), (2, 3, 2), (6, 1)]
LRS = torch.optim.lr_scheduler


def native(rule, params, **options):
    """The class of the rule's name, with the rule's values."""
    return made(adapter, rule, params, **options)


def tensors(rule, seed=0, dtype=torch.float32, shapes=SHAPES):
    noise = torch.Generator().manual_seed(seed)
    shapes = [shape for shape in shapes if len(shape) >= rule.min_ndim]
    return [torch.randn(s, generator=noise).to(dtype).requires_grad_() for s in shapes]


def refuses(optimizer, params, match, action=None):
    """Whether the action (a step) is refused with all the words, and nothing is changed."""
    before, groups = everything(optimizer, params), copy.deepcopy(optimizer.param_groups)
    with pytest.raises((TypeError, ValueError)) as refusal:
        (action or optimizer.step)()
    assert all(word in str(refusal.value) for word in match), str(refusal.value)
    assert_equal(everything(optimizer, params), before)
    assert [g.keys() for g in groups] == [g.keys() for g in optimizer.param_groups]


def kept_in(rule, slot, dtype):
    """The dtype of a slot of a parameter of that dtype; coefficients are never narrow."""
    coefficient = rule.slots()[slot].init.dtype == "compute"
    return samestep.step.compute_dtype(torch, dtype) if coefficient else dtype


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_class_writes_what_the_rule_computes_into_the_same_tensors(name, precision):
    rule, dtype = build(name), precision
    params = tensors(rule, dtype=dtype)
    optimizer = native(rule, params)
    assert isinstance(optimizer, torch.optim.Optimizer)
    expected = [p.detach().clone() for p in params]
    state, places = rule.init(expected), [p.data_ptr() for p in params]
    for t in range(6):
        grads = [gradient(t, i, p) for i, p in enumerate(params)]
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        kept = [grad.clone() for grad in grads]
        optimizer.step()
        expected, state = rule.update(kept, expected, state)
        for i, param in enumerate(params):
            assert param.grad is grads[i] and torch.equal(grads[i], kept[i])
            assert same(param, expected[i]) and param.dtype == dtype, (t, i)
            for slot in rule.slots():
                pairs = zip(
                    parts(optimizer.state[param][slot]), parts(state.slots[slot][i]), strict=True
                )
                stored = kept_in(rule, slot, dtype)
                assert all(same(a, b) and a.dtype == stored for a, b in pairs), (t, i, slot)
            assert int(optimizer.state[param]["step"]) == t + 1
    assert [p.data_ptr() for p in params] == places and all(p.is_leaf for p in params)
    assert all(same(optimizer.param_groups[0][n], v) for n, v in state.shared.items())


@pytest.mark.parametrize("name", each_rule(lambda rule: not rule.reduces))
def test_groups_step_as_separate_optimizers_do(name):
    rule = build(name)
    other = {"lr": rule.hypers["lr"] / 3, "weight_decay": 0.3}
    if "betas" in rule.hypers:
        other["betas"] = tuple(beta / 2 for beta in rule.hypers["betas"])
    a, b = tensors(rule, 1), tensors(rule, 2)
    joint = native(rule, [{"params": a}, {"params": b, **other}])
    train(joint, [*a, *b], range(5))
    c, d = tensors(rule, 1), tensors(rule, 2)
    apart = native(rule, c), native(rule.replace(**other), d)
    train(apart[0], c, range(5))
    train(apart[1], d, range(5), offset=len(c))
    assert all(torch.equal(x, y) for x, y in zip([*a, *b], [*c, *d], strict=True))
    assert joint.param_groups[1]["weight_decay"] == 0.3
    assert joint.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize("name", RULES)
def test_a_group_that_is_added_takes_the_defaults_and_starts_at_its_own_first_step(name):
    rule = build(name)
    a, b, c = tensors(rule, 1), tensors(rule, 2), tensors(rule, 2)
    optimizer = native(rule, a)
    train(optimizer, a, range(3))
    optimizer.add_param_group({"params": b})
    assert {n: optimizer.param_groups[1][n] for n in rule.hypers} == rule.hypers
    train(optimizer, [*a, *b], range(3, 6))
    assert {int(optimizer.state[p]["step"]) for p in b} == {3}
    if not rule.reduces:
        alone = native(rule, c)
        train(alone, c, range(3, 6), offset=len(a))
        assert all(torch.equal(x, y) for x, y in zip(b, c, strict=True))
    for name_, first in [(n, optimizer.param_groups[0][n]) for n in rule.shared()]:
        assert torch.equal(first, optimizer.param_groups[1][name_])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [{"lr": -1.0}, {"weight_decay": float("nan")}, {"decay": "none"}])
def test_a_group_with_a_bad_value_is_refused_and_not_added(name, bad):
    rule = build(name)
    optimizer = native(rule, tensors(rule))
    with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
        optimizer.add_param_group({"params": tensors(rule, 1), **bad})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
        native(rule, [{"params": tensors(rule)}, {"params": tensors(rule, 1), **bad}])


def test_a_bad_value_in_a_later_group_stops_the_step_before_anything_moves():
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = adapter.AdamW([{"params": [a]}, {"params": [b]}])
    train(optimizer, [a, b], range(2))
    optimizer.param_groups[1]["lr"] = -1.0
    a.grad, b.grad = torch.ones(3), torch.ones(3)
    refuses(optimizer, [a, b], ["AdamW(lr=-1.0)"])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("precision, storage", [(torch.float32, None), (torch.bfloat16, "float32")])
def test_a_saved_and_loaded_optimizer_continues_bit_for_bit(name, precision, storage):
    rule = build(name, state_dtype=storage)
    params = tensors(rule, dtype=precision)
    optimizer = native(rule, params)
    train(optimizer, params, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copies = [p.detach().clone().requires_grad_() for p in params]
    loaded = native(rule.replace(lr=0.5), copies)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert_equal(everything(loaded, copies), everything(optimizer, params))
    train(optimizer, params, range(3, 6))
    train(loaded, copies, range(3, 6))
    assert_equal(everything(loaded, copies), everything(optimizer, params))
    slots = [v for p in copies for n, v in loaded.state[p].items() if n in rule.slots()]
    assert {v.dtype for value in slots for v in parts(value)} <= {torch.float32}


@pytest.mark.parametrize("name", RULES)
def test_loading_shares_no_memory_with_the_optimizer_that_was_saved(name):
    rule = build(name)
    params, copies = tensors(rule), tensors(rule)
    optimizer, loaded = native(rule, params), native(rule, copies)
    train(optimizer, params, range(2))
    loaded.load_state_dict(optimizer.state_dict())
    before = everything(optimizer, params)
    train(loaded, copies, range(2))
    assert_equal(everything(optimizer, params), before)


def foreign(name):
    """State dicts that are not those of ``AdamW`` for parameters of shapes (2,), (3,)."""
    shapes = [(2,), (4,)] if name == "other shapes" else [(2,), (3,)]
    params = [torch.ones(s, requires_grad=True) for s in shapes]
    makers = {"torch.optim": torch.optim.SGD, "another rule": adapter.Lion}
    optimizer = makers.get(name, adapter.AdamW)(params, lr=0.1)
    train(optimizer, params, range(1))
    saved = optimizer.state_dict()
    if name == "a slot missing":
        del saved["state"][1]["v"]
    if name == "a slot too many":
        saved["state"][1]["prev"] = torch.ones(3)
    if name == "no step":
        del saved["state"][1]["step"]
    if name == "a bad value":
        saved["param_groups"][0]["lr"] = -1.0
    return saved


@pytest.mark.parametrize(
    "name",
    [
        "torch.optim",
        "another rule",
        "other shapes",
        "a slot missing",
        "a slot too many",
        "no step",
        "a bad value",
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(name):
    params = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    optimizer = adapter.AdamW(params)
    train(optimizer, params, range(2))
    refuses(optimizer, params, ["AdamW"], lambda: optimizer.load_state_dict(foreign(name)))
    assert optimizer.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize("dump", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("name", RULES)
def test_a_copied_or_pickled_optimizer_continues_bit_for_bit(name, dump):
    rule = build(name)
    params = tensors(rule)
    optimizer = native(rule, params)
    train(optimizer, params, range(3))
    copies, copied = dump((params, optimizer))
    train(optimizer, params, range(3, 6))
    train(copied, copies, range(3, 6))
    assert type(copied) is type(optimizer)
    assert_equal(everything(copied, copies), everything(optimizer, params))


SCHEDULERS = {
    "step": lambda o, _: LRS.StepLR(o, 2, 0.3),
    "cosine": lambda o, _: LRS.CosineAnnealingLR(o, 6),
    "one cycle": lambda o, cycle: LRS.OneCycleLR(o, 0.2, total_steps=7, cycle_momentum=cycle),
    "lambda": lambda o, _: LRS.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "plateau": lambda o, _: LRS.ReduceLROnPlateau(o, factor=0.5, patience=1),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("name", RULES)
def test_a_scheduler_changes_the_step_as_setting_the_values_by_hand_does(name, kind):
    rule = build(name, lr=0.1)
    cycled = next((n for n in ("betas", "momentum") if n in rule.hypers), None)
    peer = torch.optim.SGD([torch.ones(1)], lr=0.1, momentum=0.9)
    params, copies = tensors(rule), tensors(rule)
    optimizer, manual = native(rule, params), native(rule, copies)
    schedulers = [SCHEDULERS[kind](o, cycled is not None) for o in (optimizer, peer)]
    seen = set()
    for t in range(6):
        lr, first = peer.param_groups[0]["lr"], peer.param_groups[0]["momentum"]
        manual.param_groups[0]["lr"] = lr
        if kind == "one cycle" and cycled == "betas":
            manual.param_groups[0]["betas"] = (first, *rule.hypers["betas"][1:])
        elif kind == "one cycle" and cycled:
            manual.param_groups[0][cycled] = first
        train(optimizer, params, [t])
        train(manual, copies, [t])
        assert all(torch.equal(a, b) for a, b in zip(params, copies, strict=True)), t
        seen.add(lr)
        peer.step()
        for scheduler in schedulers:
            scheduler.step(*([1.0] if kind == "plateau" else []))
    assert len(seen) > 1


@pytest.mark.parametrize("name", RULES)
def test_a_parameter_without_gradient_keeps_its_value_its_state_and_its_step_count(name):
    rule = build(name)
    shape = (2, 3)
    a, b, c = (torch.ones(shape, requires_grad=True) for _ in range(3))
    optimizer, alone = native(rule, [a, b]), native(rule, [c])
    for t in range(8):
        skipped = t in (0, 1, 4)
        a.grad, b.grad = gradient(t, 0, a), None if skipped else gradient(t, 1, b)
        before = everything(optimizer, [b])
        optimizer.step()
        if skipped:
            after = {k: v for k, v in everything(optimizer, [b]).items() if "group" not in k}
            assert_equal(after, {k: v for k, v in before.items() if "group" not in k})
        elif not rule.reduces:
            c.grad = gradient(t, 1, c)
            alone.step()
            assert torch.equal(b, c)
    assert (int(optimizer.state[a]["step"]), int(optimizer.state[b]["step"])) == (8, 5)


@pytest.mark.parametrize("bad", ["sparse gradient", "integer"])
@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_cannot_take_is_refused_by_name_before_anything_moves(name, bad):
    rule = build(name)
    good = torch.ones(3, 2, requires_grad=True)
    dtype = {"integer": torch.int64}.get(bad, torch.float32)
    other = torch.ones(3, 2, dtype=dtype)
    optimizer = adapter.bind(rule, [("good", good), ("other", other)])
    other.grad = None
    train(optimizer, [good], range(2))
    other.grad = torch.ones(3, 2, dtype=dtype)
    if bad == "sparse gradient":
        other.grad = other.grad.to_sparse()
    refuses(optimizer, [good, other], [rule.name, "'other'"])
    assert other not in optimizer.state


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.min_ndim))
def test_too_few_dimensions_are_refused_by_name(name):
    rule = build(name)
    params = [torch.ones((2,) * n, requires_grad=True) for n in (rule.min_ndim, rule.min_ndim - 1)]
    optimizer = adapter.bind(rule, [("kernel", params[0]), ("bias", params[1])])
    for param in params:
        param.grad = torch.ones_like(param)
    refuses(optimizer, params, [rule.name, "'bias'", str(tuple(params[1].shape))])


@pytest.mark.parametrize("name", RULES)
def test_strided_parameters_step_as_contiguous_ones_do(name):
    rule = build(name)
    strided = torch.arange(24.0).reshape(4, 6).T[::2].detach().requires_grad_()
    plain = strided.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    assert not strided.is_contiguous() and plain.is_contiguous()
    for param in (strided, plain):
        train(native(rule, [param]), [param], range(4))
    torch.testing.assert_close(strided, plain, rtol=1e-6, atol=1e-6)
    assert strided[0, 1] != 6.0


@pytest.mark.parametrize("name", RULES)
def test_empty_parameters_step_beside_others(name):
    rule = build(name)
    shapes = [(0,), (0, 3), (2, 0), (3, 2)]
    a = tensors(rule, shapes=shapes)
    b = [a[-1].detach().clone().requires_grad_()]
    together, alone = native(rule, a), native(rule, b)
    train(together, a, range(3))
    train(alone, b, range(3), offset=len(a) - 1)
    assert torch.equal(a[-1], b[0])


@pytest.mark.parametrize("name", RULES)
def test_dtypes_may_be_mixed_in_one_optimizer(name):
    rule = build(name)
    dtypes = [torch.float32, torch.bfloat16, torch.float64]
    params = [torch.ones(3, 2, dtype=d, requires_grad=True) for d in dtypes]
    expected = [p.detach().clone() for p in params]
    optimizer, state = native(rule, params), rule.init(expected)
    for t in range(4):
        train(optimizer, params, [t])
        expected, state = rule.update([p.grad for p in params], expected, state)
    assert all(torch.equal(a, b) for a, b in zip(params, expected, strict=True))
    assert [
        optimizer.state[p][n].dtype
        for p in params
        for n in rule.slots()
        if torch.is_tensor(optimizer.state[p][n])
    ] == [
        kept_in(rule, n, p.dtype)
        for p in params
        for n in rule.slots()
        if torch.is_tensor(optimizer.state[p][n])
    ]


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.reduces))
def test_sums_run_over_all_groups(name):
    rule = build(name)
    a, b = tensors(rule, 1), tensors(rule, 1)
    whole = native(rule, a)
    split = native(rule, [{"params": b[:2]}, {"params": []}, {"params": b[2:]}])
    train(whole, a, range(30))
    train(split, b, range(30))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for (n, item), group in itertools.product(rule.shared().items(), split.param_groups):
        assert torch.equal(group[n], whole.param_groups[0][n])
        assert float(group[n]) != rule.first_value(item) or n == "skipped"


@pytest.mark.parametrize("name", RULES)
def test_values_that_change_every_step_are_no_reason_to_compile_again(name, monkeypatch):
    class Own(getattr(samestep, name), register=False):  # a kernel cache of its own
        pass

    compiled_graphs = []

    def compile_graph(graph, arrays, dynamic_shapes):
        compiled_graphs.append(graph)
        return graph

    monkeypatch.setattr(kernels, "standalone_compile", compile_graph)
    base = build(name)
    rule = Own(
        *([base.rule] if hasattr(base, "rule") else []),
        **{n: v for n, v in base.hypers.items() if n in Own.fields()},
    )
    shapes = [(4, 5), (3, 2), (6, 7)]
    params, copies = tensors(rule, shapes=shapes), tensors(rule, shapes=shapes)
    compiled = adapter.bind(rule, params[:2], execution="compiled")
    plain = adapter.bind(rule, copies[:2])
    train(compiled, params[:2], range(1))
    train(plain, copies[:2], range(1))
    first = len(compiled_graphs)
    assert first >= 1
    for t in range(1, 7):
        for optimizer, group in [(compiled, params), (plain, copies)]:
            for values in optimizer.param_groups:
                values.update(lr=rule.hypers["lr"] / (t + 1), weight_decay=0.1 / t)
                if "betas" in rule.hypers:
                    values["betas"] = tuple(0.9 / t for _ in rule.hypers["betas"])
            if t == 4:
                optimizer.add_param_group({"params": [group[2]], "lr": 0.5})
            train(optimizer, group if t >= 4 else group[:2], [t])
    new_shape = rule.sees_axes
    assert len(compiled_graphs) == first + new_shape
    for a, b in zip(params, copies, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=0)


def test_a_compiled_kernel_computes_what_the_rule_does():
    rule = samestep.AdamW(weight_decay=0.1)
    params, copies = tensors(rule), tensors(rule)
    compiled, plain = adapter.bind(rule, params, execution="compiled"), native(rule, copies)
    train(compiled, params, range(6))
    train(plain, copies, range(6))
    for a, b in zip(params, copies, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=6 * 2 * torch.finfo(a.dtype).eps)


@pytest.mark.parametrize("name", RULES)
def test_signatures_are_the_rules_own(name):
    found = inspect.signature(getattr(adapter, name)).parameters
    own = inspect.signature(getattr(samestep, name)).parameters
    assert list(found) == ["params", *own, *adapter.KEYWORDS]
    assert all(found[n].default == p.default for n, p in own.items())


@pytest.mark.parametrize("name", RULES)
def test_bind_is_the_class(name):
    rule = build(name)
    a, b = tensors(rule), tensors(rule)
    one, other = native(rule, a), adapter.bind(rule, iter(b))
    train(one, a, range(3))
    train(other, b, range(3))
    assert_equal(everything(one, a), everything(other, b))


@pytest.fixture
def own_rule():
    known = dict(samestep.registry)

    class Halving(samestep.Rule):
        """Half the step at every step."""

        lr = samestep.hyper(1.0, "step size", unit="parameter/gradient", ge=0)

        def scalars(self, xp, t):
            return {"half": 0.5**t}

        def direction(self, xp, grad, param, state, s):
            return s.half * grad, {}

    yield Halving
    samestep.registry.clear()
    samestep.registry.update(known)


def test_a_rule_of_the_users_own_is_served_like_the_packages(own_rule):
    param = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = getattr(adapter, own_rule.__name__)([param], lr=2.0, weight_decay=0.25)
    for _ in range(2):
        param.grad = torch.tensor([1.0, -1.0])
        optimizer.step()
    assert param.tolist() == [-0.75, 0.5]  # 1/2 - 1 = -1/2, halved, - 1/2; -2/2 + 1 = 0, + 1/2
    assert own_rule.__name__ in dir(adapter)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_rules():
    with pytest.raises(AttributeError) as refusal:
        _ = adapter.Adamm
    assert all(name in str(refusal.value) for name in samestep.rules.__all__)


def test_a_closure_is_called_once_with_gradients_enabled_and_its_loss_returned():
    param = torch.tensor([3.0], requires_grad=True)
    optimizer, calls = adapter.SGD([param], lr=0.25), []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (param * param).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert calls == [True] and param.item() == 1.5
    optimizer.zero_grad(set_to_none=False)
    assert param.grad.item() == 0.0
    optimizer.zero_grad()
    assert param.grad is None and optimizer.step() is None and param.item() == 1.5


@pytest.mark.parametrize("name", RULES)
def test_a_tensor_as_learning_rate_is_the_number_it_holds(name):
    rule = build(name)
    a, b = tensors(rule), tensors(rule)
    number, tensor = native(rule.replace(lr=0.25), a), native(rule.replace(lr=torch.tensor(0.5)), b)
    tensor.param_groups[0]["lr"].fill_(0.25)
    train(number, a, range(3))
    train(tensor, b, range(3))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_schedules_are_called_with_the_steps_taken_so_far(name):
    rule = build(name)
    betas = rule.hypers.get("betas", ())
    scheduled = {"lr": lambda step: 0.5 / (1 + step)}
    if betas:
        scheduled["betas"] = (lambda step: betas[0] / (1 + step), *betas[1:])
    a, b = tensors(rule), tensors(rule)
    optimizer, manual = native(rule.replace(**scheduled), a), native(rule, b)
    for t in range(4):
        step = rule.steps_inside(t) if isinstance(rule, samestep.Wrapper) else t
        manual.param_groups[0]["lr"] = 0.5 / (1 + step)
        if betas:
            manual.param_groups[0]["betas"] = (betas[0] / (1 + step), *betas[1:])
        train(optimizer, a, [t])
        train(manual, b, [t])
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)), t


@pytest.mark.parametrize("name", RULES)
def test_parameters_may_be_replaced_in_the_groups_before_the_first_step(name):
    rule = build(name)
    a, b = tensors(rule, 1), tensors(rule, 1)
    optimizer, expected = native(rule, tensors(rule, 5)), native(rule, b)
    optimizer.param_groups[0]["params"][:] = a
    train(optimizer, a, range(3))
    train(expected, b, range(3))
    assert_equal(everything(optimizer, a), everything(expected, b))


@pytest.mark.parametrize("name", RULES)
def test_state_made_ahead_is_the_state_made_at_the_first_gradient(name):
    rule = build(name)
    a, b = tensors(rule), tensors(rule)
    ahead, lazy = native(rule, a), native(rule, b)
    ahead.init_state()
    assert all(set(rule.slots()) < set(ahead.state[p]) for p in a)
    train(ahead, a, range(3))
    train(lazy, b, range(3))
    assert_equal(everything(ahead, a), everything(lazy, b))


def test_a_step_that_fails_for_one_parameter_changes_none():
    class FailsOnVectors(samestep.Rule, register=False):
        lr = samestep.hyper(0.1, "step size", unit="1")

        def direction(self, xp, grad, param, state, s):
            return grad if param.ndim > 1 else xp.sum(grad), {}

    params = [torch.ones(2, 2), torch.ones(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = samestep.torch.bind(FailsOnVectors(), params)
    with pytest.raises(ValueError, match=r"FailsOnVectors.direction returned an array of shape"):
        optimizer.step()
    assert all((param == 1).all() for param in params) and not optimizer.state


@pytest.mark.parametrize("execution", ["reference", "packed"])
@pytest.mark.parametrize(
    "bad, words",
    [
        (torch.zeros(1).expand(4), r"parameter '1' has shape \(4,\) and strides \(0,\)"),
        (torch.zeros(2, 1).expand(2, 3), r"parameter '1' has shape \(2, 3\) and strides \(1, 0\)"),
        (torch.zeros(2, 2).to_sparse(), r"parameter '1' has layout torch.sparse_coo"),
    ],
)
def test_a_parameter_whose_elements_have_no_place_of_their_own_is_refused(execution, bad, words):
    params = [torch.zeros(3), bad]
    optimizer = samestep.torch.AdamW(params, execution=execution)
    for param in params:
        dense = torch.ones(param.shape)
        param.grad = dense if param.layout is torch.strided else dense.to_sparse()
    for action in (optimizer.step, optimizer.init_state):
        with pytest.raises((TypeError, ValueError), match=f"AdamW: {words}"):
            action()
        assert not params[0].any() and not optimizer.state
    one = torch.zeros(1, 1).expand(1, 1)  # one element has a place
    one.grad = torch.ones(1, 1)
    samestep.torch.SGD([one], lr=1.0, execution=execution).step()
    assert float(one) == -1


def test_a_schedule_is_held_to_its_range_before_anything_moves():
    params = [torch.ones(2), torch.ones(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = samestep.torch.AdamW(
        [{"params": params[:1]}, {"params": params[1:], "lr": lambda step: -1.0}]
    )
    with pytest.raises(ValueError, match=r"AdamW\(lr=-1.0\): lr must be >= 0 .*; the schedule"):
        optimizer.step()
    assert all((param == 1).all() for param in params) and not optimizer.state


def test_a_parameter_without_a_name_keeps_its_place_when_a_group_is_added():
    """Predicates go by it, so it may not change."""
    first, second = torch.ones(2), torch.ones(2)
    rule = samestep.SGD(lr=0.1, groups=[(lambda p: p.path == "0", {"lr": 1.0})])
    optimizer = adapter.bind(rule, [first])
    for step in range(2):
        first.grad, second.grad = torch.ones(2), torch.ones(2)
        optimizer.step()
        if step == 0:
            optimizer.add_param_group({"params": [second]})
    assert first.tolist() == [-1.0, -1.0]
    torch.testing.assert_close(second, torch.full((2,), 0.9))


def test_a_state_holds_the_number_of_a_schedule_and_the_schedule_stays():
    def optimizer(params):
        betas = (lambda step: 0.9 / (step + 1), 0.999)
        return adapter.AdamW(params, lr=lambda step: 0.1 * 0.5**step, betas=betas)

    params = tensors(samestep.AdamW())
    first = optimizer(params)
    train(first, params, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert saved["param_groups"][0]["lr"] == 0.1 * 0.5**2
    assert saved["param_groups"][0]["betas"] == (0.9 / 3, 0.999)
    copies = [param.detach().clone() for param in params]
    second = optimizer(copies)
    second.load_state_dict(saved)
    train(first, params, range(3, 6))
    train(second, copies, range(3, 6))
    assert all(map(torch.equal, params, copies))


def test_a_parameter_without_elements_may_have_any_strides():
    param = torch.nn.Parameter(torch.empty(0).as_strided((0, 3), (0, 0)))
    opt = samestep.torch.AdamW([param])
    param.grad = torch.zeros_like(param)
    opt.step()
    assert opt.steps_taken == 1


def test_a_number_that_is_one_for_all_cannot_differ_between_groups():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    rule = samestep.ClipGlobalNorm(samestep.SGD(lr=1.0), max_norm=1.0)
    with pytest.raises(
        ValueError, match=r"group 1 has max_norm=0.1, group 0 1.0; it must be the same"
    ):
        samestep.torch.bind(rule, [{"params": [a]}, {"params": [b], "max_norm": 0.1}])
    opt = samestep.torch.bind(rule, [{"params": [a]}, {"params": [b]}])
    a.grad, b.grad = torch.ones(2), torch.ones(2)
    opt.step()
    before = a.detach().clone(), b.detach().clone()
    opt.param_groups[1]["max_norm"] = 0.1
    with pytest.raises(ValueError, match="max_norm"):
        opt.step()
    assert torch.equal(a, before[0]) and torch.equal(b, before[1])
    for group in opt.param_groups:
        group["max_norm"] = 0.1
    opt.step()
    assert float((a.detach() - before[0]).norm()) == pytest.approx(0.1 / 2**0.5)
