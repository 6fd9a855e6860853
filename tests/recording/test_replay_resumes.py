"""Runs of torch that go on elsewhere: what they carried, and whether their numbers go on."""

from __future__ import annotations

import copy
import math

import numpy
import pytest

import samestep
from samestep.recording import RecordingError, read
from samestep.replay import Asked, replay
from samestep.replay.extrapolation import follows

torch = pytest.importorskip("torch")
import samestep.torch  # noqa: E402  (needs torch)
from tests.recording.torch_runs import OPTIMIZERS, STEPS, adamw, network, train, trained  # noqa: E402


def resumed(tmp_path, change, *, append):
    """A run that is interrupted after step 11, with a change to what it goes on with."""
    first, model = tmp_path / "first.safetensors", network()
    made = adamw(model)
    train(first, model, made, last=12)
    kept, saved = model.state_dict(), made.state_dict()
    change(kept, saved)
    model = network()
    made = adamw(model)
    model.load_state_dict(kept)
    if saved["state"]:
        made.load_state_dict(saved)
    second = first if append else tmp_path / "second.safetensors"
    train(second, model, made, first=12, append=append)
    return replay([read(path) for path in ([first] if append else [first, second])])


def nothing(kept, saved):
    pass


def lose_state(kept, saved):
    saved["state"].clear()


def lose_steps(kept, saved):
    for own in saved["state"].values():
        own["step"] = torch.zeros(())


def lose_slots(kept, saved):
    for own in saved["state"].values():
        own["exp_avg"] = torch.zeros_like(own["exp_avg"])
        own["exp_avg_sq"] = torch.zeros_like(own["exp_avg_sq"])


def round_weights(kept, saved):
    kept["0.weight"] = kept["0.weight"].to(torch.bfloat16).float()


def lose_v(kept, saved):
    for own in saved["state"].values():
        own["exp_avg_sq"] = torch.zeros_like(own["exp_avg_sq"])


def lose_m_of_one(kept, saved):
    saved["state"][1]["exp_avg"] = torch.zeros_like(saved["state"][1]["exp_avg"])


def round_state(kept, saved):
    for own in saved["state"].values():
        for name in ("exp_avg", "exp_avg_sq"):
            own[name] = own[name].bfloat16().float()


def count_one_less(kept, saved):
    for own in saved["state"].values():
        own["step"] -= 1


def exchange(kept, saved):
    own = saved["state"][0]
    own["exp_avg"], own["exp_avg_sq"] = own["exp_avg_sq"], own["exp_avg"]


ANOTHER = "the parameters were carried exactly, but the state is another: "
SAID = {
    nothing: "exact",
    lose_v: f"{ANOTHER}v is 0",
    lose_m_of_one: f"{ANOTHER}m is 0 (0.bias)",
    round_state: f"{ANOTHER}m and v are rounded to bfloat16",
    count_one_less: f"{ANOTHER}it has counted 11 steps in place of 12",
    exchange: f"{ANOTHER}m is what v should be, v is what m should be (0.weight)",
    lose_state: "the parameters were carried exactly, but the optimizer went on as if the state "
    "was empty and steps were counted from 0",
    lose_steps: "the parameters were carried exactly, but the optimizer went on as if steps were "
    "counted from 0, with the state as it was",
    lose_slots: "the parameters were carried exactly, but the optimizer went on as if the state "
    "was empty, with steps counted on",
    round_weights: "the parameters are not those with which it ended: 0.weight",
}


