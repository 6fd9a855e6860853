"""A step on accelerators that are pretended: what it launches, and what crosses to the host."""

from itertools import product

import pytest

torch = pytest.importorskip("torch")

import samestep  # noqa: E402
from samestep import torch as adapter  # noqa: E402
from samestep.conformance.harness import launches  # noqa: E402
from samestep.conformance.harness.accelerators import KINDS, Accelerator  # noqa: E402
from samestep.conformance.harness.launch_table import SMALL  # noqa: E402
from samestep.conformance.harness.launches import CUDA_12, CUDA_13  # noqa: E402
from samestep.conformance.harness.parametrized import each_rule  # noqa: E402
from samestep.conformance.harness.settings import typical  # noqa: E402
from samestep.rule import registry  # noqa: E402
from samestep.torch import kernels  # noqa: E402
from samestep.torch.coefficients import Coefficients  # noqa: E402
from samestep.torch.gathering import ALIGNED, _Gathered  # noqa: E402

EXECUTIONS = ["reference", "packed", "compiled"]
DTYPES = [torch.float32, torch.bfloat16]
WIDTH = 768
LAYER = [
    *[(WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,)],
    *[(WIDTH,), (WIDTH,), (4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,)],
]
GPT_2 = [(50257, WIDTH), (1024, WIDTH), *LAYER * 12, (WIDTH,), (WIDTH,)]


def _cases():
    """Every execution on every device in every dtype; one of them is not thorough."""
    usual = {("compiled", "mps", False)}
    for execution in EXECUTIONS:
        for kind in KINDS:
            for dtype in DTYPES:
                for capturable in (False, True):
                    quick = dtype is torch.float32 and (execution, kind, capturable) in usual
                    yield pytest.param(
                        *(execution, kind, dtype, capturable),
                        id=f"{execution}-{kind}-{dtype}{'-capturable' * capturable}",
                        marks=[] if quick else pytest.mark.thorough,
                    )


def shapes_of(rule):
    return [shape for shape in [(7, 3), (5,), (8, 8), (8, 8)] if len(shape) >= rule.min_ndim]


@pytest.mark.parametrize(("execution", "kind", "dtype", "capturable"), [*_cases()])
@pytest.mark.parametrize("name", each_rule())
def test_only_coefficients_cross_and_at_once(name, execution, kind, dtype, capturable):
    rule = typical(registry[name])
    with Accelerator(kind) as device:
        params = device.parameters(shapes_of(rule), dtype)
        options = {"execution": execution, "capturable": capturable}
        device.step(adapter.bind(rule, params, **options))
    assert device.crossings == {} and not device.moved
    assert device.sent.total() <= (execution == "compiled" and not capturable), device.sent


@pytest.mark.parametrize(
    ("name", "kind", "execution"),
    [("AdamW", "mps", "compiled"), ("Lion", "cuda", "compiled"), ("AdamW", "mps", "packed")],
)
def test_a_step_for_a_cuda_graph_copies_nothing(name, kind, execution):
    with Accelerator(kind) as device:
        params = device.parameters([(7, 3), (5,)])
        device.step(getattr(adapter, name)(params, execution=execution, capturable=True))
    assert device.crossings == {} and not device.sent


@pytest.mark.parametrize(
    ("execution", "kind"),
    [
        pytest.param(*pair, marks=[] if pair == ("compiled", "mps") else pytest.mark.thorough)
        for pair in product(EXECUTIONS, KINDS)
    ],
)
@pytest.mark.parametrize("name", ["AdamW", pytest.param("Prodigy", marks=pytest.mark.thorough)])
def test_what_a_grad_scaler_leaves_to_a_step_crosses_nothing(name, execution, kind):
    """Whether to step, and the scale, come to every other device once, for all its kernels."""
    rule = typical(registry[name])
    with Accelerator(kind) as device:
        params = [
            param
            for index, dtype in [(0, DTYPES[0]), (1, DTYPES[0]), (1, DTYPES[1])]
            for param in device.parameters([(4, 5), (3,)], dtype, index)
        ]
        optimizer = adapter.bind(rule, params, execution=execution, capturable=True)
        optimizer.grad_scale = torch.ones((), device=f"{kind}:0")
        optimizer.found_inf = torch.zeros((), device=f"{kind}:0")
        device.step(optimizer)
    assert device.crossings == {} and not device.sent
    assert rule.phases or [*device.moved.values()] == [1, 1, 1], device.moved


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.min_ndim < 2, most=2))
def test_alike_parameters_cost_the_launches_of_one(name):
    rule, counts = typical(registry[name]), []
    for count, execution in [(1, "reference"), (9, "packed"), (9, "compiled")]:
        with Accelerator("cuda") as device:
            params = device.parameters([(8, 8)] * count)
            device.step(adapter.bind(rule, params, execution=execution))
            counts.append(device.launches)
    one, packed, compiled = counts
    assert packed <= one + 6 and compiled <= packed, counts


