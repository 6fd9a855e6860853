"""Kernels: the rule with its results written into tensors, in pieces, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import array_api_compat.torch as xp

import torch
from samestep import packing
from samestep import step as stepping
from samestep.arrays import parts
from samestep.execution import say_failed
from samestep.rule import Rule
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.parameter import is_lazy
from torch.utils._triton import has_triton

from .coefficients import TAKEN, Scalars
from .keeping import keep_copies
from .pieces import piece

__all__ = [
    "FLAT",
    "SEGMENT",
    "Differentiable",
    "chosen",
    "compiled",
    "forget",
    "is_fake",
    "is_plain",
    "limits",
    "packed",
    "real",
    "real_gradient",
    "reference",
]

Kernel = Callable[..., Any]

PACK = {"reference": 0, "packed": packing.CHUNK, "compiled": 4 * packing.CHUNK}
"""Elements of a vector of gathered parameters on the CPU, at most, by execution."""
FLAT = {"reference": None, "packed": packing.CHUNK, "compiled": 0}
"""From how many elements on a kernel wants a parameter as a vector, by execution."""
ON_DEVICE = {"reference": (0, 0), "packed": (1 << 22, 1 << 25), "compiled": (1 << 20, 1 << 25)}
"""Elsewhere, the most elements of a gathered parameter and of a vector.

A vector need not stay in a cache there. Below these sizes it takes the host longer to launch the
operations of a parameter than it takes a fast device to carry them out.
"""

SEGMENT = {"cuda": 1 << 16}
"""The most elements of a parameter in a vector whose segments are summed, by kind of device.

MPS cannot sum them. The sum of each is repeated for its elements, which costs as much as a launch
here, and more above.
"""

LENGTH = 1 << 16
"""Elements that a kernel is compiled with: enough for code that runs on all cores."""
STACK = 1 << 6
"""Parameters that a kernel for stacked ones is compiled with."""


def real(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor as its real and imaginary parts, in a new last axis, as torch.optim does.

    An element rule then sees a real tensor: every part has its own moments, and the norm equals the
    norm of the complex numbers.
    """
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def real_gradient(grad: torch.Tensor) -> torch.Tensor:
    """A gradient as its real and imaginary parts; a view that conjugates is copied."""
    return real(grad.resolve_conj())


_PLAIN = torch.Tensor, torch.nn.Parameter, FakeTensor


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds its own elements, or is fake; a sharded tensor does not, for example.

    A fake tensor takes the place of a plain one where nothing is computed.
    """
    return type(tensor) in _PLAIN


def limits(execution: str, entry: stepping.Entry) -> tuple[int, int]:
    """The most elements of a parameter that is gathered, and of a vector of such."""
    if entry.param.device.type == "cpu":
        return packing.limits(entry, PACK[execution])
    return ON_DEVICE[execution]


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether a tensor is fake: it has no values, and compiled code cannot read it."""
    return isinstance(tensor, FakeTensor)


class Differentiable:
    """The array namespace, with copies that gradients flow through; ``torch.asarray`` warns."""

    def __getattr__(self, name: str) -> Any:
        return getattr(xp, name)

    @staticmethod
    def asarray(value: torch.Tensor, copy: bool) -> torch.Tensor:
        """A copy, or the tensor itself."""
        return value.clone() if copy else value


def reference(function: Kernel, xp: Any, rule: Rule) -> Kernel:
    """The rule, its results written into parameter and slots."""
    return partial(_writing, partial(function, xp, rule))


def packed(function: Kernel, xp: Any, rule: Rule) -> Kernel:
    """The rule, on the CPU in pieces that stay in cache; only an element rule is executed so."""
    whole = partial(_writing, partial(function, xp, rule))
    return partial(_in_pieces, whole) if rule.needs == "element" else whole


def _in_pieces(whole: Kernel, grad: torch.Tensor, param: torch.Tensor, *rest: Any) -> Any:
    large = param.ndim == 1 and param.shape[0] > packing.CHUNK
    if large and param.device.type == "cpu" and is_plain(param):
        return packing.in_chunks(xp, whole, grad, param, *rest)
    return whole(grad, param, *rest)


