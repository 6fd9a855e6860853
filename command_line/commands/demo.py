"""``samestep demo``: one network trained with one rule in every framework, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samestep.command_line import options
from samestep.command_line.report import (
    Block,
    Chart,
    Charts,
    Code,
    Curve,
    Heading,
    Line,
    Part,
    Report,
    Table,
    Versions,
    Words,
    in_ulp,
    show,
)

if TYPE_CHECKING:
    from samestep.command_line.demonstration.measurement import Measured, Series

__all__ = ["command"]

PACKAGES = (
    *("samestep", "numpy", "array-api-compat", "torch", "jax", "jaxlib", "optax", "mlx"),
    "scikit-learn",
)
COLOURS = {"numpy": 3, "torch": 0, "jax": 1, "mlx": 2}
"""Places of the frameworks' colours."""
OWN_DASH = "7 3"
"""The dash of the lines of the libraries' own optimizers."""
ALONE = (
    "Each optimizer starts at the same parameters and is given the gradients that NumPy's training "
    "recorded. Shown is the largest difference between any of its {size:,} parameters and those of "
    "samestep on NumPy, in ULP. Solid: samestep. Dashed: the library's own optimizer with equal "
    "hyperparameters and otherwise its defaults."
)
TRAINING = (
    "The same network (64-64-10) on handwritten digits, the same initial parameters and batches. "
    "Each framework runs its own forward pass, differentiation and Adan steps, so this difference "
    "also contains the rounding of matrix products, exponentials and sums, which the libraries "
    "compute in different orders. After many steps the largest difference is in weights of pixels "
    "that hardly any image has ink in: Adan scales their small gradients up to full steps, and the "
    "rounding of those gradients with them."
)
MEASURED = (
    "All arrays are float32. A difference is counted in ULP (units in the last place, the spacing "
    "of float32 numbers: about 1 part in 10 million) at the largest size that the parameter and "
    "its updates have had so far; 0 is the same to the last bit. Tables and curves show the "
    "largest over all parameters. Hyperparameters, the same for everyone: "
)
EAGER = (
    "Everything runs eagerly, one operation after another. On JAX the rule is called as ",
    Words("rule.update", "code"),
    "; the optax form in samestep.jax returns differences, and adding one to the parameter rounds "
    "once more.",
)
REASONS = (
    "Known reasons for differences: torch's square root on the CPU is not correctly rounded. optax "
    "computes 1 - beta^t in float32. optax.adan weights the gradient difference by 1 - beta2 in "
    "place of beta2 (optax#1715), and its weight decay is decoupled where Adan's is proximal; its "
    "eps_root, which Adan does not have, was set to 0. mlx.optimizers.AdamW leaves the bias "
    "correction out unless asked for it."
)


@click.command()
@click.option(
    "--steps", default=300, show_default=True, type=click.IntRange(min=1), help="Training steps."
)
@click.option(
    "--out",
    default=Path("samestep-demo.html"),
    show_default=True,
    type=options.NOT_A_FOLDER,
    help="The page to write.",
)
@click.option(
    "--frameworks", metavar="NAME,NAME,...", help="Frameworks to run next to NumPy; all by default."
)
@click.option("--open", "opens", is_flag=True, help="Show the page in a browser.")
def command(steps: int, out: Path, frameworks: str | None, opens: bool) -> None:
    """Train one network with one rule in every framework and compare them step by step.

    NumPy is the baseline. Writes one HTML file that needs no network.
    """
    from samestep.checkpoints.replacing import replace_text
    from samestep.command_line.demonstration import measurement
    from samestep.command_line.page import page
    from samestep.command_line.progress import training
    from samestep.parity.backend import Backend

    known = [*measurement.FRAMEWORKS]
    names = known if frameworks is None else options.known_names("framework", frameworks, known)
    options.refuse_missing_folder(f"--out {out}", out)
    chosen = measurement.frameworks(names)
    present = [name for name, backend in chosen.items() if isinstance(backend, Backend)]
    with training({name: steps * measurement.runs_of(name) for name in present}) as watch:
        report = _report(measurement.measure(steps, chosen, watch))
    show(report)
    replace_text(out, page(report))
    click.echo(out.resolve())
    if opens:
        click.launch(str(out.resolve()))


