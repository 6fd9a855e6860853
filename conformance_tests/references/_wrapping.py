"""What the references of wrappers share: the reference inside, and putting back what it did."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Wrapping:
    """A reference around another, whose `params` and `state` it has."""

    def __init__(
        self, params: list[NDArray[np.float64]], inner_class: Any, **inner_kwargs: Any
    ) -> None:
        self.inner: Any = inner_class(params, **inner_kwargs)
        self.params: list[NDArray[np.float64]] = self.inner.params
        self.state: dict[str, Any] = self.inner.state

    def counted_only(self, own: tuple[str, ...]) -> None:
        """Let the inner reference count a step, and take nothing else of it but the `own` slots."""
        kept = copy.deepcopy((self.params, self.state))
        self.inner.step([np.zeros_like(param) for param in self.params])
        for param, value in zip(self.params, kept[0], strict=True):
            param[...] = value
        for slot, values in kept[1].items():
            if slot not in own:
                self.state[slot] = _put_back(self.state[slot], values)


def _put_back(into: Any, value: Any) -> Any:
    if isinstance(into, np.ndarray):
        into[...] = value
        return into
    if isinstance(into, (list, tuple)):
        return type(into)(_put_back(*pair) for pair in zip(into, value, strict=True))
    return value
