"""Export of a campaign as plain files."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monty.json import MontyEncoder

from cryslator_flows.analysis.computed_entries import computed_entries
from cryslator_flows.analysis.ends import converged_ends
from cryslator_flows.errors import StoreError
from cryslator_flows.results.frames import (
    CANDIDATE_COLUMNS,
    candidate_columns,
    candidate_rows,
    potential_frame,
    relaxations_frame,
)
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.system.whole_files import whole_text, write_whole, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from cryslator_flows.crystals.packing import TranslatedChunk
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.results.results import CampaignResults
    from cryslator_flows.screening.hulls import Competition


# The table of `relaxed_frame`.
RELAXED_FILE = "relaxed.csv"
# The table of `potential_frame`.
POTENTIAL_FILE = "potential.csv"


def export_campaign(
    results: CampaignResults, folder: Path | str, competition: Competition, element_energies: dict[str, float]
) -> dict[Path, int]:
    """Write candidates, comparisons and structures, also of a campaign that still runs.

    Parameters
    ----------
    results : CampaignResults
        The results of the campaign.
    folder : Path or str
        The folder to write to; it is made if missing.
    competition : Competition
        Phases that the candidates may decompose into.
    element_energies : dict
        Energies of the elements by the engine, in eV/atom.

    Returns
    -------
    dict
        Number of entries in each file or folder. ``candidates`` has the translated candidates, lowest predicted
        formation energy first. ``relaxations`` has a row for each candidate and start. Both are written as ``.csv`` and
        as ``.jsonl``. ``potential.csv`` has the candidates that a potential relaxed before. ``comparisons.jsonl`` has a
        `RelaxationComparison` in each line. ``relaxed.csv`` has the relaxed candidates, see `relaxed_frame`. The folder
        ``selected`` has a CIF of the translated structure of each selected candidate, ``relaxed`` a CIF of its lowest
        converged end.

    Raises
    ------
    CampaignError
        Enumeration has not ended, or the campaign does not exist.
    StoreError
        The folder cannot be written.
    """
    folder = Path(folder)
    comparisons = results.comparisons()
    chosen = results.selected()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    candidates = folder / "candidates.csv", folder / "candidates.jsonl"
    chunks = _write_selected(folder, chosen or [], results.chunks())
    number = write_candidates(candidates[0], chunks, competition, chosen, candidates[1])
    written = dict.fromkeys(candidates, number)
    relaxations = relaxations_frame(comparisons, results.rounds_of())
    write_whole(folder / "relaxations.csv", relaxations.map(cell).to_csv(index=False))
    write_whole(folder / "relaxations.jsonl", relaxations.to_json(orient="records", lines=True))
    potential = potential_frame(results, results.current_summary(comparisons), competition)
    if len(potential):
        write_whole(folder / POTENTIAL_FILE, potential.map(cell).to_csv())
        written[folder / POTENTIAL_FILE] = len(potential)
    written |= dict.fromkeys((folder / "relaxations.csv", folder / "relaxations.jsonl"), len(relaxations))
    with whole_text(folder / "comparisons.jsonl") as lines:
        lines.writelines(f"{json.dumps(item, cls=MontyEncoder)}\n" for item in comparisons)
    written[folder / "comparisons.jsonl"] = len(comparisons)
    written[folder / "selected"] = len(chosen or [])
    relaxed = relaxed_frame(comparisons, element_energies, competition, results.fetched_phases())
    write_relaxed_table(folder / RELAXED_FILE, relaxed)
    written[folder / RELAXED_FILE] = len(relaxed)
    written[folder / "relaxed"] = write_relaxed(folder / "relaxed", comparisons)
    return written


def cell(value: Any) -> Any:
    """Return a value that a spreadsheet shows unchanged: text that looks like a formula gets a leading apostrophe.

    >>> cell("=HYPERLINK(1)"), cell("-1.5"), cell(-1.5), cell("CaTiO3")
    ("'=HYPERLINK(1)", '-1.5', -1.5, 'CaTiO3')
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def write_entries(path: Path, results: CampaignResults) -> int:
    """Write the relaxed elements and candidates as JSON that pymatgen reads, see `computed_entries`.

    Returns
    -------
    int
        Number of entries.

    Examples
    --------
    >>> from monty.serialization import loadfn
    >>> from pymatgen.analysis.phase_diagram import PhaseDiagram
    >>> PhaseDiagram(loadfn("entries.json")).stable_entries  # doctest: +SKIP
    """
    entries = computed_entries(results.comparisons(), results.references())
    write_whole(path, json.dumps(entries, cls=MontyEncoder))
    return len(entries)


