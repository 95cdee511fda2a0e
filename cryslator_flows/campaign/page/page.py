"""Write the page of a campaign."""

from __future__ import annotations

import base64
import heapq
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.campaign.page import figures
from cryslator_flows.campaign.report import describe_interval, describe_steps
from cryslator_flows.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure

    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.schemas import CampaignSummary, RelaxationComparison

MOST_ROWS = 10_000
MOST_STRUCTURES = 200
Row = tuple[float, str, str, str, float, bool]


def write_page(
    path: Path,
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    chunks: Iterable[TranslatedChunk],
    references: dict[str, float],
    unfinished: int,
) -> Path:
    """Write one HTML file that shows a campaign and needs no network.

    Parameters
    ----------
    path : Path
        File to write.
    summary : CampaignSummary
        The summary.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    chunks : iterable of TranslatedChunk
        The translated candidates; read once.
    references : dict
        Known formation energies by formula, in eV/atom.
    unfinished : int
        Jobs that wait or run.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    import itables
    from jinja2 import Environment, PackageLoader
    from plotly.offline import get_plotlyjs

    elements: dict[str, list[float]] = {}
    rows = heapq.nsmallest(MOST_ROWS, _rows(chunks, elements))
    relaxed = {item.candidate_id: item for item in comparisons}
    by_element = {symbol: (low, total / number) for symbol, (low, total, number) in elements.items()}
    drawn = {
        "funnel": figures.funnel(summary),
        "predicted": figures.predicted(comparisons, {row[1]: row[4] for row in rows}),
        "elements": figures.periodic_table(by_element) if by_element else None,
        **{f"steps-{name}": figure for name, figure in figures.steps(summary, comparisons).items()},
    }
    structures = _structures(comparisons)
    html = Path(itables.__file__).parent / "html"
    environment = Environment(loader=PackageLoader("cryslator_flows.campaign.page", "."), autoescape=True)
    # Structures and starts stay in the order of their dictionaries.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    page = environment.get_template("report.html.j2").render(
        summary=summary,
        unfinished=unfinished,
        shown=len(rows),
        most_structures=MOST_STRUCTURES,
        savings=[(item, describe_interval(item)) for item in summary.savings],
        slower=list(_slower(comparisons)),
        figures={name: figure for name, figure in drawn.items() if figure},
        hulls=figures.hulls([(row[2], row[0]) for row in rows if not row[5]], references),
        table=[_cells(row, relaxed.get(row[1])) for row in rows],
        structures=structures,
        looks=figures.looks(structures),
        plotly=get_plotlyjs(),
        datatables=base64.b64encode((html / "dt_bundle.js").read_bytes()).decode(),
        datatables_css=(html / "dt_bundle.css").read_text(),
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror}); choose another file") from error
    return path


def _rows(chunks: Iterable[TranslatedChunk], elements: dict[str, list[float]]) -> Iterator[Row]:
    """Energy, identifier, formula, template, uncertainty and whether atoms are too close.

    Lowest energy, sum and number of the others go to `elements` meanwhile.
    """
    for chunk in chunks:
        columns = chunk.translated.arrays()
        templates = list(chunk.translated.template_texts())
        for index, identifier in enumerate(columns["candidate_id"].tolist()):
            energy = float(columns["formation_energy_per_atom"][index])
            symbols = str(columns["symbols"][index]).split()
            for old, new in zip(symbols[::2], symbols[1::2], strict=True):
                if old != new and not columns["atoms_too_close"][index]:
                    known = elements.setdefault(new, [energy, 0.0, 0])
                    elements[new] = [min(known[0], energy), known[1] + energy, known[2] + 1]
            yield (
                energy,
                identifier,
                str(columns["formula"][index]),
                templates[columns["template"][index]],
                float(columns["formation_energy_uncertainty"][index]),
                bool(columns["atoms_too_close"][index]),
            )


def _cells(row: Row, comparison: RelaxationComparison | None) -> list[Any]:
    energy, identifier, formula, template, uncertainty, _ = row
    cells: list[Any] = [formula, template, "", round(energy, 4), round(uncertainty, 4), "", "", "", identifier]
    if comparison is not None:
        if comparison.translated_structure is not None:
            cells[2] = comparison.translated_structure.get_space_group_info()[0]
        cells[5] = "; ".join(
            f"{item.start}: {describe_steps(comparison, item.start)}" for item in comparison.relaxations
        )
        cells[6] = "; ".join(f"{item.start}: {item.outcome}" for item in comparison.endings)
        cells[7] = " ".join(uuid for item in comparison.relaxations for uuid in item.job_uuids)
    return cells


def _slower(comparisons: list[RelaxationComparison]) -> Iterator[dict[str, str]]:
    """Pairs that took more steps of a kind than from the unrelaxed start, whatever their outcome."""
    for comparison in comparisons:
        first = comparison.relaxation("unrelaxed")
        before = first.cost if first else None
        for ending in comparison.endings:
            other = comparison.relaxation(ending.start)
            after = other.cost if other else None
            if before is None or after is None or before.synthetic or after.synthetic:
                continue
            pairs = [
                (before.total_electronic_steps, after.total_electronic_steps),
                (before.ionic_steps, after.ionic_steps),
            ]
            if any(old is not None and new is not None and new > old for old, new in pairs):
                yield {
                    "formula": comparison.reduced_formula,
                    "start": ending.start,
                    "steps": f"{describe_steps(comparison, 'unrelaxed')} -> {describe_steps(comparison, ending.start)}",
                    "volume": _volume_change(comparison),
                    "guard": after.guard or "-",
                    "outcome": ending.outcome,
                }


def _volume_change(comparison: RelaxationComparison) -> str:
    before, after = comparison.unrelaxed_structure, comparison.translated_structure
    return "unknown" if before is None or after is None else f"{after.volume / before.volume - 1:+.1%}"


def _structures(comparisons: list[RelaxationComparison]) -> dict[str, dict[str, Any]]:
    """Atoms and cells of the first candidates that have structures, by formula and identifier."""
    found = {}
    for item in comparisons[:MOST_STRUCTURES]:
        kinds = {"unrelaxed": item.unrelaxed_structure, "translated": item.translated_structure}
        kinds |= {f"relaxed from {part.start}": part.structure for part in item.relaxations}
        drawn = {name: _atoms(structure) for name, structure in kinds.items() if structure is not None}
        if drawn:
            found[f"{item.reduced_formula} {item.candidate_id}"] = drawn
    return found


def _atoms(structure: Structure) -> dict[str, Any]:
    return {
        "symbols": [site.specie.symbol for site in structure],
        "positions": structure.cart_coords.round(4).tolist(),
        "lattice": structure.lattice.matrix.round(4).tolist(),
    }