@pytest.mark.parametrize("append", [False, pytest.param(True, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("change", SAID)
def test_it_is_said_what_a_resumed_run_went_on_with(tmp_path, change, append):
    found = resumed(tmp_path, change, append=append)
    assert [one.step for one in found.resumes] == [12]
    assert found.resumes[0].sentences == [SAID[change]]
    assert found.resumes[0].exact == (change is nothing)
    assert found.verdict == ("agree" if change is nothing else "departs")
    assert not found.departures and found.steps == STEPS


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["state in bfloat16", *OPTIMIZERS])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_resume_of_any_optimizer_is_exact(tmp_path, name, dtype):
    """Also in 16 bits, where an average drifts from what the rule computes."""
    kind = getattr(torch, dtype)
    narrow = {"lr": 1e-2, "state_dtype": "bfloat16"}
    make = OPTIMIZERS.get(name, lambda m: samestep.torch.AdamW(m.parameters(), **narrow))
    model = network(kind)
    made = make(model)
    first = train(tmp_path / "first", model, made, last=120, dtype=kind)
    model, saved = network(kind), (model.state_dict(), made.state_dict())
    model.load_state_dict(saved[0])
    made = make(model)
    made.load_state_dict(saved[1])
    second = train(tmp_path / "second", model, made, first=120, last=130, dtype=kind)
    assert replay([read(first), read(second)]).sentences == ["resumed at step 120: exact"]


@pytest.mark.parametrize("what", ["state", "state and parameters"])
def test_a_checkpoint_of_one_step_before_is_named(path, model, what):
    made, saved = adamw(model), {}

    def save(step):
        if step == 10:
            saved.update(
                model=copy.deepcopy(model.state_dict()), made=copy.deepcopy(made.state_dict())
            )

    train(path, model, made, last=12, between=save)
    if what != "state":
        model.load_state_dict(saved["model"])
    made = adamw(model)
    made.load_state_dict(saved["made"])
    found = replay([trained(path, model, made, first=12, append=True)])
    state = (
        "the state is another: m and v are from before step 11, it has counted 11 steps in place"
    )
    *others, last = found.resumes[0].sentences
    assert state in last and len(others) == (what != "state")
    assert all("the parameters are those before step 11: all" in sentence for sentence in others)


def test_a_shared_number_that_was_lost_is_named(path, model):
    made = samestep.torch.Prodigy(model.parameters())
    train(path, model, made, last=12)
    for group in made.param_groups:
        group["d"] = torch.full_like(group["d"], 1e-6)
    found = replay([trained(path, model, made, first=12, append=True)])
    assert "the state is another: d is 1e-06 in place of" in " ".join(found.sentences)


def scheduled(model, made, path, first, last, rates, **how):
    """A part of a run with these learning rates, by step."""

    def rate(step):
        for group in made.param_groups:
            group["lr"] = rates(step + 1)

    for group in made.param_groups:
        group["lr"] = rates(first)
    return train(path, model, made, first=first, last=last, between=rate, **how)


RATES = {
    "cosine": lambda step: 5e-3 * (1 + math.cos(math.pi * step / STEPS)),
    "warmup": lambda step: 1e-3 * (step + 1),
    "to zero": lambda step: 1e-3 * max(13 - step, 0),
    "every epoch": lambda step: 1e-2 * 0.5 ** (step // 4),
    "constant": lambda step: 1e-2,
}


FEW = ("cosine", "every epoch")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FEW else pytest.mark.thorough) for n in RATES]
)
def test_a_schedule_goes_on_over_a_resume_or_is_named(path, model, name):
    rates, verdicts = RATES[name], {}
    for begun in (12, 0):
        made, one = adamw(model), path.with_name(f"{begun}.safetensors")
        scheduled(model, made, one, 0, 12, rates)
        shifted = lambda step, by=12 - begun: rates(step - by)  # noqa: E731
        scheduled(model, made, one, 12, STEPS, shifted, append=True)
        found = replay([read(one)])
        verdicts[begun] = found.verdict
        if begun == 0 and name != "constant":
            was, is_ = rates(11), rates(0)
            assert found.resumes[0].sentences == [
                f"the schedule of lr began again: lr was {was:.6g} at step 11, and is {is_:.6g} at "
                "step 12 as at step 0"
            ]
            assert found.resumes[0].carried and not found.resumes[0].exact
    assert verdicts == {12: "agree", 0: "agree" if name == "constant" else "other numbers"}


def ahead(schedule):
    schedule.step()


def still(schedule):
    schedule.step = lambda: None


FOLLOW = {
    None: "exact",
    ahead: "the schedule of lr is a step ahead: lr was 0.00853553 at step 5, and is 0.00726995 "
    "from step 6 on",
    still: "the schedule of lr stands still: lr was 0.00853553 at step 5, and is 0.00793893 from "
    "step 6 on",
}


