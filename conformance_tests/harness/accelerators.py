"""Pretended accelerators for PyTorch: what a step launches there, and everything that crosses.

A tensor on the device is fake: it has a shape, a dtype and a place, and no values. A tensor on the
host is real. The code under test runs as it is, on ``cuda``, ``mps`` or ``xpu``, on a machine that
has none of them. Only Inductor is not run: the operations that it would be given are carried out
instead of its kernel, and are one launch together. That is what Inductor makes of an element rule;
of another one it may make several.

A place is the line of the code under test, such as ``kernels.py:166 _writing``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import array_api_compat.torch as xp
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from samestep.torch import kernels
from samestep.torch.coefficients import Scalars

from .launches import CUDA_12, Table, launches

__all__ = ["KINDS", "Accelerator"]

KINDS = ["cuda", "mps", "xpu"]
Values = list[torch.Tensor]
aten = torch.ops.aten
OURS = ("torch", "array_api_compat", "contextlib", "unittest", "functools")


class Accelerator:
    """Devices of one kind, and what has happened on them since ``forget``; a context.

    Attributes:
        launched: kernels, by the name of the operation.
        reads: values that the host has read, by place.
        sent: copies from the host to a device, by kind of memory, whether the host waits, and
            place.
        fetched: copies from a device to the host, by place.
        moved: copies from one device to another, by place.
        mixed: operations of tensors on a device with a tensor on the host, by place.
        doubles: float64 tensors made on the device, by place.
    """

    def __init__(self, kind: str, table: Table = CUDA_12) -> None:
        self.kind, self.table = kind, table
        self.fake = FakeTensorMode(allow_non_fake_inputs=False)
        self.inside = 0  # a kernel of the compiler
        self.pinned: Values = []
        self._operations = _Operations(self.called)
        self._contexts = ExitStack()
        self.forget()

    def forget(self) -> None:
        """Count anew."""
        self.launched: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.mixed: Counter[str] = Counter()
        self.doubles: Counter[str] = Counter()
        self._hosted: dict[int, torch.Tensor] = {}  # made on the host, and not from a number

    def __enter__(self) -> Accelerator:
        enter = self._contexts.enter_context
        enter(mock.patch.object(kernels, "is_fake", lambda tensor: False))
        enter(mock.patch.object(kernels, "_compiled", self._compiled))
        enter(mock.patch.object(kernels, "_kernels", {}))
        enter(self.fake)
        enter(self._operations)
        enter(_Bindings(self.kind))
        return self

    def __exit__(self, *error: Any) -> None:
        self._contexts.close()

    def parameters(
        self, shapes: Iterable[Sequence[int]], dtype: torch.dtype = torch.float32, index: int = 0
    ) -> Values:
        """Parameters on one of the devices, which have gradients."""
        params = []
        for shape in shapes:
            place = f"{self.kind}:{index}"
            param = torch.empty([*shape], dtype=dtype, device=place).requires_grad_()
            param.grad = torch.empty_like(param, requires_grad=False)
            params.append(param)
        return params

    def step(self, optimizer: Any, before: int = 1) -> None:
        """Count a step after others, in which memory is arranged and kernels are compiled.

        What no step may do is counted in all of them.
        """
        for _ in range(before):
            optimizer.step()
        wrong = self.mixed, self.doubles
        self.forget()
        self.mixed, self.doubles = wrong
        optimizer.step()

    @property
    def launches(self) -> int:
        """The number of kernels launched."""
        return self.launched.total()

    @property
    def crossings(self) -> dict[str, Counter[str]]:
        """Everything that a step should not do, where it has done it."""
        names = ["reads", "fetched", "mixed", *(["doubles"] if self.kind == "mps" else [])]
        return {name: found for name in names if (found := getattr(self, name))}

    def called(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Carry out an operation of PyTorch, and note it."""
        if func.namespace == "prim":  # a property of a fake tensor
            return self._faked(func, args, kwargs)
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
        if made != self.kind and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            return self._on_host(func, args, kwargs)
        here = [t for t in tensors if isinstance(t, FakeTensor) and t.fake_device.type == self.kind]
        if not here and made != self.kind:  # a dry run on meta, or what was fetched
            return self._faked(func, args, kwargs)
        if func._can_decompose():
            with self._operations:
                return func.decompose(*args, **kwargs)
        if torch.Tag.data_dependent_output in func.tags or name in ("nonzero", "masked_select"):
            self.reads[_place()] += 1
            return _unknown(func, tensors)
        if name in ("_to_copy", "copy_", "_foreach_copy_"):
            self._note_copies(name, args, kwargs)
        elif any(map(self._is_hosted, tensors)):
            self.mixed[f"{name} {_place()}"] += 1
        if not self.inside and (count := launches(func, args, self.kind, self.table)):
            self.launched[name] += count
        found = self._faked(func, args, kwargs)
        for leaf in tree_leaves(found):
            wide = isinstance(leaf, torch.Tensor) and leaf.dtype is torch.float64
            if wide and leaf.device.type == self.kind:
                self.doubles[f"{name} {_place()}"] += 1
        return found

    def _on_host(self, func: Any, args: Any, kwargs: Any) -> Any:
        with unset_fake_temporarily():
            pinned = kwargs.pop("pin_memory", False)
            found = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        new = not given and func is not aten._to_copy.default  # which vmap does with a number
        if new or func is aten.lift_fresh.default or any(map(self._is_hosted, given)):
            self._hosted.update((id(leaf), leaf) for leaf in made)
        self.pinned += made if pinned else []
        return found

    def _is_hosted(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._hosted

    def _faked(self, func: Any, args: Any, kwargs: Any) -> Any:
        def faked(leaf: Any) -> Any:
            real = isinstance(leaf, torch.Tensor) and not isinstance(leaf, FakeTensor)
            return self.fake.from_tensor(leaf) if real else leaf

        args, kwargs = tree_map(faked, (args, kwargs))
        with self.fake:
            return func(*args, **kwargs)

    def _note_copies(self, name: str, args: Any, kwargs: Any) -> None:
        goes_on = kwargs.get("non_blocking") or any(arg is True for arg in args[2:])
        if name == "_to_copy":
            into = torch.device(kwargs.get("device") or args[0].device)
            pairs = [(into, args[0])]
        else:
            several = isinstance(args[0], (list, tuple))
            both = zip(args[0], args[1], strict=True) if several else [args[:2]]
            pairs = [(into.device, source) for into, source in both]
        for into, source in pairs:
            if source.device.type == "cpu" and into.type == self.kind:
                own = source.untyped_storage()._cdata
                pinned = any(own == one.untyped_storage()._cdata for one in self.pinned)
                memory = "pinned" if pinned else "pageable"
                self.sent[f"{memory}{'' if goes_on else ', waits'} {_place()}"] += 1
            elif source.device.type == self.kind and into.type == "cpu":
                self.fetched[_place()] += 1
            elif into.type == self.kind and (into.index or 0) != (source.device.index or 0):
                self.moved[_place()] += 1

    def _compiled(
        self, function: Any, rule: Any, names: Any, structure: Any, arrays: Sequence[Any]
    ) -> Callable[..., Any]:
        """What the compiler makes: here the operations that it is given, as one launch."""
        write = kernels.reference(function, xp, rule)
        slot_names, common_names = names

        def kernel(*given: torch.Tensor) -> Any:
            each = iter(given)
            grad, param = next(each), next(each)
            slots = {
                name: next(each) if count is None else tuple(next(each) for _ in range(count))
                for name, count in slot_names
            }
            common = {name: next(each) for name in common_names}
            first, sums = write(grad, param, slots, common, Scalars(next(each), structure).named())
            return sums if isinstance(first, dict) else None

        def called(*given: torch.Tensor) -> Any:
            self.launched["compiled"] += 1
            if len({array.device.type for array in given}) > 1:
                self.mixed[f"a kernel of {rule.name}"] += 1
            with self._in_kernel():
                return kernel(*given)

        return called

    @contextmanager
    def _in_kernel(self) -> Iterator[None]:
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every operation, given to a function."""

    def __init__(self, called: Callable[[Any, Any, Any], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.called = called

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return self.called(func, args, kwargs or {})


class _Bindings(TorchFunctionMode):
    """The operations that PyTorch switches the device for before anything can be faked."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in _GUARDED and args[0].device.type == self.kind:
            with torch._C._AutoDispatchBelowAutograd():
                return _GUARDED[func](*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _indexed(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    """What is at some numbers, slices and places; without places it is a view."""
    items = index if isinstance(index, tuple) else (index,)
    if Ellipsis in items:
        at = items.index(Ellipsis)
        rest = (slice(None),) * (tensor.ndim - len(items) + 1)
        items = (*items[:at], *rest, *items[at + 1 :])
    axis = 0
    for item in items:
        if isinstance(item, torch.Tensor):
            tensor = aten.index.Tensor(tensor, [*[None] * axis, item])
            axis += 1
        elif isinstance(item, int):
            tensor = aten.select.int(tensor, axis, item)
        else:
            start, stop, step = item.indices(tensor.shape[axis])
            tensor = aten.slice.Tensor(tensor, axis, start, stop, step)
            axis += 1
    return tensor


def _written(tensor: torch.Tensor, index: Any, value: torch.Tensor) -> None:
    aten.copy_.default(_indexed(tensor, index), value)


_GUARDED: dict[Any, Callable[..., Any]] = {
    torch.Tensor.copy_: aten.copy_.default,
    torch.Tensor.__getitem__: _indexed,
    torch.Tensor.__setitem__: _written,
    torch.Tensor.__int__: lambda tensor: int(tensor.item()),
    torch.Tensor.__index__: lambda tensor: int(tensor.item()),
    torch.Tensor.__float__: lambda tensor: float(tensor.item()),
    torch.Tensor.__bool__: lambda tensor: bool(tensor.item()),
}


def _unknown(func: Any, tensors: Values) -> Any:
    """A value in place of one that only a device knows."""
    if func is aten._local_scalar_dense.default:
        dtype = tensors[0].dtype
        return False if dtype is torch.bool else 0.0 if dtype.is_floating_point else 0
    if func is aten.equal.default:
        return True
    raise RuntimeError(f"{func} reads its result from the device ({_place()})")


def _place() -> str:
    """The line of the code under test that has led here."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != __name__ and module.partition(".")[0] not in OURS:
            file = frame.f_code.co_filename.rpartition("/")[2]
            return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "?"
