"""The page of a campaign as one HTML file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryslator_flows.analysis.ends import measured_engines
from cryslator_flows.report.adaptation_table import AdaptationText
from cryslator_flows.report.headline import headline, main_saving
from cryslator_flows.report.page import figures, provenance
from cryslator_flows.report.page.agreement import (
    compare_energies,
    describe_engine,
    lacking_elements,
)
from cryslator_flows.report.page.best_table import FIRST_ROWS, BestTable, best_relaxed, best_selected
from cryslator_flows.report.page.phases import all_hulls
from cryslator_flows.report.page.relaxed_table import COLUMNS, PRINTED_COLUMNS, PRINTED_ROWS, table_columns, table_rows
from cryslator_flows.report.page.viewer import MOST_STRUCTURES, atom_styles, viewed
from cryslator_flows.report.page.warning_lines import warning_lines
from cryslator_flows.report.plan_tables import HOURS_NOTE
from cryslator_flows.report.relaxed_results import describe_energies
from cryslator_flows.report.savings_tables import describe_interval, describe_mean, describe_prerelaxations
from cryslator_flows.report.tables import describe_lowest, describe_steps, funnel_rows
from cryslator_flows.results.export import POTENTIAL_FILE, RELAXED_FILE
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.screening.known_phases import symbols_of
from cryslator_flows.system.console import several
from cryslator_flows.system.look import TEMPLATE, style_sheet
from cryslator_flows.system.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from cryslator_flows.documents.references import FetchedPhases
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.report.page.candidate_table import CandidateTable

# Parts of the page's one script, in the order in which they need each other.
SCRIPTS = ("libraries", "figures", "candidates", "viewer", "front", "start")
# Files of a campaign that the page links to if they lie beside it.
BESIDE = (RELAXED_FILE, POTENTIAL_FILE, "candidates.csv", "summary.json", "savings.png")


@dataclass
class PageContent:
    """Content of the page of a campaign.

    Parameters
    ----------
    summary : CampaignSummary
        The summary.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    candidates : CandidateTable
        The translated candidates, after all chunks are read.
    relaxed : DataFrame
        The relaxed candidates, see `relaxed_frame`; None without them.
    selected : DataFrame
        The first selected candidates, see `selected_frame`; None if candidates are relaxed.
    fetched : FetchedPhases or None
        Phases that the campaign fetched from the Materials Project.
    settings : dict
        See `StartedCampaign.settings`.
    element_energies : dict
        Energies of the elements by the engine, in eV/atom.
    unfinished : int
        Number of jobs that wait or run.
    failed : int
        Number of failed jobs.
    reasons : list of str
        Reasons of the failures, each once.
    job_command : str or None
        Command that describes a job when its uuid is added, as in ``jf -p PROJECT job info``.
    hours : list of list of str
        Rows of planned and spent core-hours, see `hours_rows`.
    """

    summary: CampaignSummary
    comparisons: list[RelaxationComparison]
    candidates: CandidateTable
    relaxed: pd.DataFrame | None = None
    selected: pd.DataFrame | None = None
    fetched: FetchedPhases | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    element_energies: dict[str, float] = field(default_factory=dict)
    unfinished: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    job_command: str | None = None
    hours: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class LivePart:
    """Additions of a server to the page of a campaign.

    Parameters
    ----------
    script : str
        Script that reads the state of the campaign, and loads the page again when the state has changed.
    state : str
        State of the campaign that the page shows.
    is_final : bool
        True if no job waits or runs, so that the state will not change.
    """

    script: str
    state: str
    is_final: bool


def write_page(path: Path, content: PageContent) -> Path:
    """Write one HTML file that shows a campaign and needs no network.

    Parameters
    ----------
    path : Path
        File to write.
    content : PageContent
        Its content.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    write_whole(path, draw_page(content, path.absolute().parent))
    return path


