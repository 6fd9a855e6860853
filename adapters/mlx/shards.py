"""Parameters of which each rank of a group has a piece."""

from __future__ import annotations

import ast
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from itertools import accumulate
from typing import Any, NamedTuple

import numpy

import mlx.core as xp
from samestep.arrays import listed
from samestep.differing import differing, numbers_of
from samestep.groups import holds, parameter
from samestep.notice import warn
from samestep.placement import Cut, Mesh, Placement
from samestep.rule import Rule

__all__ = ["Exchange", "Shards", "telling", "told"]

Array = Any


class Shards:
    """Which axis of which parameters is divided among the ranks of a group.

    Args:
        rule: the rule.
        group: the ranks, of ``mx.distributed.init`` or ``split``; ``None`` where nothing is
            divided.
        given: an axis, of every parameter; or pairs of a predicate and an axis, of which the first
            that chooses a parameter counts. Parameters that none chooses are whole on every rank.

    Raises:
        TypeError, ValueError: only one of the two is given, or ``given`` is something else.
    """

    def __init__(self, rule: Rule, group: Any, given: Any) -> None:
        self.name, self.group = rule.name, group
        self.given = [(None, given)] if isinstance(given, int) else [*(given or ())]
        self._known: dict[str, _Known] = {}
        needs = next((own.needs for own in rule.branches if own.needs != "element"), "element")
        self._sees, self._opens = needs != "element", True
        if group is None and given is not None:
            raise ValueError(
                f"{rule.name}(shards={given!r}): give the group too, such as "
                "group=mx.distributed.init()"
            )
        if group is not None and given is None and self._sees:
            raise ValueError(
                f"{rule.name}(group=...): {rule.name} reads more than one element (needs "
                f"{needs!r}), so it must know which parameters are divided among the ranks; "
                "give shards=0 if that is the first axis of every parameter, or pairs such as "
                "[(Where(path='*.up.weight'), 0)]. If every rank has all parameters, leave out "
                "group= and average the gradients with mlx.nn.average_gradients"
            )
        for pair in self.given:
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and _is_axis(pair[1])):
                raise TypeError(
                    f"{rule.name}(shards={given!r}): shards must be an axis, or pairs such as "
                    "(Where(path='*.up.weight'), 0)"
                )

    def meet(self, params: Mapping[str, Array]) -> None:
        """Find which piece of each parameter this rank has.

        All ranks call this with the same paths. What is new to them they tell each other.

        Raises:
            ValueError: an axis is not there, or ranks have other parameters.
        """
        if self._alone:
            return
        known = {path: one.shape for path, one in self._known.items()}
        new = [path for path, array in params.items() if known.get(path) != tuple(array.shape)]
        if new:  # of an element rule the place of a later piece does not matter
            meets = self._sees or not self._known
            self._meet({path: params[path] for path in sorted(new)}, self._say if meets else None)

    def of(self, path: str) -> Placement | None:
        """Which piece of a parameter this rank has; ``None`` where it has the whole."""
        return self._known[path].placement if path in self._known else None

    def copies(self, rule: Rule, path: str) -> Mesh | None:
        """The ranks that have copies of a parameter, and agree on its terms of sums."""
        whole = rule.phases and self._exchanges and self.of(path) is None
        return self._mesh if whole else None

    def exchange(self, paths: Sequence[str], rule: Rule, step: Any) -> Exchange | None:
        """What the ranks exchange with in one step of these parameters.

        Args:
            paths: the parameters.
            rule: the rule, with its numbers.
            step: the calls so far, if they are known.

        Raises:
            ValueError: other ranks step otherwise, or cannot take the step.
        """
        if not self._exchanges:
            return None
        calls = step if isinstance(step, int) else None
        words = *numbers_of(rule, calls), f"calls so far: {calls}"
        self._agree(tuple(self._known[path].words for path in paths), numbers=words)
        return Exchange(self.group)

    @property
    def _mesh(self) -> Mesh:
        return Mesh(("mlx", id(self.group)), (self.group.size(),), (self.group.rank(),))

    @property
    def divides(self) -> bool:
        """Whether ranks may have pieces."""
        return not self._alone and bool(self.given)

    @property
    def _alone(self) -> bool:
        return self.group is None or self.group.size() == 1

    @property
    def _exchanges(self) -> bool:
        """Whether ranks exchange something in a step."""
        return self._sees and any(one.placement for one in self._known.values())

    def failed(self, error: Exception, steps: bool) -> None:
        """Tell an error to the ranks that wait for this one, in a step or to meet."""
        if self._opens and not self._alone and (not self._known or (steps and self._exchanges)):
            with suppress(ValueError):
                self._agree((), str(error))

    def _agree(
        self, words: tuple[str, ...], error: str | None = None, numbers: tuple[str, ...] = ()
    ) -> None:
        """Go on if all ranks say the same; if not, all raise."""
        self._opens = False
        said = repr((error, words, numbers)).encode()
        if len({number for (number,) in self._told([zlib.crc32(said) >> 1])}) == 1:
            return
        sizes = [size for (size,) in self._told([len(said)])]
        rows = self._told([*said, *[0] * (max(sizes) - len(said))])
        found = [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]
        raise ValueError(differing(self.name, [*map(ast.literal_eval, found)]))

    def pieces(
        self, params: Mapping[str, Array], agree: Callable[[Mapping[str, str]], None]
    ) -> dict[str, Placement]:
        """Which piece of each divided parameter this rank has, also where no step has to know.

        Args:
            params: the parameters.
            agree: goes on if all ranks say the same, which are facts by names.
        """
        late = [path for path in sorted(params) if not self._is_placed(path, params[path])]
        self._meet({path: params[path] for path in late}, agree)
        return {path: place for path in params if (place := self.of(path)) is not None}

    def _is_placed(self, path: str, array: Array) -> bool:
        """Whether it is known which piece of a parameter this is."""
        one = self._known.get(path)
        if one is None or one.shape != tuple(array.shape):
            return False
        return one.placement is not None or not one.divided

    def _say(self, words: Mapping[str, str]) -> None:
        """Go on if all ranks have the same parameters."""
        self._agree((*words.values(),))
        self._opens = True  # a step is to come

    def _meet(
        self, params: Mapping[str, Array], agree: Callable[[Mapping[str, str]], None] | None
    ) -> None:
        """Find the pieces of parameters that have not been seen; without ``agree`` no places."""
        cuts = {path: self._axis(path, array) for path, array in params.items()}
        if not (self._known or any(axis is not None for axis in cuts.values())) and self.given:
            warn(f"{self.name}: shards= chooses none of the parameters {listed(cuts)}")
        words = {}
        for path, array in params.items():
            sizes: list[Any] = [*array.shape]
            if (axis := cuts[path]) is not None:
                sizes[axis] = "divided"
            words[path] = f"{path!r} of shape ({', '.join(map(str, sizes))}), {array.dtype}"
        table = list[list[int]]()
        if agree is not None:
            agree(words)
            firsts = [(array.shape, cuts[path] or 0) for path, array in params.items()]
            table = self._told([shape[axis] if shape else 0 for shape, axis in firsts])
        for place, (path, array) in enumerate(params.items()):
            axis, shape = cuts[path], [*array.shape]
            placed = None
            if axis is not None and agree is not None:
                bounds = (0, *accumulate(one[place] for one in table))
                shape[axis] = bounds[-1]
                along = [Cut(bounds, (0,)) if at == axis else None for at in range(array.ndim)]
                placed = Placement(tuple(shape), tuple(along), self._mesh)
            known = tuple(array.shape), axis is not None, placed, words[path]
            self._known[path] = _Known(*known)

    def _axis(self, path: str, array: Array) -> int | None:
        """The axis of a parameter that is divided."""
        for predicate, axis in self.given:
            if predicate is None or holds(predicate, predicate, parameter(path, array.shape)):
                if not -array.ndim <= axis < array.ndim:
                    raise ValueError(
                        f"{self.name}: parameter {path!r} has shape {tuple(array.shape)}, and "
                        f"shards= says that its axis {axis} is divided"
                    )
                place: int = axis % array.ndim
                return place
        return None

    def _told(self, numbers: list[int]) -> list[list[int]]:
        """The numbers of all ranks."""
        return told(self.group, numbers)


def told(group: Any, numbers: list[int]) -> list[list[int]]:
    """The numbers of all ranks, of 32 bits."""
    own = xp.array([numbers], xp.int32)
    rows: Any = numpy.array(xp.distributed.all_gather(own, group=group))
    return [[*map(int, row)] for row in rows]


def _is_axis(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _Known(NamedTuple):
    """What a rank knows of a parameter: the shape of its piece, which one it is, and words."""

    shape: tuple[int, ...]
    divided: bool
    placement: Placement | None
    words: str


def telling(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an optimizer whose errors are told to ranks that wait for this one."""

    @wraps(method)
    def tells(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._shards._opens = True
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self._shards.failed(error, steps=method.__name__ != "init")
            raise

    return tells


class Exchange:
    """The ranks of a group in one step, in which they exchange in one order."""

    def __init__(self, group: Any) -> None:
        self.group = group
        self._last: Array | None = None

    def gathered(self, mesh: Mesh, vector: Array) -> Array:
        """The vectors of all ranks, as the rows of a matrix."""
        if self._last is not None:
            vector = xp.depends([vector], [self._last])[0]
        self._last = xp.distributed.all_gather(vector[None], group=self.group)
        return self._last
