"""Runs of torch, recorded and recomputed: what agrees, and what was planted."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import weakref

import pytest

import samestep
from samestep.recording import RecordingError, read
from samestep.replay import Asked, replay
from samestep.replay.judging import Bound

torch = pytest.importorskip("torch")
from torch.optim.optimizer import _global_optimizer_pre_hooks  # noqa: E402

import samestep.torch  # noqa: E402  (needs torch)
from tests.recording.torch_runs import (  # noqa: E402
    OPTIMIZERS,
    STEPS,
    adamw,
    batches,
    network,
    train,
    trained,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_agrees_with_its_rule_in_stretches_that_begin_in_mid_course(path, model, name):
    made = OPTIMIZERS[name](model)
    found = replay([trained(path, model, made, steps=lambda step: step % 10 < 4)])
    assert found.verdict == "agree", found.sentences
    assert [row[0] for row in found.growth] == [s for s in range(STEPS) if s % 10 < 4]
    assert found.rule.removesuffix(" like torch") == name and not found.unchecked
    assert max(row[2] for row in found.growth) > 0  # float32 is not float64
    assert all(row.steps == 12 for row in found.rows.values()) and len(found.rows) == 4


@pytest.mark.parametrize("name", ["AdamW", "Adan", "Lion"])
def test_other_numbers_than_the_run_had_depart_at_the_first_step(path, model, name):
    run = trained(path, model, OPTIMIZERS[name](model), steps=6)
    assert replay([run]).verdict == "agree"
    found = replay([run], Asked(settings={"lr": 0.0101}))
    assert found.verdict == "departs" and found.first.step == 0
    assert found.first.relative == pytest.approx(0.0099, rel=0.1)


def test_an_eps_that_is_inside_the_root_departs(path):
    """A stranger's class: the rule must be named, and what it does otherwise is seen."""

    class Strange(torch.optim.Optimizer):
        def __init__(self, params, lr, inside):
            super().__init__(
                params, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-6, "inside": inside}
            )

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for param in group["params"]:
                    own = self.state[param]
                    own.setdefault("t", 0)
                    own["t"] += 1
                    for key, new, beta in (("m", param.grad, 0.9), ("v", param.grad**2, 0.999)):
                        own[key] = beta * own.get(key, 0) + (1 - beta) * new
                    m, v = own["m"] / (1 - 0.9 ** own["t"]), own["v"] / (1 - 0.999 ** own["t"])
                    eps = group["eps"]
                    root = (v + eps).sqrt() if group["inside"] else v.sqrt() + eps
                    param.sub_(group["lr"] * m / root)

    verdicts = {}
    for inside in (False, True):
        model = network()
        made = Strange(model.parameters(), 1e-2, inside)
        run = trained(path.with_name(f"{inside}.safetensors"), model, made)
        with pytest.raises(RecordingError, match=r"Strange follows; name one with --rule: ADOPT"):
            replay([run])
        verdicts[inside] = replay([run], Asked("Adam", "torch"))
    assert verdicts[False].verdict == "agree", verdicts[False].sentences
    assert verdicts[True].verdict == "departs" and verdicts[True].first.step == 0
    assert verdicts[True].first.relative > 1e-3
    assert verdicts[True].instead == ["adds eps = 1e-06 under the root"]


@pytest.mark.parametrize("rule", [None, "Lion", "SGD"])
def test_a_run_that_moves_nothing_agrees_with_no_rule(path, rule):
    """A step of 1e-5 is rounded away in bfloat16, whatever rule makes it."""
    model = network(torch.bfloat16)
    for param in model.parameters():
        torch.nn.init.ones_(param)
    made = samestep.torch.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    found = replay([trained(path, model, made, dtype=torch.bfloat16)], Asked(rule))
    assert found.verdict == "nothing moved" and not found.departures