def draw_page(content: PageContent, folder: Path, live: LivePart | None = None) -> str:
    """Return the HTML that shows a campaign and needs no network.

    Parameters
    ----------
    content : PageContent
        Its content.
    folder : Path
        The page links to files in this folder as if it were there.
    live : LivePart or None
        Additions of a server, whose page links to no folders of jobs; None for a file.
    """
    from jinja2 import Environment, PackageLoader

    summary, comparisons, candidates, relaxed = (
        content.summary, content.comparisons, content.candidates, content.relaxed
    )  # fmt: skip
    agreement = compare_energies(comparisons, candidates.uncertainties, content.element_energies)
    means = {symbol: (low, total / number) for symbol, (low, total, number) in candidates.elements.items()}
    drawn = {
        "funnel": figures.funnel(summary),
        "energies": figures.agreement(agreement, comparisons)
        if agreement
        else figures.predicted(comparisons, candidates.uncertainties),
        "residuals": figures.residuals(agreement, comparisons) if agreement else None,
        "elements": figures.periodic_table(means) if means else None,
        **{f"steps-{name}": figure for name, figure in figures.steps(summary, comparisons).items()},
    }
    drawn = {name: figure for name, figure in drawn.items() if figure}
    saving, best = main_saving(summary), _best(content)
    cuts = candidates.cuts
    hulls = all_hulls(candidates, comparisons, relaxed, content.fetched)
    structures = viewed(comparisons)
    rows = table_rows(candidates, comparisons, lambda directory: None if live else _link(directory, folder), relaxed)
    environment = Environment(loader=PackageLoader("cryslator_flows.report.page", "."), autoescape=True)
    script = _script()
    return environment.get_template("report.html.j2").render(
        content=content,
        live=live,
        script=script,
        style_sheet=style_sheet(),
        hours_note=HOURS_NOTE,
        script_hash=script_hash,
        summary=summary,
        state=_state(content),
        headline=headline(summary, relaxed, content.selected),
        best=best,
        known=_known(cuts, best),
        first_rows=FIRST_ROWS,
        front_figure=f"steps-{saving.quantity}" if saving else None,
        warnings=warning_lines(summary, comparisons, agreement, content.failed, content.reasons),
        funnel=funnel_rows(summary),
        savings=[
            (item, describe_mean(item.mean_unrelaxed), describe_mean(item.mean), describe_interval(item))
            for item in summary.savings
        ],
        prerelaxations=describe_prerelaxations(summary.prerelaxations),
        slower=list(_slower(comparisons)),
        rounds=[(item, describe_lowest(item)) for item in summary.rounds],
        adapted=None if summary.adaptation is None else AdaptationText.of(summary.adaptation),
        figures=drawn,
        agreement=agreement,
        lacking=lacking_elements(comparisons, content.element_energies),
        engines=[describe_engine(name) for name in measured_engines(comparisons)],
        hulls=hulls,
        references=cuts.references,
        known_phases=cuts.known_phases,
        structures=structures,
        most_structures=MOST_STRUCTURES,
        printed_titles=[COLUMNS[index].title for index in PRINTED_COLUMNS],
        printed=[[row[index] for index in PRINTED_COLUMNS] for row in rows[:PRINTED_ROWS]],
        beside=[name for name in BESIDE if (folder / name).is_file()],
        cuts=provenance.describe_cuts(cuts),
        potential=summary.potential,
        potential_cuts=provenance.describe_cuts(Cuts(**(content.settings.get("potential") or {}).get("select", {}))),
        model=provenance.describe_model(summary, content.settings.get("model")),
        settings=provenance.describe_settings(content.settings),
        data=_json({
            "campaign": summary.campaign,
            "figures": drawn,
            "hulls": hulls,
            "template": TEMPLATE,
            "structures": structures,
            "atoms": atom_styles(
                symbol
                for item in structures.values()
                for structure in item["structures"].values()
                for symbol in structure["symbols"]
            ),
            "columns": [column._asdict() for column in table_columns(comparisons, candidates.properties, relaxed)],
            "rows": rows,
            "jobCommand": content.job_command,
        }),
        libraries=packed_libraries(),
        datatables_css=_of_itables("dt_bundle.css"),
    )  # fmt: skip


def script_hash(script: str) -> str:
    """Return the hash by which a content security policy allows a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _script() -> str:
    """Join the page's scripts to one module, whose hash the page's policy has."""
    folder = Path(__file__).with_name("scripts")
    return "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)


def _state(content: PageContent) -> tuple[str, str]:
    """Return the state of a campaign as a CSS class and in words."""
    failed = f"{several(content.failed, 'job')} failed" if content.failed else ""
    if content.unfinished:
        words = f"running: {several(content.unfinished, 'job')} to go"
        return "running", f"{words}, {failed}" if failed else words
    return ("failed", f"finished, {failed}") if failed else ("finished", "finished")


def _best(content: PageContent) -> BestTable | None:
    """Return the first table: relaxed candidates, or else the selected ones."""
    if content.relaxed is not None and len(content.relaxed):
        notes = describe_energies(content.summary, content.comparisons, content.relaxed, content.fetched)
        return best_relaxed(content.summary, content.comparisons, content.relaxed, notes)
    return best_selected(content.selected) if content.selected is not None and len(content.selected) else None


def _known(cuts: Cuts, best: BestTable | None) -> set[str]:
    """Return the formulas of the first table that known compounds or references have."""
    formulas = {cells[0] for _, cells in best.rows} if best else set()
    return formulas & cuts.competition().within(map(symbols_of, formulas)).keys()


@cache
def packed_libraries() -> dict[str, str]:
    """Return the scripts of libraries by name, as gzip in base64; the page unpacks them on demand."""
    from plotly.offline import get_plotlyjs

    scripts = {"plotly": get_plotlyjs(), "datatables": _of_itables("dt_bundle.js")}
    packed = {name: gzip.compress(script.encode(), mtime=0) for name, script in scripts.items()}
    return {name: base64.b64encode(script).decode() for name, script in packed.items()}


def _of_itables(name: str) -> str:
    import itables

    return Path(itables.__file__).with_name("html").joinpath(name).read_text(encoding="utf-8")


def _json(data: dict[str, Any]) -> str:
    """Write JSON in which an HTML parser finds no end of a script."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _link(directory: str | None, folder: Path) -> str | None:
    """Return the page's link to a job's directory; None if it is not on this machine."""
    # atomate2 writes the host before the directory.
    path = Path((directory or "").rpartition(":")[2])
    if not directory or not path.is_dir():
        return None
    inside = path.absolute().is_relative_to(folder)
    return Path(relpath(path, folder)).as_posix() if inside else path.absolute().as_uri()


def _slower(comparisons: list[RelaxationComparison]) -> Iterator[dict[str, str]]:
    """Yield the relaxations with more steps of a kind than from the unrelaxed start, for any outcome."""
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
