"""Questions about how a parameter is kept, where nobody says it, with both ways to answer."""

from __future__ import annotations

from .names import Place

__all__ = [
    "has_outputs",
    "is_stack",
    "is_transposed",
    "parameter",
    "reads_order",
    "takes_no_kernel",
]

Shape = tuple[int, ...]


def is_stack(rule: str, path: str, shape: Shape) -> ValueError:
    """Whether an array of three axes or more is a stack of matrices."""
    said = _group(path, shape, "batch_axes", "0")
    return _asked(
        rule,
        path,
        shape,
        f"whether that is a stack of matrices. Say {said} if layers or experts are stacked along "
        "axis 0, and batch_axes () if it is one parameter, such as a convolution kernel, or layout "
        f"'ioo' if it has several axes of outputs; or give {rule}(batch_axes=...) for all "
        "parameters",
    )


def has_outputs(rule: str, path: str, shape: Shape) -> ValueError:
    """Which axis has the outputs."""
    said = _group(path, shape, "layout", "'oi'")
    return _asked(
        rule,
        path,
        shape,
        f"which axis has its outputs, and the name does not say it. Say {said} if they come first "
        "(torch, MLX, Equinox), and layout 'io' if they come last (Flax); or give "
        f"{rule}(layout=...) for all parameters",
    )


def is_transposed(rule: str, path: str, shape: Shape) -> ValueError:
    """Which axis has the outputs of a transposed convolution."""
    said = _group(path, shape, "layout", "'iox'")
    return _asked(
        rule,
        path,
        shape,
        "which axis has its outputs, and transposed convolutions differ. Say "
        f"{said} for torch.nn.ConvTranspose, layout 'oi' for that of Equinox, 'io' for that of "
        "Flax, and 'xoi' for Flax with transpose_kernel=True",
    )


def reads_order(rule: str, path: str, shape: Shape, turns: bool) -> ValueError:
    """In which order a rule means the axes of a kernel; a rule that ``turns`` has outputs first."""
    use = "find the axes with samestep.parts.factored.factored_axes(x.shape, self)"
    if turns:
        use = (
            "take all of these axes together, as samestep.parts.matrix.as_matrix(xp, x) does, or "
            "as axis=tuple(range(1, x.ndim))"
        )
    return ValueError(
        f"{rule}: {parameter(path)} has shape {shape}, and the step of {rule} depends on the order "
        f"of the axes{' after the outputs' * turns}, which is another one in each framework; {use}"
    )


def takes_no_kernel(rule: str, path: str, shape: Shape, error: Exception) -> ValueError:
    """A rule that fails for an array of that many axes."""
    return ValueError(
        f"{rule}: {parameter(path)} has shape {shape}, and {rule} takes no array of {len(shape)} "
        "axes; take all axes after the outputs together, as samestep.parts.matrix.as_matrix(xp, x) "
        f"does, or give the parameter to another rule (samestep.route). {error}"
    )


def parameter(path: str) -> str:
    """A parameter in a message."""
    return f"parameter {path!r}" if path else "the parameter"


def _asked(rule: str, path: str, shape: Shape, what: str) -> ValueError:
    return ValueError(f"{rule}: {parameter(path)} has shape {shape}; {rule} must know {what}")


def _group(path: str, shape: Shape, option: str, value: str) -> str:
    named = path and not isinstance(path, Place)
    where = f"path={path!r}" if named else f"ndim={len(shape)}"
    return f"groups=[(Where({where}), {{{option!r}: {value}}})]"