@pytest.mark.parametrize("name", each_rule(lambda rule: not rule.sees_axes, most=3))
def test_parameters_of_any_shape_cost_the_launches_of_one(name):
    """Sums of the parameters of a vector take three launches each; over all they are one kernel."""
    rule, counts = typical(registry[name]), []
    for shapes, execution in [(SMALL[:1], "reference"), (SMALL, "packed"), (SMALL, "compiled")]:
        with Accelerator("cuda") as device:
            device.step(adapter.bind(rule, device.parameters(shapes), execution=execution))
            counts.append(device.launches)
    one, packed, compiled = counts
    assert packed <= one + 15 and device.launched["compiled"] == 1 + 2 * rule.phases, counts
    assert compiled <= 6 + 2 * rule.phases or rule.withheld, counts


@pytest.mark.parametrize("name", each_rule(lambda rule: rule.sees_axes, most=2))
def test_parameters_of_several_shapes_are_gathered_and_put_back_together(name):
    rule = typical(registry[name])
    shapes = [shape for shape in SMALL if len(shape) >= rule.min_ndim]
    with Accelerator("cuda") as device:
        device.step(adapter.bind(rule, device.parameters(shapes), execution="compiled"))
    assert device.launched["cat"] == 2 and device.launched["compiled"] == len({*shapes})
    assert device.launches <= 5 + len({*shapes})


def launched(make, shapes, kind="cuda", table=CUDA_12):
    with Accelerator(kind, table) as device:
        device.step(make(device.parameters(shapes)))
        return device.launches


def foreach(params):
    return torch.optim.AdamW(params, foreach=True)


def ours(execution):
    return lambda params: adapter.AdamW(params, execution=execution)


def test_a_large_parameter_costs_the_launches_of_a_small_one():
    """Pieces are for the caches of a CPU."""
    counts = {launched(ours("packed"), [(size,)]) for size in (1 << 10, 1 << 20, 1 << 24)}
    assert len(counts) == 1, counts


@pytest.mark.parametrize(
    ("kind", "table", "expected"),
    [
        pytest.param("cuda", CUDA_12, (15, 22, 6), id="cuda-12"),
        # AdamW is 18 operations, of which foreach has one for several
        pytest.param("cuda", CUDA_13, (8, 21, 5), marks=pytest.mark.thorough, id="cuda-13"),
        pytest.param("xpu", CUDA_12, (8, 21, 5), marks=pytest.mark.thorough, id="xpu"),
        pytest.param("mps", CUDA_12, (800, 318, 302), marks=pytest.mark.thorough, id="mps"),
    ],
)
def test_launches_for_a_hundred_small_parameters(kind, table, expected):
    made = [foreach, ours("packed"), ours("compiled")]
    assert tuple(launched(make, SMALL, kind, table) for make in made) == expected


def test_counts_begin_on_the_device():
    """What the first step sends does not grow with the number of parameters."""
    sent = []
    for count in (1, 5):
        with Accelerator("cuda") as device:
            params = device.parameters([(3,)] * count)
            adapter.AdamW(params, execution="packed", capturable=True).step()
            sent.append(device.sent.total())
    assert sent[0] == sent[1] <= 2, device.sent  # the counts of all, and that of calls


def test_a_number_is_made_once_on_a_device():
    """And not for every group again."""
    counts = []
    for groups in (1, 5):
        with Accelerator("cuda") as device:
            lrs = [10.0**-place for place in range(groups)]
            given = [{"params": device.parameters([(3,)]), "lr": lr} for lr in lrs]
            device.step(adapter.AdamW(given, execution="compiled", capturable=True))
            counts.append(device.launched["full"])
    assert counts[1] - counts[0] <= 3 * 4, counts  # what depends on the learning rate


@pytest.mark.thorough
def test_launches_for_the_shapes_of_gpt_2():
    made = [foreach, ours("packed"), ours("compiled")]
    assert [launched(make, GPT_2) for make in made] == [56, 81, 43]


