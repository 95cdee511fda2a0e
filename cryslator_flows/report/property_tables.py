"""Table in Markdown and picture of the errors of starts and their electrons against the relaxed structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cryslator_flows.analysis.property_errors import DOS_DEPTH
from cryslator_flows.documents.relaxations import STARTS
from cryslator_flows.errors import DataError
from cryslator_flows.system.console import markdown_table
from cryslator_flows.system.look import START_COLORS
from cryslator_flows.system.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryslator_flows.documents.properties import PropertyComparison, PropertyErrors
    from cryslator_flows.documents.relaxations import Start


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error: its name, its unit and its absolute value, None if unknown."""

    name: str
    unit: str
    digits: int
    value: Callable[[PropertyErrors], float | None]
    drawn: bool = True

    @property
    def label(self) -> str:
        """Name and unit."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def _absolute(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _mean_absolute(values: tuple[float, ...]) -> float:
    return float(np.abs(values).mean())


QUANTITIES = (
    ErrorKind("cell volume", "%", 2, lambda errors: 100 * abs(errors.volume)),
    ErrorKind("volume", "A^3/atom", 3, lambda errors: abs(errors.volume_per_atom), drawn=False),
    ErrorKind("lattice lengths", "A", 3, lambda errors: _mean_absolute(errors.lengths), drawn=False),
    ErrorKind("lattice angles", "deg", 2, lambda errors: _mean_absolute(errors.angles), drawn=False),
    ErrorKind("fractional coordinates", "", 4, lambda errors: errors.fractional),
    ErrorKind("Cartesian coordinates", "A", 3, lambda errors: errors.cartesian),
    ErrorKind("band gap", "eV", 3, lambda errors: _absolute(errors.band_gap)),
    ErrorKind("Fermi level", "eV", 3, lambda errors: _absolute(errors.efermi)),
    ErrorKind(
        "DOS distance", "%", 1, lambda errors: None if errors.dos_distance is None else 100 * errors.dos_distance
    ),
)


def measured(comparisons: list[PropertyComparison]) -> list[PropertyComparison]:
    """Return the comparisons without a test double of an engine."""
    return [comparison for comparison in comparisons if not comparison.synthetic]


def paired_errors(comparisons: list[PropertyComparison], quantity: ErrorKind) -> dict[Start, list[float]]:
    """Collect absolute errors of the starts, over the candidates with known errors of all starts.

    Parameters
    ----------
    comparisons : list of PropertyComparison
        Comparisons; comparisons of test doubles are left out. A start counts if it occurs in any other comparison.
    quantity : Quantity
        The kind of errors.

    Returns
    -------
    dict
        For each start the errors in the order of the candidates; empty lists if no candidate has all errors.
    """
    comparisons = measured(comparisons)
    starts = [start for start in STARTS if any(start in comparison.errors for comparison in comparisons)]
    rows = []
    for comparison in comparisons:
        errors = [comparison.errors.get(start) for start in starts]
        values = [None if item is None else quantity.value(item) for item in errors]
        known = [value for value in values if value is not None]
        if len(known) == len(starts):
            rows.append(known)
    return {start: [row[place] for row in rows] for place, start in enumerate(starts)}


def _engines(comparisons: list[PropertyComparison]) -> str:
    electronic = [item for comparison in measured(comparisons) for item in comparison.electronic.values()]
    return ", ".join(sorted({item.engine for item in electronic})) or "no engine"


def _notes(comparisons: list[PropertyComparison]) -> list[str]:
    kept = measured(comparisons)
    about_distance = (
        f"DOS distance: share of the electrons down to {DOS_DEPTH:g} eV below the highest occupied level "
        "that have other energies."
    )
    about_nearer = (
        "Nearer, farther: share of candidates whose translated structure has a smaller (larger) error than the other; "
        "the rest is equal."
    )
    about_fermi = (
        "The Fermi level is relative to the engine's zero of energy, which depends on the volume of the cell. With a "
        "gap it is the middle of the gap."
    )
    notes = [
        f"Engine: {_engines(comparisons)}.",
        "Means of absolute errors against the structure relaxed from the unrelaxed start.",
        about_nearer,
        about_fermi,
        about_distance,
    ]
    if len(kept) < len(comparisons):
        notes.append(f"Left out, since a test double calculated them: {len(comparisons) - len(kept)} candidates.")
    incomplete = sum(
        bool(comparison.missing or any(item.dos_error for item in comparison.electronic.values()))
        for comparison in kept
    )
    if incomplete:
        notes.append(
            f"Not all could be calculated or compared for {incomplete} candidates; 'missing' and 'dos_error' say why."
        )
    return notes


def properties_markdown(comparisons: list[PropertyComparison]) -> str:
    """Make a table of mean absolute errors of each start against the relaxed structures in Markdown, with notes below.

    Parameters
    ----------
    comparisons : list of PropertyComparison
        Comparisons; comparisons of test doubles are left out and counted below the table.

    Returns
    -------
    str
        One row for each quantity, over the candidates with known errors of all starts.
    """
    lines = []
    starts: list[Start] = []
    for quantity in QUANTITIES:
        errors = paired_errors(comparisons, quantity)
        starts = list(errors)
        means = [f"{np.mean(values):.{quantity.digits}f}" if values else "-" for values in errors.values()]
        nearer = farther = "-"
        if errors.get("unrelaxed") and errors.get("translated"):
            # Atoms that symmetry keeps in place differ by rounding errors.
            gain = np.round(np.subtract(errors["unrelaxed"], errors["translated"]), quantity.digits + 2)
            nearer, farther = f"{np.mean(gain > 0):.0%}", f"{np.mean(gain < 0):.0%}"
        lines.append([quantity.label, str(len(next(iter(errors.values()), []))), *means, nearer, farther])
    header = ["error of", ">candidates", *(f">{start}" for start in starts), ">nearer", ">farther"]
    return f"{markdown_table(header, lines)}\n\n{' '.join(_notes(comparisons))}\n"


def plot_properties(path: Path, comparisons: list[PropertyComparison]) -> Path:
    """Draw the errors of every candidate from each start, one panel for each quantity.

    Parameters
    ----------
    path : Path
        The picture to write.
    comparisons : list of PropertyComparison
        Comparisons; comparisons of test doubles are left out.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    DataError
        No comparison is a measurement.
    """
    if not any(comparison.errors for comparison in measured(comparisons)):
        raise DataError(
            f"{path.name}: none of {len(comparisons)} property comparisons is a measurement, since test doubles "
            "calculated them or nothing could be compared; run the flow with a real engine"
        )
    from matplotlib.figure import Figure

    drawn = [quantity for quantity in QUANTITIES if quantity.drawn]
    figure = Figure(figsize=(10.5, 6.6))
    axes = figure.subplots(2, 3)
    for axis, quantity in zip(axes.flat, drawn, strict=True):
        _draw(axis, quantity, paired_errors(comparisons, quantity))
    figure.suptitle(f"{_engines(comparisons)}: errors against the relaxed structure, candidates and their mean (bar)")
    figure.tight_layout()
    with whole_file(path) as file:
        figure.savefig(file, dpi=150)
    return path


def _draw(axis: Any, quantity: ErrorKind, errors: dict[Start, list[float]]) -> None:
    """Draw bars of the means, with points of the candidates; a line joins the points of one candidate."""
    n_pairs = len(next(iter(errors.values())))
    axis.set_title(f"{quantity.name}, n = {n_pairs}", fontsize=10.5)
    axis.set_ylabel(quantity.unit.replace("A", "Å") or "fraction of the cell")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xticks(range(len(errors)), [start.replace("_", "_\n") for start in errors])
    axis.set_xlim(-0.6, len(errors) - 0.4)
    if not n_pairs:
        axis.text(0.5, 0.5, "unknown", ha="center", color="0.5", transform=axis.transAxes)
        axis.set_yticks([])
        return
    values = np.array(list(errors.values()))
    jitter = np.linspace(-0.14, 0.14, n_pairs) if n_pairs > 1 else np.zeros(1)
    places = np.arange(len(errors))[:, None] + jitter
    axis.plot(places, values, color="0.75", lw=0.6, zorder=2)
    top = max(values.max(), 10.0**-quantity.digits)
    for place, start in enumerate(errors):
        mean = values[place].mean()
        axis.bar(place, mean, width=0.62, color=START_COLORS[start], alpha=0.35, lw=0, zorder=1)
        axis.plot([place - 0.31, place + 0.31], [mean, mean], color=START_COLORS[start], lw=2, zorder=4)
        axis.scatter(places[place], values[place], s=20, color=START_COLORS[start], edgecolor="white", lw=0.5, zorder=3)
        axis.text(place, top * 1.04, f"{mean:.{quantity.digits}f}", ha="center", va="bottom", fontsize=9.5)
    axis.set_ylim(0, top * 1.16)