def write_relaxed_table(path: Path, relaxed: pd.DataFrame) -> None:
    """Write the relaxed candidates of `relaxed_frame` as CSV, their identifiers last."""
    table = relaxed.reset_index()
    write_whole(path, table[[*relaxed.columns, "candidate_id"]].map(cell).to_csv(index=False))


def cif_name(formula: str, candidate_id: str) -> str:
    """Return the name of a candidate's CIF; for every formula it stays in the folder."""
    return re.sub(r"[^\w().+-]", "_", f"{formula}-{candidate_id}.cif")


def write_candidates(
    path: Path,
    chunks: Iterable[TranslatedChunk],
    competition: Competition,
    chosen: list[str] | None,
    json_lines: Path | None = None,
) -> int:
    """Write a table of the translated candidates, lowest predicted formation energy first.

    A temporary SQLite database sorts the rows. SQLite moves it to the disk when it grows, so memory does not grow.

    Parameters
    ----------
    path : Path
        CSV file to write.
    chunks : iterable of TranslatedChunk
        The translated candidates.
    competition : Competition
        Phases that the candidates may decompose into.
    chosen : list of str or None
        The selected candidates, see `CampaignResults.selected`.
    json_lines : Path or None
        File for the same rows as JSON, an object in each line.

    Returns
    -------
    int
        Number of candidates.
    """
    energy = CANDIDATE_COLUMNS.index("formation_energy_per_atom")
    with ExitStack() as stack:
        stack.enter_context(_sorting(path))
        rows = stack.enter_context(closing(sqlite3.connect("")))
        rows.execute("CREATE TABLE candidates (energy REAL, id TEXT, row TEXT)")
        columns = CANDIDATE_COLUMNS
        for chunk in chunks:
            columns = candidate_columns(chunk.translated.arrays())
            cells = candidate_rows(chunk.translated, competition, chosen)
            rows.executemany(
                "INSERT INTO candidates VALUES (?, ?, ?)", ((row[energy], row[0], json.dumps(row)) for row in cells)
            )
        table = csv.writer(stack.enter_context(whole_text(path)))
        lines = stack.enter_context(whole_text(json_lines)) if json_lines else None
        table.writerow(columns)
        number = 0
        for (text,) in rows.execute("SELECT row FROM candidates ORDER BY energy, id"):
            row = json.loads(text)
            table.writerow(map(cell, row))
            if lines is not None:
                lines.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")
            number += 1
    return number


@contextmanager
def _sorting(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{path}: its rows cannot be sorted in a temporary file ({error}); free some space, or name another folder "
            "in the environment variable SQLITE_TMPDIR"
        ) from error


def _write_selected(folder: Path, chosen: list[str], chunks: Iterable[TranslatedChunk]) -> Iterator[TranslatedChunk]:
    """Yield the chunks again, and write a CIF of the translated structure of each chosen candidate."""
    for chunk in chunks:
        names = chunk.translated.arrays()["candidate_id"]
        for candidate, translation in chunk.translated.take(np.flatnonzero(np.isin(names, chosen))).rows():
            name = cif_name(candidate.reduced_formula, candidate.candidate_id)
            write_whole(folder / "selected" / name, translation.structure.to(fmt="cif"))
        yield chunk


def write_relaxed(folder: Path, comparisons: list[RelaxationComparison]) -> int:
    """Write a CIF of the lowest converged end of each candidate.

    Parameters
    ----------
    folder : Path
        The folder to write to; it is made if there is a CIF to write.
    comparisons : list of RelaxationComparison
        The relaxed candidates.

    Returns
    -------
    int
        Number of files.
    """
    number = 0
    for comparison in comparisons:
        ends = [end.structure for end in converged_ends(comparison.relaxations) if end.structure is not None]
        if ends:
            name = cif_name(comparison.reduced_formula, comparison.candidate_id)
            write_whole(folder / name, ends[0].to(fmt="cif"))
            number += 1
    return number
