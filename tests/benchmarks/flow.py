"""What jobflow itself costs in a campaign up to its selection: jobs, documents, bytes and seconds.

Example: python tests/benchmarks/flow.py
         python tests/benchmarks/flow.py --metals 8 --top-k 4 --relax
         PYTHONPATH=another/checkout python tests/benchmarks/flow.py

The campaign of quaternary AFLOW prototypes of up to 40 atoms, some 10,000 candidates, runs as ``cryslator screen`` runs
it, in a folder of its own with the embedded store: enumerate, translate, select, summarize. With ``--relax`` it relaxes
what it selects from both starts with CHGNet, and counts all for each of these. Time inside the jobs' own functions is
told apart from all else, which is jobflow's and that of the run around it: resolving references, writing documents,
keeping the journal, making jobs. Sizes are those in the store when the campaign has ended; shortlists that jobs hand on
count. What a column takes is the size of its member in the npz archive, in base64; columns of less than a byte for each
candidate are left out.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sqlite3
import tempfile
import zipfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from unittest import mock

from jobflow import Job, JobStore, Response
from pymatgen.core import Element
from rich.console import Console
from rich.table import Table

from cryslator_flows.api import Campaign
from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.running.local.job_loop import LocalRun
from cryslator_flows.running.local.run import CampaignRun
from cryslator_flows.translator.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryslator_flows.documents.summary import CampaignSummary

METALS = [element.symbol for number in range(1, 104) if (element := Element.from_Z(number)).is_metal]
# Outputs of jobs, their additional store, and what runs are resumed from.
TABLES = ("outputs", "data", "journal")


def make_campaign(n_metals: int, top_k: int, relax: bool = False) -> Campaign:
    """A campaign of quaternary crystals that stops after the selection, or relaxes it with CHGNet."""
    content = {
        "name": "flow",
        "templates": [{"source": "aflow", "n_elements": 4, "max_atoms": 40}],
        "substitutions": [{"kind": "roles", "cations": [METALS[:n_metals]] * 3}],
        "selection": {"top_k": top_k},
        "relaxation": {"maker": "chgnet"} if relax else None,
    }
    return Campaign.model_validate(content)


class Clock:
    """Seconds inside the jobs' own functions and in parts of what is around them, and how many jobs ran."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.jobs: Counter[str] = Counter()
        self._began = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the jobs that run in this context.

        jobflow calls the function of a job after resolving its references, if it resolves any, and before
        `Response.from_job_returns`.
        """
        with ExitStack() as stack:
            for owner, name, watch in (
                (Job, "run", self._run),
                (Job, "resolve_args", self._resolve),
                (Response, "from_job_returns", self._respond),
                (JobStore, "update", self._part("documents")),
                (LocalRun, "_write", self._part("journal")),
            ):
                stack.enter_context(mock.patch.object(owner, name, _watched(getattr(owner, name), watch)))
            yield

    def _run(self, run: Callable[..., Any], job: Job, *arguments: Any, **options: Any) -> Any:
        self.jobs[job.name.rstrip(" 0123456789")] += 1
        self._began = perf_counter()
        return run(job, *arguments, **options)

    def _resolve(self, resolve: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        result = self._part("references")(resolve, *arguments, **options)
        self._began = perf_counter()
        return result

    def _respond(self, respond: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.seconds["functions"] += perf_counter() - self._began
        return respond(*arguments, **options)

    def _part(self, name: str) -> Callable[..., Any]:
        def timed(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            began = perf_counter()
            result = function(*arguments, **options)
            self.seconds[name] += perf_counter() - began
            return result

        return timed


def _watched(function: Callable[..., Any], watch: Callable[..., Any]) -> Callable[..., Any]:
    # No partial, which would not be bound to the object that it is called on.
    return lambda *arguments, **options: watch(function, *arguments, **options)


def run(campaign: Campaign, folder: Path) -> tuple[Clock, CampaignSummary]:
    """Run the campaign; the clock and the summary."""
    # What imports take is not asked here.
    campaign.to_flow()
    Translator.from_pretrained()
    clock = Clock()
    began = perf_counter()
    with clock.watching():
        summary = CampaignRun(campaign, folder).run(lambda _happening, _job: None)
    clock.seconds["all"] = perf_counter() - began
    return clock, summary


class Sizes:
    """What the store of a campaign holds.

    Parameters
    ----------
    file : Path
        The SQLite file.
    """

    def __init__(self, file: Path) -> None:
        self.documents: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.columns: Counter[str] = Counter()
        with sqlite3.connect(file) as database:
            names = {
                blob["blob_uuid"]: name
                for (text,) in database.execute("SELECT document FROM outputs")
                for name, blob in _blobs(json.loads(text)["output"])
            }
            for table in TABLES:
                for (text,) in database.execute(f"SELECT document FROM {table}"):
                    self.documents[table] += 1
                    self._add(table, names, text)
        database.close()

    def _add(self, table: str, names: dict[str, str], text: str) -> None:
        document = json.loads(text)
        rest = len(text)
        # The flows that jobs made, and the first one.
        if flows := [*document.get("flows", []), *filter(None, [document.get("flow")])]:
            self.kinds[f"{table}: flows"] += sum(map(len, flows))
            rest -= sum(map(len, flows))
        packed = document.get("data")
        if isinstance(packed, dict) and "n_candidates" in packed:
            kind = names[document["blob_uuid"]]
            for part in ("columns", "templates"):
                self.kinds[f"{table}: {kind}, {part}"] += len(packed[part])
                rest -= len(packed[part])
            if kind == "translated":
                self.columns.update(member_sizes(packed["columns"]))
        self.kinds[f"{table}: the rest"] += rest


def _blobs(value: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what an output left in the store of blobs, each with its field."""
    if isinstance(value, dict) and "blob_uuid" in value:
        yield name, value
    elif isinstance(value, dict):
        for field, inner in value.items():
            yield from _blobs(inner, field)
    elif isinstance(value, list):
        for inner in value:
            yield from _blobs(inner, name)