@pytest.mark.parametrize(
    ("name", "size", "rates"), [("float32", 1.0, (3e-8, 3e-5)), ("bfloat16", 2e-4, (1e-6, 3e-5))]
)
@pytest.mark.parametrize("ulp", [None, 4.0])
def test_a_run_that_moves_less_than_it_may_be_off_agrees_with_no_rule(path, name, size, rates, ulp):
    """Its steps are twice the rule's, which nothing tells while they are small."""

    class AdamW(torch.optim.AdamW):
        def step(self, closure=None):
            lr = self.param_groups[0]["lr"]
            self.param_groups[0]["lr"] = 2 * lr
            super().step(closure)
            self.param_groups[0]["lr"] = lr

    verdicts = []
    for rate in rates:
        param = torch.nn.Parameter(torch.linspace(size, 2 * size, 5).to(getattr(torch, name)))
        made = AdamW([param], lr=rate)
        with samestep.torch.recorder(path, made):
            for step in range(4):
                param.grad = torch.cos(step * param.detach())
                made.step()
        verdicts.append(replay([read(path)], Asked("AdamW", "torch"), Bound(ulp)).verdict)
    assert verdicts == ["nothing moved", "departs"]


def test_the_state_of_one_rule_is_not_taken_for_that_of_another(path, model):
    run = trained(path, model, adamw(model), steps=range(4, 8))
    with pytest.raises(RecordingError, match=r"no step can be judged: .* another rule: Lion: the"):
        replay([run], Asked("Lion"))


def test_a_state_that_is_lost_in_mid_course_is_named_with_its_step_and_parameter(path, model):
    made = adamw(model)

    def lose(step):
        if step == 10:
            made.state.pop(model[2].weight)

    found = replay([trained(path, model, made, between=lose)])
    assert found.verdict == "departs"
    assert [(d.step, d.path) for d in found.departures] == [(11, "2.weight")]
    assert "as if the state was empty and steps were counted from 0" in found.sentences[0]
    assert found.first.until == 11  # judged with the new state it is right again
    assert found.rows["2.weight"].departing == 1 and found.rows["0.weight"].departing == 0


def test_a_parameter_that_does_not_decay_is_named(path, model):
    class Undecayed(torch.optim.AdamW):
        @torch.no_grad()
        def step(self, closure=None):
            before = self.param_groups[0]["params"][2].clone()
            super().step(closure)
            self.param_groups[0]["params"][2] += before * 1e-2 * 0.1

    found = replay([trained(path, model, adamw(model, Undecayed))], Asked("AdamW", "torch"))
    assert [(d.step, d.path) for d in found.departures] == [(0, "2.weight")]
    assert found.first.why == "from here on as if weight_decay were 0"
    assert found.rows["2.weight"].departing == STEPS


def test_what_else_changes_parameters_is_told_from_the_optimizer(path, model):
    @torch.no_grad()
    def clip(step):
        if step == 7:
            model[0].weight.clamp_(-0.2, 0.2)

    found = replay([trained(path, model, adamw(model), between=clip)])
    assert found.verdict == "departs" and not found.departures
    assert found.changes == [(8, ["0.weight"])]
    assert "something else than the optimizer changed 0.weight before step 8" in found.sentences


def test_the_first_array_that_is_not_finite_is_named(path, model):
    def nan(grad):
        return grad * math.nan if len(seen) == 5 else grad

    model[2].weight.register_hook(nan)
    seen = []
    found = replay([trained(path, model, adamw(model), between=seen.append)])
    assert found.verdict == "not finite" and found.not_finite == (5, "the gradient of", "2.weight")
    assert found.sentences == [
        "the gradient of 2.weight at step 5 is the first that has NaN or infinity"
    ]


