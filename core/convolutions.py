"""Kernels of convolutions, told from stacks of matrices by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["is_kernel"]

NAME = re.compile(
    r".*conv(?:olution)?s?(?:_?transpose)?(?:_?([123])_?d|_?\dx\d)?(?:_?transpose)?(?:_?\d+)?", re.I
)
"""The name of a layer whose last word is conv: ``Conv_0``, ``conv1``, ``conv2d``, ``dwconv``."""
LARGEST = 7
"""The largest size of a kernel that its shape tells."""
OF_IMAGES = 4, 16
"""The largest number of inputs of a layer on images, and the largest size of such a kernel: the
patches of a vision transformer."""


def is_kernel(path: str, shape: Sequence[int], letters: str, usual: bool) -> bool:
    """Whether an array of three axes or more is known to be the kernel of one convolution.

    The name of its layer has to say so, with the number of dimensions or with three or four axes.
    Of four axes, the two of places have to be equal: a stack of other kernels has four too, and one
    of its places is 1 if its kernels have one place, or take one input each.

    Args:
        path: the names of the parameter joined by dots.
        shape: its shape.
        letters: a letter for each axis, x for places of a kernel; empty if nobody knows them.
        usual: whether nearly all arrays of four axes are kernels here. No name is needed then for a
            small kernel, one of whose places may be 1.
    """
    layers = [name for name in re.split("[./]", path) if not name.isdigit()]
    named = next(filter(None, map(NAME.fullmatch, layers[:-3:-1])), None)
    dimensions = len(shape) - 2
    if named and named[1]:
        return int(named[1]) == dimensions
    if dimensions == 1:
        return bool(named)
    places = [size for size, letter in zip(shape, letters, strict=False) if letter == "x"]
    if dimensions != 2 or len({*places} - {1}) > 1:
        return False
    square = len({*places}) < 2
    if (named and square) or not usual:
        return bool(named) and square
    inputs, outputs = (shape[letters.index(letter)] for letter in "io")
    if named:
        return inputs == 1 or max(places) <= LARGEST
    colors, patch = OF_IMAGES
    return max(places) <= min(patch if inputs <= colors else LARGEST, max(inputs, outputs))