@pytest.mark.parametrize("change", FOLLOW)
def test_a_schedule_that_is_a_step_off_or_stands_still_is_named(tmp_path, change):
    def made():
        model = network()
        optimizer = adamw(model)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)

    def part(name, parts, first, last):
        model, optimizer, schedule = parts
        between = lambda step: schedule.step()  # noqa: E731
        return trained(tmp_path / name, model, optimizer, between=between, first=first, last=last)

    begun = made()
    one, resumed = part("first", begun, 0, 6), made()
    for old, new in zip(begun, resumed, strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    if change is not None:
        change(resumed[2])
    found = replay([one, part("second", resumed, 6, 12)])
    assert found.resumes[0].sentences == [FOLLOW[change]]
    assert found.verdict == ("agree" if change is None else "other numbers")


@pytest.mark.parametrize(
    ("past", "after", "said"),
    [
        ([1e-2] * 4 + [5e-3] * 4 + [2.5e-3] * 4, [1.25e-3] * 4, ""),
        ([1e-2] * 4 + [5e-3] * 4 + [2.5e-3] * 4, [2.5e-3, 1.25e-3], "is a step behind"),
        ([1e-2] * 4 + [5e-3] * 4 + [2.5e-3] * 3, [1.25e-3] * 4, "is a step ahead"),
        ([1e-2] * 4 + [5e-3] * 2, [5e-3] * 2 + [2.5e-3] * 4, ""),
        ([1e-2] * 4 + [5e-3] * 2, [5e-3] + [2.5e-3] * 4, None),  # no period, or a step ahead
        ([1e-2], [5e-3], None),
        ([1e-2] * 9, [1e-2] * 2, ""),
        ([0.1 / (1 + t) for t in range(9)], [0.1 / 10, 0.1 / 11], ""),
        ([0.1 / (1 + t) for t in range(9)], [0.1 / 10, 0.1 / 10, 0.1 / 11], "is a step behind"),
        ([0.1 / (1 + t) ** 0.5 for t in range(9)], [0.1 / 11**0.5], "is a step ahead"),
        ([1e-3 * max(13 - t, 0) for t in range(12)], [1e-3, 0.0, 0.0, 0.0], ""),
        ([0.01 * t for t in range(9)], [0.09, 0.085], None),  # a warm-up may end there
    ],
)
def test_whether_a_number_goes_on_is_said_only_where_it_can_be_known(past, after, said):
    values = [[float(numpy.float32(value)) for value in part] for part in (past, after)]
    assert follows(*values) == said


def test_what_was_not_recorded_is_not_said_to_be_exact(tmp_path, model):
    made, rates = adamw(model), [1e-2, 9e-3, 9e-3, 5e-3, 4e-3, 4e-3, 2e-3, 2e-3]
    paths = [tmp_path / "first", tmp_path / "second"]
    scheduled(model, made, paths[0], 0, 4, lambda step: rates[step], state=False)
    for own in made.state.values():
        own["exp_avg"].mul_(1.00001)
    scheduled(model, made, paths[1], 4, 7, lambda step: rates[step], state=False)
    found = replay([*map(read, paths)])
    assert found.verdict == "agree" and not found.resumes[0].exact
    assert found.resumes[0].sentences == [
        "parameters were carried exactly",
        "the state is not in the recording (it was recorded with state=False); only its steps "
        "could be judged",
        "whether lr goes on cannot be judged: lr was 0.005 at step 3, and is 0.004",
    ]


BOTH = "parameters and state were carried exactly"
AFTER = "not recorded after it: 0.weight"
FROM = "not recorded before it, and judged from there on: 0.weight"
UNKNOWN = "not recorded before it, nor their state, and not judged: 0.weight"
WITHOUT = ("2.*", "0.bias")
NO_STATE = (
    "the state is not in the recording (it was recorded with state=False); only its steps could be "
    "judged"
)


@pytest.mark.parametrize(
    ("parts", "said", "judged"),
    [
        (["*", WITHOUT], [[BOTH, AFTER]], 2),
        ([WITHOUT, "*"], [[BOTH, FROM]], 2),
        (["*", WITHOUT, "*"], [[BOTH, AFTER], [BOTH, FROM]], 4),
        ([WITHOUT, ("*", False)], [["parameters were carried exactly", NO_STATE, UNKNOWN]], 0),
        (["*", WITHOUT, ("*", False)], [[BOTH, AFTER], [NO_STATE, UNKNOWN]], 2),
        ([WITHOUT, "0.weight"], [[FROM, "not recorded after it: 0.bias, 2.weight, 2.bias"]], 2),
        ([WITHOUT, ("0.weight", False)], [[NO_STATE, UNKNOWN]], 0),
    ],
)
def test_what_was_not_recorded_is_named_and_the_rest_is_judged(
    tmp_path, model, parts, said, judged
):
    """Parts of a run that have other parameters, of two groups with numbers of their own."""
    groups = [{"params": [model[0].weight], "lr": 3e-3}, {"params": [*model.parameters()][1:]}]
    made, paths = torch.optim.AdamW(groups, lr=1e-2), []
    for place, part in enumerate(parts):
        patterns, state = part if isinstance(part, tuple) and False in part else (part, True)
        paths.append(tmp_path / str(place))
        how = {"first": 2 * place, "last": 2 * place + 2, "first_step": 2 * place}
        train(paths[-1], model, made, parameters=patterns, state=state, **how)
    found = replay([*map(read, paths)])
    assert found.verdict == "agree" and not found.departures
    for resume, sentences in zip(found.resumes, said, strict=True):
        assert not resume.exact and {*sentences} <= {*resume.sentences}
    row = found.rows.get("0.weight")
    assert (row.steps if row else 0) == judged
    left = sum(last - first + 1 for first, last, _ in found.unchecked)
    assert found.steps + left == 2 * len(parts) and bool(left) == (parts[-1] == ("0.weight", False))


def test_a_group_that_is_removed_and_comes_back_is_judged(path, model):
    made = torch.optim.AdamW([{"params": [part.weight]} for part in (model[0], model[2])], lr=1e-2)
    kept = []

    def change(step):
        if step == 3:
            kept.append(made.param_groups.pop())
        if step == 6:
            made.param_groups.append(kept.pop())

    found = replay([trained(path, model, made, between=change, last=10)])
    assert found.verdict == "agree" and found.rows["2.weight"].steps == 7


def test_numbers_that_two_groups_have_exchanged_at_a_resume_are_named(path, model):
    groups = [
        {"params": [part.weight], "lr": lr} for part, lr in ((model[0], 0.01), (model[2], 0.02))
    ]
    made = torch.optim.AdamW(groups)
    train(path, model, made, last=4)
    made.param_groups[0]["lr"], made.param_groups[1]["lr"] = 0.02, 0.01
    found = replay([trained(path, model, made, first=4, last=8, append=True)])
    assert found.verdict == "other numbers"
    said = "lr was 0.01 and 0.02 at step 3, and is 0.02 and 0.01 from step 4 on"
    assert found.resumes[0].numbers == [said]


def test_other_numbers_after_a_resume_are_named(path, model):
    made = adamw(model)
    train(path, model, made, last=8)
    made.param_groups[0].update(weight_decay=0.0, betas=(0.8, 0.999), maximize=True)
    found = replay([trained(path, model, made, first=8, append=True)])
    assert found.verdict == "other numbers" and not found.departures
    for words in (
        "weight_decay was 0.1 at step 7, and is 0 from",
        "betas was (0.9, 0.999) at step 7, and is (0.8, 0.999)",
        "maximi",
    ):
        assert any(words in sentence for sentence in found.resumes[0].sentences), words
    made.param_groups[0].update(weight_decay=0.1, betas=(0.9, 0.999), lr=0.02)
    found = replay([trained(path, model, made, first=4, last=6, append=True, first_step=4)])
    assert "lr was 0.01 at step 4 before the resume, and is 0.02" in found.resumes[1].sentences


def test_a_file_of_another_optimizer_is_no_part_of_a_run(tmp_path, model):
    first = train(tmp_path / "first", model, samestep.torch.AdamW(model.parameters()), last=3)
    other = train(tmp_path / "other", model, samestep.torch.Lion(model.parameters()), last=3)
    words = r"other.* does not go on where the part before it ends: Lion: .* slots m, v; Lion keeps"
    with pytest.raises(RecordingError, match=words):
        replay([read(first), read(other)])


def test_steps_that_are_in_no_file_are_said_to_be(tmp_path, model):
    made = adamw(model)
    first = train(tmp_path / "first", model, made, last=4)
    made.param_groups[0]["lr"] *= 50
    second = train(tmp_path / "second", model, made, first=6, last=9, first_step=6)
    (resume,) = replay([read(first), read(second)]).resumes
    assert not resume.exact
    assert resume.sentences == [
        "steps 4 to 5 are in no file, so it cannot be judged how the run went on"
    ]


@pytest.mark.parametrize("change", [lambda v: v.zero_(), lambda v: v.mul_(1.1)])
@pytest.mark.parametrize("size", [7e-19, 2e-18])
def test_tiny_slots_are_compared_too(tmp_path, size, change):
    """Squares of gradients may be below the numbers that float32 holds in full."""
    model = torch.nn.Linear(4, 1, bias=False)
    param = model.weight
    optimizer = torch.optim.Adam([param], lr=0.01, eps=0.0)

    def run(path, first, steps):
        with samestep.torch.recorder(path, optimizer, model=model, first_step=first):
            for step in range(steps):
                param.grad = size * torch.tensor([[1.0, -0.5, 2.0, 0.75]]) * (1 + step % 3)
                optimizer.step()
        return read(path)

    first = run(tmp_path / "first", 0, 10)
    change(optimizer.state[param]["exp_avg_sq"])
    found = replay([first, run(tmp_path / "second", 10, 1)])
    assert found.verdict == "departs" and "v is" in found.resumes[0].sentences[0]


@pytest.mark.parametrize("changes", [{"eps": 1e-5}, {"weight_decay": 1e-4}])
def test_a_number_kept_in_float32_hides_no_other_number(tmp_path, changes):
    """As torch keeps NAdam's product of momenta beside parameters in float64."""
    model = network(torch.float64)
    made = torch.optim.NAdam(model.parameters(), 1e-2, eps=1e-8, weight_decay=0.0)
    recorded = read(train(tmp_path / "run", model, made, last=12, dtype=torch.float64))
    assert replay([recorded]).verdict == "agree"
    assert replay([recorded], Asked(settings=changes)).verdict == "departs"