def test_a_gradient_that_is_not_finite_and_skipped_is_named_in_a_run_that_agrees(path, model):
    model[2].weight.register_hook(lambda grad: grad * math.inf if len(seen) == 5 else grad)
    seen = []
    rule = samestep.SkipNonFinite(samestep.AdamW(lr=1e-2))
    made = samestep.torch.bind(rule, model.parameters())
    found = replay([trained(path, model, made, between=seen.append)])
    assert found.verdict == "agree" and found.not_finite[0] == 5
    said = "the gradient of 2.weight at step 5 is the first that has NaN or infinity; the step was"
    assert found.sentences == [f"{said} skipped"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_that_goes_back_to_an_earlier_checkpoint_is_followed_from_there(path, model, lost):
    saved, made = {}, adamw(model)

    def save(step):
        if step == 5:
            saved["model"] = {n: v.clone() for n, v in model.state_dict().items()}
            saved["made"] = copy.deepcopy(made.state_dict())

    train(path, model, made, last=11, between=save)
    model = network()
    model.load_state_dict(saved["model"])
    made = adamw(model)
    if not lost:
        made.load_state_dict(saved["made"])
    found = replay([trained(path, model, made, first=6, first_step=6, append=True)])
    assert [(one.step, one.exact) for one in found.resumes] == [(6, not lost)]
    assert found.verdict == ("departs" if lost else "agree")
    assert [row[0] for row in found.growth] == [*range(11), *range(6, STEPS)]


def test_a_scheduler_groups_and_parameters_without_gradients_are_recorded(path, model):
    model[0].bias.requires_grad_(False)
    made = torch.optim.AdamW(
        [
            {"params": [model[0].weight, model[0].bias], "lr": torch.tensor(0.02)},
            {"params": [*model[2].parameters()], "weight_decay": 0.5},
        ],
        lr=1e-3,
        foreach=False,
    )
    schedule = torch.optim.lr_scheduler.StepLR(made, 5, 0.5)
    recording = trained(path, model, made, between=lambda step: schedule.step())
    rates = {tuple(group["numbers"]["lr"] for group in step.groups) for step in recording.steps}
    assert len(rates) == 5
    decays = [group["numbers"]["weight_decay"] for group in recording.steps[0].groups]
    assert decays == [0.01, 0.5]
    assert "0.bias" not in recording.steps[0].grads and "0.bias" in recording.steps[0].before
    assert replay([recording]).verdict == "agree"


def test_a_step_that_a_gradient_scaler_skips_is_no_step(path, model):
    made = adamw(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    with samestep.torch.recorder(path, made, model=model):
        for step, x, y in batches():
            made.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            scaler.scale(loss * (math.inf if step == 9 else 1)).backward()
            scaler.step(made)
            scaler.update()
    found = replay([read(path)])
    assert found.verdict == "agree" and found.steps == STEPS - 1


def test_gradients_that_a_closure_makes_are_those_recorded(path):
    paths = []
    for closed in (False, True):
        model = network()
        made = adamw(model)
        paths.append(path.with_name(f"{closed}.safetensors"))
        with samestep.torch.recorder(paths[-1], made, model=model):
            for _, x, y in batches():

                def closure(x=x, y=y, made=made, model=model):
                    made.zero_grad()
                    loss = ((model(x) - y) ** 2).mean()
                    loss.backward()
                    return loss

                if closed:
                    made.step(closure)
                else:
                    closure()
                    made.step()
    one, other = map(read, paths)
    for a, b in zip(one.steps, other.steps, strict=True):
        assert all((a.grads[n].bits == b.grads[n].bits).all() for n in a.grads)
    assert replay([other]).verdict == "agree"


def test_what_calls_its_closure_again_is_refused(path, model):
    made = torch.optim.LBFGS(model.parameters())
    _, x, y = next(iter(batches()))

    def closure():
        made.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        return loss

    with (
        pytest.raises(RecordingError, match="LBFGS calls its closure several times in a step"),
        samestep.torch.recorder(path, made, model=model),
    ):
        made.step(closure)
    assert not [*path.parent.iterdir()]


def test_a_sparse_gradient_is_refused(path):
    table = torch.nn.Embedding(5, 3, sparse=True)
    made = torch.optim.SGD(table.parameters(), 0.1)
    table(torch.tensor([1, 3])).sum().backward()
    with (
        pytest.raises(RecordingError, match="parameter 'weight' has a sparse gradient"),
        samestep.torch.recorder(path, made, model=table),
    ):
        made.step()


@pytest.mark.parametrize("name", ["bfloat16", "float64"])
def test_other_dtypes_agree_and_are_told_from_other_numbers(path, name):
    dtype = getattr(torch, name)
    model = network(dtype)
    made = samestep.torch.AdamW(model.parameters(), lr=2.0**-6, weight_decay=0.1)
    recording = trained(path, model, made, dtype=dtype)
    assert recording.steps[0].grads["0.weight"].dtype == name
    found = replay([recording])
    assert found.verdict == "agree", found.sentences
    if name == "bfloat16":  # the same roundings as they are stored, not only near them
        assert max(row[3] for row in found.growth) < 0.5
    assert replay([recording], Asked(settings={"lr": 2.0**-5})).first.step == 0


def test_without_the_state_only_a_run_from_its_first_step_can_be_judged(path, model):
    made = adamw(model)
    found = replay([trained(path, model, made, steps={0, 1, 8, 9}, state=False)])
    assert found.steps == 2 and found.unchecked[0][:2] == (8, 9)
    said = "2 steps from 8 to 9 could not be judged: the optimizer's state is not in the"
    assert said in found.sentences[0]
    late = trained(path.with_name("late"), model, made, steps={8}, state=False)
    with pytest.raises(RecordingError, match=r"no step can be judged: .* state=False"):
        replay([late])


def test_a_rule_that_sums_over_all_parameters_needs_all_of_them(path, model):
    made = samestep.torch.Prodigy(model.parameters())
    run = trained(path, model, made, parameters="*.weight", steps=3)
    with pytest.raises(RecordingError, match="Prodigy sums over all parameters, of which 2 of 4"):
        replay([run])


def test_the_recorder_leaves_the_run_as_it_is_and_the_optimizer_without_hooks(path):
    ends = []
    for recorded in (False, True):
        model = network()
        made = adamw(model)
        if recorded:
            train(path, model, made, steps=range(0, STEPS, 3))
        else:
            for _, x, y in batches():
                made.zero_grad()
                ((model(x) - y) ** 2).mean().backward()
                made.step()
        ends.append([param.detach().clone() for param in model.parameters()])
        assert not made._optimizer_step_pre_hooks and not made._optimizer_step_post_hooks
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_an_optimizer_that_is_wrapped_is_found_and_others_are_refused(path, model):
    class Wrapped:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    made = adamw(model)
    with samestep.torch.recorder(path, Wrapped(made), model=model):
        for _, x, y in batches(last=2):
            ((model(x) - y) ** 2).mean().backward()
            made.step()
    assert read(path).optimizer == "torch.optim.AdamW"
    with pytest.raises(TypeError, match=r"Linear is no torch\.optim\.Optimizer"):
        samestep.torch.recorder(path, model[0])
    with pytest.raises(RecordingError, match=r"'\*\.kernel' fits no parameter; there are 0\.bias"):
        samestep.torch.recorder(path, made, model=model, parameters="*.kernel")


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_two_recorders_both_see_every_step(tmp_path, model, order):
    optimizer, paths = adamw(model), [tmp_path / "one", tmp_path / "two"]
    recorders = [samestep.torch.recorder(path, optimizer, model=model) for path in paths]
    for one in recorders:
        one.__enter__()
    for place, steps in zip(order, [(0, 3), (3, 7)], strict=True):
        for _, x, y in batches(*steps):
            optimizer.zero_grad()
            model(x).sub(y).square().mean().backward()
            optimizer.step()
        recorders[place].__exit__(None, None, None)
    assert [len(read(paths[place]).steps) for place in order] == [3, 7]
    assert all(replay([read(path)]).verdict == "agree" for path in paths)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, samestep.torch.AdamW])
