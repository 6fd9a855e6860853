"""timm's factory: our class in its registry, its weight decay filter, layer decay and schedules.

timm imports torchvision for its models. Where that is missing, the real ``timm.optim`` and
``timm.scheduler`` are loaded without the packages around them, which their groups do not need.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from samestep.conformance.integrations import OWN_WARNINGS, agree, pairs

torch = pytest.importorskip("torch")
adapter = pytest.importorskip("samestep.torch")
if find_spec("timm") is None:
    pytest.skip("timm is not installed", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings(*OWN_WARNINGS)

PAIRS = pairs("torch")
NAMES = {"SGD": "momentum", "AdamW": "adamw", "NAdam": "nadam", "RAdam": "radam"}
"""What timm calls the optimizers of torch.optim that it passes on."""
STEPS = 30
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def timm():
    """Its factory and schedules, as ``timm.optim`` and ``timm.scheduler``."""
    if find_spec("torchvision") is None:
        place = Path(next(iter(find_spec("timm").submodule_search_locations)))
        for name in ("timm", "timm.layers", "timm.models"):
            package = sys.modules[name] = ModuleType(name)
            package.__path__ = [str(place.joinpath(*name.split(".")[1:]))]
        layers, models = sys.modules["timm.layers"], sys.modules["timm.models"]
        layers.use_reentrant_ckpt = import_module("timm.layers.config").use_reentrant_ckpt
        models.group_parameters = import_module("timm.models._manipulate").group_parameters
    yield import_module("timm.optim"), import_module("timm.scheduler")
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def create(timm):
    """timm's ``create_optimizer_v2``, which knows our classes as ``samestep-adamw`` and so on."""
    factory = timm[0]._optim_factory
    for name in NAMES:
        cls = getattr(adapter, name)
        factory.default_registry.register(
            factory.OptimInfo(
                name=f"samestep-{name}",
                opt_class=cls,
                has_eps="eps" in cls.__signature__.parameters,
                has_momentum=name == "SGD",
                has_betas=name != "SGD",
                defaults={"like": "torch"},
            )
        )
    return timm[0].create_optimizer_v2


class Blocks(torch.nn.Module):
    """Layers in an order that ``group_matcher`` tells, and a parameter that is never decayed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Linear(6, 8)
        self.position = torch.nn.Parameter(torch.randn(1, 8))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x):
        x = self.embed(x) + self.position
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)

    def group_matcher(self, coarse=False):
        return {"stem": r"^embed|^position", "blocks": r"^blocks\.(\d+)"}

    def no_weight_decay(self):
        return {"position"}


def weights(model):
    return {name: param.detach().numpy() for name, param in model.named_parameters()}


def train(model, optimizer, schedule=None):
    random = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        x, y = (torch.randn(8, size, generator=random) for size in (6, 2))
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), 10 ** (step % 3 - 1) * y).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step_update(step)
    return weights(model)


def both(create, name, options, schedule=lambda optimizer: None):
    """Weights after training, ours and torch's out of the same factory, and the groups of both."""
    found = []
    for opt in (f"samestep-{name}", NAMES[name]):
        model = Blocks()
        optimizer = create(model, opt, lr=0.01, weight_decay=0.1, **options)
        found.append((train(model, optimizer, schedule(optimizer)), optimizer.param_groups))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"filter_bias_and_bn": False},
        {"layer_decay": 0.7},
        {"layer_decay": 0.5, "layer_decay_min_scale": 0.2, "layer_decay_no_opt_scale": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", NAMES)
def test_the_factory_makes_of_our_class_what_it_makes_of_torch_s(create, name, options):
    (ours, our_groups), (theirs, their_groups) = both(create, name, options)
    for mine, other in zip(our_groups, their_groups, strict=True):
        assert len(mine["params"]) == len(other["params"])
        for key in ("lr", "weight_decay", "lr_scale"):
            assert mine.get(key) == other.get(key)
    agree(ours, theirs, weights(Blocks()), TOLERANCE)
    assert {group["weight_decay"] for group in our_groups} == {0.0, 0.1}


@pytest.mark.parametrize("name", NAMES)
def test_timm_s_schedules_scale_the_learning_rate_of_every_layer(timm, create, name):
    def schedule(optimizer):
        return timm[1].CosineLRScheduler(
            optimizer, STEPS, lr_min=1e-4, warmup_t=5, warmup_lr_init=1e-3, t_in_epochs=False
        )

    (ours, our_groups), (theirs, _) = both(create, name, {"layer_decay": 0.7}, schedule)
    agree(ours, theirs, weights(Blocks()), TOLERANCE)
    rates = {group["lr"] for group in our_groups}
    assert len(rates) == len({group["lr_scale"] for group in our_groups}) == 5
    (constant, _), _ = both(create, name, {"layer_decay": 0.7})
    assert any((constant[key] != ours[key]).any() for key in ours)


def test_timm_s_lookahead_goes_around_ours(create):
    """It keeps a tensor of its own in the state of every parameter, and saves it with ours."""

    def trained(opt):
        model = Blocks()
        optimizer = create(model, f"lookahead_{opt}", lr=0.01, weight_decay=0.1)
        train(model, optimizer)
        optimizer.load_state_dict(optimizer.state_dict())
        return train(model, optimizer)

    agree(trained("samestep-adamw"), trained("adamw"), weights(Blocks()), TOLERANCE)


def test_hyperparameters_go_through_the_factory(create):
    optimizer = create(Blocks(), "samestep-adamw", lr=0.5, betas=(0.5, 0.75), eps=1e-3)
    assert optimizer.rule.hypers["betas"] == (0.5, 0.75)
    assert (optimizer.rule.hypers["eps"], optimizer.rule.hypers["lr"]) == (1e-3, 0.5)


def test_an_argument_that_no_rule_has_is_refused_by_name(create):
    with pytest.raises(TypeError, match=r"AdamW\(foreach=True\): there is no foreach"):
        create(Blocks(), "samestep-adamw", lr=0.5, foreach=True)