def compiled(function: Kernel, xp: Any, rule: Rule) -> Kernel:
    """The rule compiled once per rule, dtypes and device, and per shape if the rule sees axes.

    A sum over all parameters around a rule that sees axes (Scout around Muon) is not compiled:
    Inductor does not come to an end with it. Where the compiler fails, the log says so once, and
    the rule is executed as in ``packed``.
    """
    shaped = _is_shaped(function, rule)
    uncompiled = rule.reduces and rule.sees_axes
    plain = packed(function, xp, rule)

    def kernel(
        grad: torch.Tensor,
        param: torch.Tensor,
        slots: dict[str, Any],
        common: dict[str, torch.Tensor],
        s: Scalars,
    ) -> Any:
        if param.numel() == 0 or uncompiled or is_fake(param):
            return plain(grad, param, slots, common, s.on(param.device).named())
        s = s.on(param.device)
        arrays = [grad, param, *chain.from_iterable(map(parts, slots.values())), *common.values()]
        names = tuple((name, _count(value)) for name, value in slots.items()), tuple(common)
        kinds = tuple(_kind(array, shaped) for array in arrays)
        key = function, rule, param.device, names, kinds, s.structure
        if key not in _kernels:
            try:
                with torch.device(param.device):  # whatever the default device is
                    made = _compiled(function, rule, names, s.structure, [*arrays, s.vector])
                _kernels[key] = made
            except Exception as error:  # whatever a compiler raises; a rule's own comes again below
                _kernels[key] = None
                if (rule.name, str(error)) not in _said:
                    _said.add((rule.name, str(error)))
                    say_failed(rule.name, "packed", error)
        run = _kernels[key]
        if run is None:
            return plain(grad, param, slots, common, s.named())
        sums = run(*arrays, s.vector)
        return (slots, dict(sums)) if isinstance(sums, dict) else (param, slots)

    return kernel


def _is_away(array: torch.Tensor) -> bool:
    """Whether launches cost more than the arithmetic of single numbers."""
    return array.device.type != "cpu"


compiled.combines = _is_away  # type: ignore[attr-defined]

_kernels: dict[Any, Kernel | None] = {}
"""The cache: kernels by function, rule, device and arrays; ``None`` where compiling failed."""

_said: set[tuple[str, str]] = set()
"""The failures that the log has been told of: rule and message."""


def forget() -> None:
    """Drop every compiled kernel; the next step compiles its own again."""
    _kernels.clear()
    _said.clear()


def _is_shaped(function: Kernel, rule: Rule) -> bool:
    """Whether a kernel is for certain shapes."""
    return rule.sees_axes or any(getattr(function, name, False) for name in ("stacks", "placed"))


def _count(value: Any) -> int | None:
    return len(value) if isinstance(value, (tuple, list)) else None


def _kind(array: torch.Tensor, shaped: bool) -> Any:
    """The properties of an array that a kernel depends on."""
    return array.dtype, array.shape if shaped else array.ndim, array.stride() if shaped else None


def _writing(
    kernel: Kernel,
    grad: torch.Tensor,
    param: torch.Tensor,
    slots: dict[str, Any],
    common: Any,
    s: Any,
) -> Any:
    """Run a pure kernel and write its results into the tensors that it was given."""
    first, second = kernel(grad, param, slots, common, s)
    sums = isinstance(first, dict)  # local: slots and sums
    old, new = (slots, first) if sums else ({"param": param, **slots}, {"param": first, **second})
    taken = vars(s).get(TAKEN)
    pairs, memory = [], set()
    for name, value in old.items():
        several = isinstance(value, (tuple, list))
        for into, result in zip(value, new[name], strict=True) if several else [(value, new[name])]:
            if into is not result:
                pairs.append((into, result if taken is None else torch.where(taken, result, into)))
                memory.add(into.untyped_storage()._cdata)  # a traced tensor has no address
    results = []
    for _, result in pairs:
        shared = result.untyped_storage()._cdata in memory
        results.append(result.clone() if shared else result)
    if sums:
        for name, value in second.items():
            if value.untyped_storage()._cdata in memory:
                second = {**second, name: value.clone()}
    for (into, _), result in zip(pairs, results, strict=True):
        into.copy_(result)
    return (slots, second) if sums else (param, slots)