@pytest.mark.parametrize("first", [True, False])
def test_other_hooks_of_the_optimizer_are_no_part_of_its_step(tmp_path, model, kind, first):
    """The last hook leaves the gradient; what hooks after a step do is not the optimizer's."""
    optimizer, paths = adamw(model, kind), [tmp_path / "one", tmp_path / "two"]
    pre, post = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks

    def clip(*_):
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)

    @torch.no_grad()
    def clamp(optimizer, *_):
        model[0].weight.clamp_(-0.3, 0.3)
        optimizer.param_groups[0]["lr"] *= 0.5

    def register():
        return [optimizer.register_step_pre_hook(clip), optimizer.register_step_post_hook(clamp)]

    def steps(*between):
        for _, x, y in batches(*between):
            optimizer.zero_grad()
            model(x).sub(y).square().mean().backward()
            optimizer.step()

    hooks = register() if first else []
    with samestep.torch.recorder(paths[0], optimizer, model=model):
        hooks += [] if first else register()
        steps(0, 3)
        with samestep.torch.recorder(paths[1], optimizer, model=model, first_step=3):
            if not first:
                hooks[0].remove()
                hooks[0] = optimizer.register_step_pre_hook(clip)
            steps(3, 5)
            copied = pickle.loads(pickle.dumps(copy.deepcopy(optimizer)))
            assert not copied._optimizer_step_pre_hooks and not copied._optimizer_step_post_hooks
    assert [*pre.values()] == [clip] and [*post.values()] == [clamp]
    assert not _global_optimizer_pre_hooks
    for hook in hooks:
        hook.remove()
    assert not pre and not post
    for path, count in zip(paths, [5, 2], strict=True):
        found = replay([read(path)])
        assert found.steps == count and not found.departures and found.changes
        assert {name for _, names in found.changes for name in names} == {"0.weight"}