def member_sizes(columns: str) -> dict[str, int]:
    """Bytes of each column in base64."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(columns))) as archive:
        found = {info.filename.removesuffix(".npy"): info.compress_size for info in archive.infolist()}
        taken = {name: size * 4 // 3 for name, size in found.items()}
    return taken | {"the archive itself": len(columns) - sum(taken.values())}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metals", type=int, default=18, help="size, as a number of metals; 11 give some 1,700")
    parser.add_argument("--top-k", type=int, default=1000, help="candidates that are selected")
    parser.add_argument("--relax", action="store_true", help="relax those with CHGNet, and count for each of them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clock, summary = run(make_campaign(arguments.metals, arguments.top_k, arguments.relax), folder)
        sizes = Sizes(folder / STORE_FILE)
        on_disk = sum(file.stat().st_size for file in folder.glob(f"{STORE_FILE}*"))
        jobs = sum(file.stat().st_size for file in (folder / "jobs").rglob("*") if file.is_file())
    console = Console(width=110)
    number = summary.relaxed if arguments.relax else summary.translated
    console.print(f"{summary.translated:,} candidates translated, {summary.relaxed:,} relaxed")

    counts = Table("", "number", "for 10,000 candidates", title="Jobs and documents")
    for title, count in (
        ("jobs", clock.jobs.total()),
        *((f"jobs: {name}", count) for name, count in clock.jobs.items() if not arguments.relax),
        *((f"documents in {table}", count) for table, count in sizes.documents.items()),
    ):
        counts.add_row(title, str(count), f"{10_000 * count / number:.1f}")

    times = Table("", "s", "ms for each job", "µs for each candidate", title="Time")
    spent = dict(clock.seconds)
    around = spent["all"] - spent["functions"]
    parts = {name: spent[name] for name in ("references", "documents", "journal")}
    for title, seconds in (
        ("all", spent["all"]),
        ("the jobs' own functions", spent["functions"]),
        ("around them", around),
        *((f"around them: {name}", value) for name, value in parts.items()),
        ("around them: the rest", around - sum(parts.values())),
    ):
        times.add_row(
            title, f"{seconds:.3f}", f"{1000 * seconds / clock.jobs.total():.2f}", f"{1e6 * seconds / number:.1f}"
        )

    stored = Table("", "bytes", "for each candidate", title="Bytes")
    for title, size in (
        ("store file", on_disk),
        ("files of jobs", jobs),
        ("documents", sum(sizes.kinds.values())),
        *sizes.kinds.most_common(),
        *((f"translated, columns: {name}", size) for name, size in sizes.columns.most_common() if size >= number),
    ):
        stored.add_row(title, f"{size:,}", f"{size / number:.2f}")

    for table in (counts, times, stored):
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(table)


if __name__ == "__main__":
    main()