def _compiled(
    function: Kernel, rule: Rule, names: Any, structure: Any, arrays: list[Any]
) -> Kernel:
    """A kernel made by PyTorch's compiler from the operations that the rule carries out.

    It is traced once, with a length that may change, and called without Dynamo's checks: the key
    under which the kernel is kept covers them.
    """
    write = reference(function, xp, rule)
    slot_names, common_names = names
    results: list[tuple[str, ...]] = []

    def kernel(grad: torch.Tensor, param: torch.Tensor, *rest: torch.Tensor) -> Any:
        *others, vector = rest
        given = iter(others)
        slots = {
            name: next(given) if count is None else tuple(next(given) for _ in range(count))
            for name, count in slot_names
        }
        common = {name: next(given) for name in common_names}
        first, sums = write(grad, param, slots, common, Scalars(vector, structure).named())
        sums = sums if isinstance(first, dict) else {}
        results.append(tuple(sums))
        return tuple(sums.values())

    if _is_shaped(function, rule):
        graph = make_fx(kernel, tracing_mode="fake")(*arrays)
        run = _built(graph, arrays, "from_example_inputs")
    else:
        *vectors, coefficients = arrays
        stacked = vectors[1].ndim > 1
        examples = [*(_enlarged(array, stacked) for array in vectors), coefficients]
        graph = make_fx(kernel, tracing_mode="symbolic")(*examples)
        run = _built(graph, examples, "from_graph")

    def called(*given: torch.Tensor) -> Any:
        values = run(*given)
        return dict(zip(results[0], values, strict=True)) if results[0] else None

    return called


def _enlarged(array: torch.Tensor, stacked: bool) -> torch.Tensor:
    """An example for the compiler; code compiled for few elements would run on one core."""
    if array.ndim > 1 and not stacked:  # a column with a number per parameter, or a place more
        return array.new_ones((STACK + (not array.is_floating_point()), 1))
    shape = (STACK, LENGTH // STACK) if stacked else (LENGTH,)
    return array.new_ones(shape[: array.ndim]) if array.ndim else array


SMALLER = {"max_fusion_size": 4}
"""The setting with which Inductor compiles what it fails on otherwise, such as stacks of AdamP."""


def _built(graph: Any, arrays: list[Any], dynamic_shapes: Any) -> Kernel:
    """The compiled graph; a graph whose loops Inductor fails to fuse is compiled in more parts."""
    keep_copies(graph)
    try:
        return standalone_compile(graph, arrays, dynamic_shapes)
    except Exception:  # whatever a compiler raises
        with torch._inductor.config.patch(SMALLER):
            return standalone_compile(graph, arrays, dynamic_shapes)


MANY = 1_000_000
"""From this many elements on, a step is worth the seconds of compiling a kernel."""


def chosen(params: Sequence[torch.Tensor]) -> tuple[str, str]:
    """The execution that ``auto`` stands for with these parameters, and the reason."""
    params = [param for param in params if not is_lazy(param)]
    if not all(is_plain(piece(param.detach())) for param in params):
        return "reference", "some parameters are tensors of a class of their own"
    elements = sum(param.numel() for param in params)
    if elements < MANY:
        return "packed", f"{elements:,} elements, fewer than {MANY:,}, are not worth compiling for"
    missing = _missing({param.device.type for param in params})
    if missing:
        return "packed", missing
    return "compiled", f"{elements:,} elements; compiling takes some seconds at the first step"


def standalone_compile(graph: Any, arrays: list[Any], dynamic_shapes: Any) -> Kernel:
    """Inductor's compiler, imported here because its import takes a second."""
    from torch._inductor import standalone_compile as compiler  # noqa: PLC0415

    return compiler(graph, arrays, dynamic_shapes=dynamic_shapes)


def get_cpp_compiler() -> str:
    """The C++ compiler that Inductor chooses; raises if there is none."""
    from torch._inductor.cpp_builder import get_cpp_compiler as found  # noqa: PLC0415

    return found()


def _missing(devices: set[str]) -> str | None:
    """The thing that torch.compile lacks on these devices, if any."""
    if devices == {"cpu"}:
        try:
            get_cpp_compiler()
        except Exception as error:  # whatever torch says about it
            return f"torch.compile finds no C++ compiler ({type(error).__name__})"
        return None
    if devices == {"cuda"} and has_triton():
        return None
    return f"torch.compile is not used on {', '.join(sorted(devices))}"