def test_a_recorder_that_is_let_go_while_it_is_entered_keeps_no_optimizer_alive(path):
    made = adamw(network())
    alive = weakref.ref(made)
    entered = samestep.torch.recorder(path, made).__enter__()
    with pytest.warns(UserWarning, match="no step has been recorded"):
        entered.recorder.close()
    del made, entered
    gc.collect()
    assert alive() is None
    adamw(network()).step()  # for which the hook that is left does nothing
    _global_optimizer_pre_hooks.clear()


def exchange(optimizer):
    one, other = optimizer.param_groups
    one["params"], other["params"] = other["params"], one["params"]


def put_in_front(optimizer):
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(3, 4))]})
    optimizer.param_groups.insert(0, optimizer.param_groups.pop())


def fail(optimizer):
    """A step that fails leaves gradients in the file, which are not of the step in its place."""
    param, lr = optimizer.param_groups[0]["params"][0], optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = "unknown"
    with pytest.raises(ValueError, match="unknown"):
        optimizer.step()
    param.grad, optimizer.param_groups[0]["lr"] = None, lr


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        (lambda optimizer: optimizer.param_groups.pop(0), {"0": 3, "1": 6}),
        (exchange, {"0": 6, "1": 6}),
        (put_in_front, {"0": 6, "1": 6, "2": 3}),
        (fail, {"0": 6, "1": 6}),
    ],
)
def test_what_happens_to_an_optimizer_without_names_is_followed(path, change, steps):
    params = [torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(3, 4))]
    optimizer = samestep.torch.AdamW([{"params": [param]} for param in params], lr=1e-2)
    with samestep.torch.recorder(path, optimizer):
        for step in range(6):
            for place, param in enumerate(params):
                param.grad = torch.cos(param.detach() * (step + place))
            if step == 3:
                change(optimizer)
            optimizer.step()
    found = replay([read(path)])
    assert found.verdict == "agree" and {n: row.steps for n, row in found.rows.items()} == steps


def test_what_cannot_be_recorded_later_on_does_not_end_the_run(path, model):
    optimizer = adamw(model)
    with samestep.torch.recorder(path, optimizer, model=model):
        for step, x, y in batches(0, 3):
            optimizer.zero_grad()
            model(x).sub(y).square().mean().backward()
            if step == 1:
                optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
                optimizer.param_groups[1]["params"][0].grad = torch.ones(2)
                optimizer.param_groups[1]["param_names"] = ["0.weight"]
                with pytest.warns(UserWarning, match="ended at step 1, .* goes on: two parameters"):
                    optimizer.step()
                del optimizer.param_groups[1]
            else:
                optimizer.step()
    assert [step.number for step in read(path).steps] == [0]