@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_of_all_groups_and_dtypes_are_copied_once_to_each_device(kind):
    """The host goes on meanwhile, where it can: from pinned memory."""
    dtypes = DTYPES if kind == "mps" else [*DTYPES, torch.float64]
    with Accelerator(kind) as device:
        groups = [
            {"params": device.parameters([(3,), (4, 2)], dtype, index), "lr": 10.0**-place}
            for place, dtype in enumerate(dtypes)
            for index in (0, 1)
        ]
        device.step(adapter.AdamW(groups, execution="compiled"))
    (place,) = {*device.sent}
    assert place.startswith("pageable" if kind == "mps" else "pinned") and "waits" not in place
    assert device.sent.total() == 2 and not device.moved
    assert device.crossings == {} and device.launched["compiled"] == 2 * len(dtypes)


def test_vectors_that_are_copied_together_keep_their_values():
    coefficients, found = Coefficients(), []
    for dtype, values in [
        (torch.float32, {"x": 0.1, "pair": (0.2, True), "more": {"y": 3, "z": 7}}),
        (torch.float64, {"x": 0.1}),
        (torch.bfloat16, {"x": torch.tensor(0.7), "y": 0.25}),
    ]:
        found.append(coefficients(values, torch.zeros(2, dtype=dtype)))
    copied = coefficients._copied(torch.device("cpu"))
    assert [own.vector.dtype for own in found] == [torch.float32, torch.float64, torch.float32]
    for own in found:
        assert torch.equal(copied[id(own.vector)], own.vector)
    assert copied[id(found[0].vector)].tolist() == torch.tensor([0.1, 0.2, 1, 3, 7]).tolist()


def test_tensors_of_several_shapes_are_joined_in_order():
    tensors = [torch.arange(6.0).view(2, 3).t(), torch.tensor(7.0), torch.arange(8.0, 10)]
    shapes = [tensor.shape for tensor in tensors]
    gathered = _Gathered(tensors[0], [((-1,), shapes), ((2, 2), shapes[2:] * 2)])
    tensors += tensors[2:]
    gathered.fill([*tensors, tensors[2]])
    expected = [vector.clone() for vector in gathered.vectors]
    (_, filler), *_ = gathered.fillers
    memory = gathered.vectors[0].new_zeros(ALIGNED + 4)
    gathered.cuda = memory
    gathered.fill([*tensors, tensors[2]])
    assert torch.equal(memory[:9], expected[0]) and len(filler) == ALIGNED - 9
    assert torch.equal(memory[ALIGNED:].view(2, 2), expected[1])
    assert expected[0].tolist() == [0, 3, 1, 4, 2, 5, 7, 8, 9]
    assert expected[1].tolist() == [[8, 9], [8, 9]]
    with pytest.raises(RuntimeError, match="other shapes"):
        gathered.fill([tensors[0].t(), *tensors[1:], tensors[2]])


def test_the_choice_of_auto_on_each_device(monkeypatch):
    for triton in (True, False):
        monkeypatch.setattr(kernels, "has_triton", lambda triton=triton: triton)
        for kind in KINDS:
            with Accelerator(kind) as device:
                chosen, reason = kernels.chosen(device.parameters([(1000, 1000)]))
            compiled = triton and kind == "cuda"
            assert chosen == ("compiled" if compiled else "packed")
            assert compiled or reason == f"torch.compile is not used on {kind}"


def test_launches_of_lists_are_counted_as_pytorch_makes_them():
    def count(sizes, most, table, kind="cuda"):
        lists = [[torch.empty(size, device="meta") for size in sizes]]
        return launches.of_lists(lists, most, kind, table.blocks)

    block = launches.BLOCK
    assert count([1] * 110, 110, CUDA_12) == 1 and count([1] * 111, 110, CUDA_12) == 2
    assert count([block * 320], 110, CUDA_12) == 1 and count([block * 320 + 1], 110, CUDA_12) == 2
    assert count([block * 319, 2 * block, 1], 110, CUDA_12) == 2
    assert count([0, 3, 0], 110, CUDA_12) == 1 and count([0], 110, CUDA_12) == 0
    assert count([1] * 111, 770, CUDA_13) == 1 and count([1] * 111, 110, CUDA_12, "mps") == 111


FAULTS = {"none": None, "read": "reads", "host": "mixed", "double": "doubles"}


