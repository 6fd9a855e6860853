"""Plain tensors of several processes: copies that share work, slices, and what is refused."""

from __future__ import annotations

import pytest
import torch

import samestep
import samestep.torch as adapter
from samestep.conformance.harness import collectives
from samestep.conformance.harness.ranks import started
from samestep.conformance.harness.torch_training import gradient

from .test_pieces import spread, whole

pytestmark = pytest.mark.sharded
ranks = started("torch", 2)
four = started("torch", 4)

SHAPES = [(48, 32), (32, 48), (40, 40), (48, 32), (24, 64), (64, 24), (40, 40), (32, 32), (16,)]
ROUTE = samestep.route(
    (samestep.Where(min_ndim=2), samestep.Muon(lr=0.02)), samestep.AdamW(lr=0.01)
)


class Products(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the multiplications in products of matrices."""

    done = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm"):
            self.done += found.numel() * args[-1].shape[-2]
        return found


def made(shapes=SHAPES, dtype=torch.float32):
    noise = torch.Generator().manual_seed(1)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=noise, dtype=dtype)) for shape in shapes
    ]


def sharing(rank, world):
    """Copies that share the work, next to one that does not; the share of the products."""
    alone, params = made(), made()
    one = adapter.bind(ROUTE, alone)
    optimizer = adapter.bind(ROUTE, params, share_work=torch.distributed.group.WORLD)
    for step in range(5):
        for place, param in enumerate(alone):
            param.grad = gradient(step, place, param)
            params[place].grad = param.grad.clone()
        with Products() as all_of_it:
            one.step()
        with Products() as own, collectives.counted() as found:
            optimizer.step()
        assert all(map(torch.equal, alone, params)), step
    return own.done / all_of_it.done, collectives.names(found)


def test_copies_divide_the_work_with_whole_matrices(four):
    found = four.run(sharing, 4)
    assert all(names == {"all_to_all": 1} for _, names in found)
    assert max(share for share, _ in found) <= 1.2 / 4, found
    assert sum(share for share, _ in found) == pytest.approx(1)


CUTS = {"flat": (40, 23), "rows": (0, 5), "even": (8, 8)}


def slices(rank, name):
    """Slices of vectors and of rows, one of them empty, next to the whole in one process."""
    rule = getattr(samestep, name)(lr=0.5) if name == "Prodigy" else None
    rule = rule or samestep.ClipGlobalNorm(samestep.AdamW(lr=0.01), max_norm=0.1)
    shapes = {"flat": (63,), "rows": (5, 3), "even": (16,)}
    wholes = dict(zip(shapes, made(shapes.values(), torch.float64), strict=True))
    own = {
        n: torch.nn.Parameter(p.detach().split(CUTS[n])[rank].clone()) for n, p in wholes.items()
    }
    one = adapter.bind(rule, wholes.items())
    optimizer = adapter.bind(rule, own.items(), reduce_over=torch.distributed.group.WORLD)
    for step in range(20):
        for place, (path, param) in enumerate(wholes.items()):
            param.grad = gradient(step, place, param)
            own[path].grad = param.grad.split(CUTS[path])[rank].clone()
        one.step()
        with collectives.counted() as found:
            optimizer.step()
        assert collectives.names(found) == {"all_gather": 1} or step == 0
    for path, param in wholes.items():
        wanted = param.detach().split(CUTS[path])[rank]
        worst = 1e-14 * param.detach().abs().max()
        assert not wanted.numel() or (own[path].detach() - wanted).abs().max() <= worst, path


@pytest.mark.parametrize("name", ["Prodigy", "ClipGlobalNorm"])
def test_sums_over_all_parameters_go_over_slices(ranks, name):
    ranks.run(slices, name)


def refused(rank):
    """The words with which every process refuses what does not fit."""
    group, words = torch.distributed.group.WORLD, []
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    from torch.distributed.tensor import Shard  # noqa: PLC0415

    placed = torch.nn.Parameter(spread(torch.ones(4, 2), mesh, [Shard(0)]))

    def says(error, act):
        with pytest.raises(error) as refusal:
            act()
        words.append(str(refusal.value))

    def uneven():
        params = [torch.ones(2, requires_grad=True) for _ in range(1 + rank)]
        optimizer = adapter.Prodigy(params, reduce_over=group)
        for param in params:
            param.grad = torch.ones(2)
        optimizer.step()

    says(TypeError, lambda: adapter.AdamW([torch.ones(2)], reduce_over="dp"))
    says(ValueError, lambda: adapter.LAMB([("w", torch.ones(2))], reduce_over=group))
    says(ValueError, lambda: adapter.Prodigy([placed], reduce_over=group))
    says(ValueError, lambda: adapter.Muon([placed], share_work=group))
    says(ValueError, uneven)
    return words


def test_groups_that_do_not_fit_are_refused_in_the_same_words(ranks):
    found = ranks.run(refused)
    assert found[0] == found[1]
    parts = (
        "AdamW(reduce_over='dp'): it must be a process group",
        "LAMB: parameter 'w' is a slice (reduce_over=); LAMB reads more of a parameter",
        "Prodigy(reduce_over=...): there are DTensors",
        "Muon(share_work=...): there are DTensors",
        "Prodigy: the processes of reduce_over have 1, 2 parameters; give every process a slice",
    )
    assert all(part in words for part, words in zip(parts, found[0], strict=True)), found[0]


def missing(rank, name):
    """A gradient that is missing, or does not fit, in one process; all of them say so."""
    from torch.distributed.tensor import Shard  # noqa: PLC0415

    mesh, words = torch.distributed.init_device_mesh("cpu", (2,)), []
    params = {
        path: torch.nn.Parameter(spread(value, mesh, [Shard(0)]))
        for path, value in {"w": torch.ones(6, 4), "v": torch.ones(3, 5)}.items()
    }
    optimizer = getattr(adapter, name)(params.items())

    def give():
        for param in params.values():
            param.grad = param.detach() * 0.1

    def says(error):
        before = {path: whole(param.detach()).clone() for path, param in params.items()}
        with pytest.raises(error) as refusal:
            optimizer.step()
        words.append(str(refusal.value))
        for path, param in params.items():
            assert torch.equal(whole(param.detach()), before[path])

    for _ in range(2):  # in the first step, and after some
        give()
        if rank == 1:
            params["v"].grad = None
        says(ValueError)
        give()
        optimizer.step()
        give()
        if rank == 0:
            params["v"].grad = None
            params["w"].grad = None
        says(ValueError)
        give()
        optimizer.step()
        give()
        optimizer.step()
        give()
        if rank == 1:
            params["w"].grad = torch.ones(6, 4)  # plain
        says((TypeError, ValueError))
        give()
        optimizer.step()
    give()
    params["v"].grad = None  # in all: a step of w alone
    optimizer.step()
    return words


@pytest.mark.parametrize("name", ["LAMB", "Muon"])
def test_what_one_process_lacks_is_said_by_all(ranks, name):
    words = ranks.run(missing, name)
    for place in (0, 1, 3, 4):
        assert words[0][place] == words[1][place]
        assert "step different parameters: " in words[0][place]
        assert "'v' of shape (3, 5)" in words[0][place]
    for place in (2, 5):
        assert "process 1 of 2 cannot take the step" in words[0][place]
        assert "its gradient a plain tensor" in words[0][place]
        assert "its gradient a plain tensor" in words[1][place]


def failing_at_once(rank, name, capturable):
    """A gradient that does not fit in one process, in the first step of all."""
    from torch.distributed.tensor import Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    param = torch.nn.Parameter(spread(torch.ones(6, 4), mesh, [Shard(0)]))
    optimizer = getattr(adapter, name)([("w", param)], capturable=capturable)
    param.grad = param.detach() * 0.1 if rank == 0 else torch.ones(6, 4)
    with pytest.raises((TypeError, ValueError)) as refusal:
        optimizer.step()
    assert torch.equal(whole(param.detach()), torch.ones(6, 4))
    param.grad = param.detach() * 0.1
    optimizer.step()
    return str(refusal.value), whole(param.detach()).sum().item()


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("name", ["LAMB", "Muon"])
def test_a_failure_in_the_first_step_is_that_of_all(ranks, name, capturable):
    (first, moved), (second, same) = ranks.run(failing_at_once, name, capturable)
    assert "process 1 of 2 cannot take the step" in first
    assert "its gradient a plain tensor" in first
    assert "its gradient a plain tensor" in second
    assert moved == same != 24


def missing_in_one_mesh(rank, name, capturable):
    """Parameters of both dimensions of a mesh; one process lacks the gradient of one of them.

    In the first step, and after some, in which processes ask each other on each of the meshes.
    """
    from torch.distributed.tensor import Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    params = {
        dim: torch.nn.Parameter(spread(torch.ones(4, 4), mesh[dim], [Shard(0)]))
        for dim in ("data", "tensor")
    }
    optimizer, words = getattr(adapter, name)(params.items(), capturable=capturable), []
    for at, bad in ((3, "tensor"), (0, "data"), (1, "tensor"), (2, "a plain")):
        if words and capturable:
            break
        for dim, param in params.items():
            param.grad = None if (rank, dim) == (at, bad) else param.detach() * 0.1
        if (rank, bad) == (at, "a plain"):
            params["tensor"].grad = torch.ones(4, 4)
        before = {dim: param.to_local().clone() for dim, param in params.items()}
        with pytest.raises((TypeError, ValueError)) as refusal:
            optimizer.step()
        words.append(str(refusal.value))
        assert all(torch.equal(param.to_local(), before[dim]) for dim, param in params.items())
        for _ in range(2):
            for param in params.values():
                param.grad = param.detach() * 0.1
            with collectives.counted() as found:
                optimizer.step()
        assert not torch.equal(params["data"].to_local(), before["data"])
    return words, collectives.names(found)


@pytest.mark.parametrize(("name", "capturable"), [("LAMB", False), ("LAMB", True), ("Muon", False)])
def test_a_failure_in_one_mesh_is_told_in_the_others(four, name, capturable):
    found = four.run(missing_in_one_mesh, name, capturable)
    for words, _ in found:
        for bad, said in zip(("tensor", "data", "tensor"), words, strict=False):
            assert f"'{bad}' of shape (4, 4)" in said and " only" in said, words
        assert capturable or "its gradient a plain tensor" in words[3], words
    asked = 0 if capturable else 2
    assert all(names == {"all_gather": 2 + asked} for _, names in found), found


def of_several_sizes(rank):
    """A process is of two meshes, and the others of one of them; they lack a gradient in turn."""
    from torch.distributed.device_mesh import DeviceMesh  # noqa: PLC0415
    from torch.distributed.tensor import Shard  # noqa: PLC0415

    every = {name: DeviceMesh("cpu", ranks) for name, ranks in {"a": [0, 1], "b": [1, 2]}.items()}
    params = {
        name: torch.nn.Parameter(spread(torch.ones(4, 4), mesh, [Shard(0)]))
        for name, mesh in every.items()
        if rank in mesh.mesh
    }
    if not params:
        return []
    optimizer, words = adapter.LAMB(params.items()), []
    for lacks in (None, 1, None, 2, None):
        for name, param in params.items():
            param.grad = None if (name, rank) == ("b", lacks) else param.detach() * 0.1
        if lacks is None:
            optimizer.step()
            continue
        with pytest.raises(ValueError) as refusal:
            optimizer.step()
        words.append(str(refusal.value))
    return words


def test_a_process_may_be_of_more_meshes_than_another(four):
    *found, none = four.run(of_several_sizes)
    assert none == []
    assert all(len(each) == 2 and "'b' of shape (4, 4)" in " ".join(each) for each in found), found
    assert all("step different parameters" in words for each in found for words in each)


def without_messages(rank):
    """Small matrices, whose work is not worth sharing, and then more gradients in one process."""
    params = made([(8, 8), (96, 96), (96, 96)])
    optimizer = adapter.bind(ROUTE, params, share_work=torch.distributed.group.WORLD)

    def give(*places):
        for at, param in enumerate(params):
            param.grad = param.detach() * 0.1 if at in places else None

    counted = []
    for _ in range(3):
        give(0)
        with collectives.counted() as found:
            optimizer.step()
        counted.append(collectives.names(found))
    before = [param.detach().clone() for param in params]
    give(0, *((1, 2) if rank else ()))
    with pytest.raises(ValueError) as refusal:
        optimizer.step()
    assert all(map(torch.equal, before, params))
    give(0, 1, 2)
    optimizer.step()
    return str(refusal.value), counted[1:]


def test_processes_that_have_sent_nothing_yet_compare_what_they_step(ranks):
    (first, counted), (second, _) = ranks.run(without_messages)
    assert first == second and "step different parameters: " in first
    assert counted == [{"all_gather": 1}] * 2


def refused_alone(rank):
    """The only parameter of a mesh has a piece, in one process, that torch would not cut."""
    from torch.distributed.tensor import DTensor, Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    whole = {"shape": torch.Size((4, 4)), "stride": (4, 1)}
    own = torch.ones(2 + rank, 4)
    param = torch.nn.Parameter(DTensor.from_local(own, mesh, [Shard(0)], run_check=False, **whole))
    param.grad = param.detach() * 0.1
    with pytest.raises(ValueError) as refusal:
        adapter.LAMB([("w", param)]).step()
    return str(refusal.value)


def test_a_refusal_of_the_first_parameter_is_told(ranks):
    first, second = ranks.run(refused_alone)
    assert "process 1 of 2 cannot take the step: LAMB: a parameter is" in first
    assert "its piece has shape (3, 4)" in first and "its piece has shape (3, 4)" in second


def refused_before_a_step(rank):
    """One process has a number that is none, and then evaluates its model."""
    from torch.distributed.tensor import Shard, distribute_tensor  # noqa: PLC0415

    mesh, said = torch.distributed.init_device_mesh("cpu", (2,)), []
    for wrong in ("lr", "eval"):
        param = torch.nn.Parameter(distribute_tensor(torch.ones(4, 4), mesh, [Shard(0)]))
        optimizer = adapter.bind(samestep.Average(samestep.LAMB()), [("w", param)])
        param.grad = param.detach() * 0.1
        optimizer.step()
        if rank:
            optimizer.param_groups[0]["lr"] = "x" if wrong == "lr" else 0.1
            if wrong == "eval":
                optimizer.eval()
        with pytest.raises((RuntimeError, ValueError)) as refusal:
            optimizer.step()
        said.append(str(refusal.value))
    return said


def test_a_bad_number_and_an_evaluation_of_one_process_are_told(ranks):
    first, second = ranks.run(refused_before_a_step)
    for told, own in zip(first, second, strict=True):
        assert "process 1 of 2 cannot take the step: " in told
        assert own in told


def of_every_kind(rank, rule, **options):
    """A matrix in pieces, a copy as a DTensor, and a plain tensor, with gradients."""
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    values = {"cut": [Shard(0)], "copy": [Replicate()], "plain": None}
    params = {n: torch.nn.Parameter(spread(torch.ones(4, 3), mesh, p)) for n, p in values.items()}
    optimizer = adapter.bind(rule, params.items(), **options)

    def give():
        for name, param in params.items():
            param.grad = spread(torch.full((4, 3), 0.5), mesh, values[name])

    def refused():
        before = {name: whole(param.detach()).clone() for name, param in params.items()}
        with pytest.raises(ValueError) as refusal:
            optimizer.step()
        assert all(torch.equal(whole(p.detach()), before[n]) for n, p in params.items())
        return str(refusal.value)

    give()
    return params, optimizer, give, refused


def parted_copies(rank, name, bad, late):
    """A gradient of a copy is NaN, or missing, in one process, at once or after a step."""
    rule = samestep.SkipNonFinite(samestep.ClipGlobalNorm(samestep.AdamW(), max_norm=0.1))
    params, optimizer, give, refused = of_every_kind(rank, rule)
    if late:
        optimizer.step()
        give()
    before = {n: whole(param.detach()).clone() for n, param in params.items()}
    if bad == "missing":
        params[name].grad = None if rank else params[name].grad
        return refused()
    if rank:
        params[name].grad.fill_(torch.nan)
    optimizer.step()
    assert all(torch.equal(whole(p.detach()), before[n]) for n, p in params.items())
    return float(optimizer.param_groups[0]["skipped"])


@pytest.mark.parametrize(("name", "late"), [("copy", True), ("plain", False)])
def test_copies_are_stepped_by_all_or_by_none(ranks, name, late):
    assert ranks.run(parted_copies, name, "NaN", late) == [1.0, 1.0]
    first, second = ranks.run(parted_copies, name, "missing", late)
    assert first == second and f"'{name}' of shape (4, 3), torch.float32 in 0 only" in first


def parted_on_meshes(rank, bad):
    """A gradient is NaN in one process, of a piece or a copy that only two processes share."""
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415

    mesh = torch.distributed.init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    places = {
        "wide": (mesh, [Shard(0), Shard(1)]),
        "piece": (mesh["data"], [Shard(0)]),
        "copy": (mesh["tensor"], [Replicate()]),
    }
    params = {n: torch.nn.Parameter(spread(torch.ones(4, 4), *p)) for n, p in places.items()}
    rule = samestep.SkipNonFinite(samestep.ClipGlobalNorm(samestep.AdamW(lr=0.1)))
    optimizer = adapter.bind(rule, params.items())
    for step in range(3):
        for name, param in params.items():
            param.grad = param.detach() * (torch.nan if (step, rank, name) == (1, 3, bad) else 0.5)
        optimizer.step()
    values = {name: whole(param.detach()).sum().item() for name, param in params.items()}
    return optimizer.param_groups[0]["skipped"].item(), values


@pytest.mark.parametrize("bad", ["piece", "copy"])
def test_processes_of_several_meshes_agree_on_sums_over_all_parameters(four, bad):
    first, *others = four.run(parted_on_meshes, bad)
    assert first[0] == 1.0 and all(other == first for other in others)


def a_copy_beside_pieces(rank):
    """A rule without sums over all parameters: a plain tensor may be a process's own."""
    params, optimizer, give, refused = of_every_kind(rank, samestep.LAMB(lr=0.1))
    if rank:
        params["plain"].grad = None
    optimizer.step()
    assert (params["plain"].detach() == 1).all() == bool(rank)
    give()
    params["copy"].grad = None if rank else params["copy"].grad
    return refused()


def test_a_plain_tensor_may_be_a_process_s_own(ranks):
    first, second = ranks.run(a_copy_beside_pieces)
    assert first == second and "'copy' of shape (4, 3), torch.float32 in 0 only" in first


NUMBERS = {"lr": "lr = 0.25 in 1 only", "betas": "betas = (0.5, 0.999)", "step": "8 steps of 'cut'"}


def other_numbers(rank, name):
    """A process has another number, in the first step and later ones; then all of them do."""
    params, optimizer, _, refused = of_every_kind(rank, samestep.LAMB(lr=0.125))
    group, words = optimizer.param_groups[0], []
    if name == "step":
        optimizer.step()
    for _ in range(2):
        usual = dict(group)
        if rank and name == "step":
            optimizer.state[params["cut"]]["step"].fill_(8)
        elif rank:
            group[name] = 0.25 if name == "lr" else (0.5, 0.999)
        words.append(refused())
        group.update(usual)
        if rank and name == "step":
            own = optimizer.state[params["copy"]]["step"]
            optimizer.state[params["cut"]]["step"].copy_(own)
        optimizer.step()
    group["lr"] = 0.5
    with collectives.counted() as found:
        optimizer.step()
    assert collectives.names(found) == {"all_gather": 1}
    return words


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_one_process_are_told(ranks, name):
    first, second = ranks.run(other_numbers, name)
    assert first == second
    assert all("2 processes step with different numbers: " in words for words in first)
    assert all(NUMBERS[name] in words for words in first), first


def another_rate_and_no_message(rank):
    """Processes that ask each other before a step, since there may be no message in it."""
    params = made([(8, 8), (96, 96), (96, 96)])
    optimizer = adapter.bind(ROUTE, params, share_work=torch.distributed.group.WORLD)
    for step in range(3):
        for param in params:
            param.grad = param.detach() * 0.1
        if rank and step == 2:
            optimizer.param_groups[0]["lr"] = 0.75
        if step < 2:
            optimizer.step()
    before = [param.detach().clone() for param in params]
    with pytest.raises(ValueError) as refusal:
        optimizer.step()
    assert all(map(torch.equal, before, params))
    return str(refusal.value)


def test_processes_that_have_sent_nothing_yet_compare_their_numbers(ranks):
    first, second = ranks.run(another_rate_and_no_message)
    assert first == second and "lr = 0.75 in 1 only" in first