def headline(measured: Measured) -> list[str]:
    """The result in sentences: samestep first, then the libraries' own optimizers."""
    ours = [series for series in measured.replayed["Adan"] if series.ours]
    if not ours:
        return ["Only NumPy was run, so there is nothing to compare."]
    same = [series.framework for series in ours if series.largest == 0]
    apart = [
        f"on {series.framework} it differs by at most {in_ulp(series.largest)} ULP"
        for series in ours
        if series.largest > 0
    ]
    equal = [f"on {_listed(same)} it has NumPy's parameters bit for bit"] if same else []
    sentences = [
        f"samestep's Adan, {measured.steps} steps on the same gradients: "
        f"{'; '.join(equal + apart)}."
    ]
    own = [
        f"{series.name} by up to {in_ulp(series.largest)} ULP"
        for by_rule in measured.replayed.values()
        for series in by_rule
        if not series.ours
    ]
    if own:
        sentences.append(
            "The libraries' own optimizers, compared with the same rule in samestep, "
            f"differ: {_listed(own)}."
        )
    return sentences


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _report(measured: Measured) -> Report:
    first, *more = headline(measured)
    count, steps = len(measured.trained), measured.steps
    return Report(
        [
            *(Line(sentence, on="page") for sentence in more),
            *_missing(measured),
            _trained(measured, "terminal"),
            *_alone(measured),
            *_training(measured),
            *_method(measured),
        ],
        headline=[first],
        top=f"samestep demo: one rule, {count} frameworks, {steps} steps",
    )


def _missing(measured: Measured) -> Iterator[Block]:
    if measured.missing:
        said: list[Part] = ["Missing here: "]
        for place, missing in enumerate(measured.missing):
            said += [", "] if place else []
            said += [Words(missing.name, "strong"), f" ({missing.reason})"]
        yield Line([*said, "."], on="page")


def _trained(measured: Measured, on: str) -> Table:
    columns = ("framework", "final loss", "test accuracy")
    rows = [
        (run.framework, f"{run.losses[-1]:.6f}", f"{run.accuracy:.1%}") for run in measured.trained
    ]
    rows += [(missing.name, "missing", str(missing.reason)) for missing in measured.missing]
    title = f"{measured.steps} steps of Adan" if on == "terminal" else ""
    return Table(columns, rows, title=title, right=columns[1:], frame="grid", on=on)


def _alone(measured: Measured) -> Iterator[Block]:
    """The optimizers on the same gradients."""
    replayed = {rule: series for rule, series in measured.replayed.items() if series}
    if not replayed:
        return
    yield Heading("The optimizers alone: the same gradients for everyone", on="page")
    yield Line(ALONE.format(size=measured.size), mark="quiet", on="page")
    yield Charts(
        [
            _differences(rule, f"{rule} on NumPy's gradients", series, measured.steps)
            for rule, series in replayed.items()
        ]
    )


def _training(measured: Measured) -> Iterator[Block]:
    """The training runs: losses, and differences from NumPy."""
    yield Heading("Training: each framework computes its own gradients", on="page")
    yield Line(TRAINING, mark="quiet", on="page")
    losses = [
        Curve(run.framework, [1.0, *run.losses], colour=COLOURS[run.framework], **_line(place))
        for place, run in enumerate(measured.trained)
    ]
    table = _trained(measured, "page")
    charts = [Chart("Loss", "Loss of each training step, on a logarithmic scale", losses, table)]
    title = "Adan, training: each framework computes its own gradients"
    series = measured.training
    apart = [_differences("Difference from NumPy", title, series, measured.steps)] if series else []
    yield Charts(apart, on="terminal")
    yield Charts([*charts, *apart], on="page")


def _differences(title: str, titled: str, series: Sequence[Series], steps: int) -> Chart:
    """Distances from NumPy's parameters after each step."""
    from samestep.command_line.demonstration.measurement import landmarks

    shown = landmarks(steps)
    columns = ("ULP from NumPy", *(f"step {step}" for step in shown))
    rows = [(one.label, *(in_ulp(one.ulps[step - 1]) for step in shown)) for one in series]
    curves = [
        Curve(
            one.label,
            [0.0, *one.ulps],
            colour=COLOURS[one.framework],
            **(_line(place) if one.ours else {"dash": OWN_DASH}),
        )
        for place, one in enumerate(series)
    ]
    about = "Difference from NumPy after each step, in ULP, on a logarithmic scale"
    table = Table(columns, rows, title=titled, right=columns[1:], frame="grid")
    return Chart(title, about, curves, table)


def _line(place: int) -> dict[str, Any]:
    """Curves that lie on one another are drawn ever thinner, so that all are seen."""
    return {"dash": "", "width": 6 / 1.9**place}


def _method(measured: Measured) -> Iterator[Block]:
    """How it was measured, and how to do it again."""
    from samestep.command_line.demonstration.measurement import RULES
    from samestep.parity.environment import environment

    rules: list[Part] = []
    for rule in RULES.values():
        rules += [" and "] if rules else []
        rules.append(Words(repr(rule), "code"))
    accuracy = (
        ", otherwise samestep's defaults. Test accuracy is computed in NumPy from each framework's "
        "final parameters."
    )
    yield Heading("How it was measured", on="page")
    yield Line((MEASURED, *rules, accuracy), on="page")
    yield Line(EAGER, on="page")
    yield Line(REASONS, on="page")
    yield Heading("Reproduce", on="page")
    names = ",".join(run.framework for run in measured.trained)
    again = f"samestep demo --steps {measured.steps} --frameworks {names}"
    yield Code(f'pip install "samestep[all]"\n{again}', on="page")
    yield Versions(environment(PACKAGES, "not installed"), on="page")