class Faulty(samestep.Rule, register=False):
    """A rule with a fault that shows on an accelerator only."""

    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
    fault = samestep.option("none", dict.fromkeys(FAULTS, "a fault"), choices=tuple(FAULTS))

    def direction(self, xp, grad, param, state, s):
        if not isinstance(grad, torch.Tensor):  # where the rule is tried
            return grad, {}
        if self.fault == "read":
            return grad * xp.sum(grad).item(), {}
        if self.fault == "host":
            return grad * xp.asarray(0.5), {}
        if self.fault == "double":
            return grad * xp.asarray(0.5, dtype=xp.float64, device=grad.device), {}
        return grad, {}


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(fault, execution):
    with Accelerator("mps") as device:
        params = device.parameters([(4,), (3, 2)])
        device.step(adapter.bind(Faulty(fault=fault), params, execution=execution))
    if FAULTS[fault] is None:
        assert device.crossings == {}
    else:
        assert "test_accelerators.py" in " ".join(device.crossings[FAULTS[fault]])


class Begun(samestep.Rule, register=False):
    """A rule with a fault that only its first step has."""

    lr = samestep.hyper(0.1, "step size", unit="parameter", ge=0)
    start = samestep.slot(
        "the first value of the parameter",
        init=samestep.vocabulary.Initial(
            lambda xp, param, rule: xp.astype(xp.astype(param, xp.float64), param.dtype),
            lambda shape, rule: shape,
        ),
    )

    def direction(self, xp, grad, param, state, s):
        return grad, {"start": state.start}


def test_a_fault_of_the_first_step_is_seen():
    with Accelerator("mps") as device:
        device.step(adapter.bind(Begun(), device.parameters([(), (3,)]), execution="reference"))
    assert device.crossings.keys() == {"doubles"}


def test_a_kernel_of_parameters_on_the_host_mixes_nothing():
    with Accelerator("cuda") as device:
        param = torch.empty(4, device="cpu").requires_grad_()
        param.grad = torch.empty(4, device="cpu")
        device.step(adapter.AdamW([param, *device.parameters([()])], execution="compiled"))
    assert device.crossings == {} and device.launched["compiled"] == 2


@pytest.mark.thorough
def test_the_compiler_makes_one_kernel_of_an_element_rule():
    from torch._inductor import config, metrics  # noqa: PLC0415  (importing it takes a second)

    params = [torch.zeros(40_000), torch.zeros(3, 2)]
    for param in params:
        param.grad = torch.ones_like(param)
    kernels.forget()
    metrics.reset()
    with config.patch(force_disable_caches=True):
        adapter.AdamW(params, execution="compiled").step()
    kernels.forget()
    assert metrics.generated_kernel_count == 1


@pytest.mark.parametrize(
    ("execution", "capturable"),
    [
        pytest.param(
            *(execution, capturable),
            id=f"{execution}{'-capturable' * capturable}",
            marks=[] if execution == "compiled" and not capturable else pytest.mark.thorough,
        )
        for execution in EXECUTIONS
        for capturable in (False, True)
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        *each_rule(lambda rule: rule.phases, most=2),
        *each_rule(lambda rule: not rule.phases, most=1),
    ],
)
def test_several_devices_share_what_all_read_once(name, execution, capturable):
    """No operation mixes them; copies between them are as many for many parameters as for few."""
    rule, counts = typical(registry[name]), []
    for count in (2, 5):
        with Accelerator("cuda") as device:
            params = [
                param
                for _ in range(count)
                for index in (0, 1)
                for param in device.parameters([(4, 5)], index=index)
            ]
            options = {"execution": execution, "capturable": capturable}
            device.step(adapter.bind(rule, params, **options))
            assert device.crossings == {}
            assert device.sent.total() <= 2 * (execution == "compiled" and not capturable)
            counts.append(device.moved.total())
    most = 0 if not rule.phases else 3 + 2 * capturable
    assert counts[0] == counts[1] <= most, device.moved


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", ["AdamW", pytest.param("Prodigy", marks=pytest.mark.thorough)])
def test_a_learning_rate_on_another_device_comes_once(name, execution):
    rule, counts = typical(registry[name]), []
    for count in (1, 3):
        with Accelerator("cuda") as device:
            lr = torch.full((), 0.1, device="cuda:1")
            shapes = [[(4, 5), (place + 2,)] for place in range(count)]
            groups = [{"params": device.parameters(own), "lr": lr} for own in shapes]
            device.step(adapter.bind(rule, groups, execution=execution, capturable=True))
            assert device.crossings == {} and not device.sent
            counts.append(device.moved.total())
    assert counts == [1, 1], device.moved
