import itertools
import json
import logging
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from monty.serialization import dumpfn, loadfn

from cryslator_flows.crystals.packing import TranslatedChunk
from cryslator_flows.crystals.substitution import RolePools
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import RelaxationComparison
from cryslator_flows.documents.summary import CampaignSummary
from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker
from cryslator_flows.flows.screening import ScreeningFlowMaker
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.jobs.select import SelectMaker
from cryslator_flows.results.builders import CampaignSummaryBuilder, RelaxationComparisonBuilder
from cryslator_flows.running.local.folder import open_job_store
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.system.sqlite_store import SQLiteStore
from tests.analysis.test_savings import relaxation
from tests.flows.makers import PairPotentialRelaxMaker

TEMPLATES = [AflowTemplates(elements=["O"], n_elements=3, max_atoms=5)]
SPACES = [RolePools(kind="roles", cations=[["Mn"], ["Ca", "Sr"]])]


class Place:
    """A JobStore and both target collections, in memory or in one SQLite file."""

    def __init__(self, kind, folder):
        self.folder = folder
        if kind == "memory":
            self.job_store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
            self.comparisons, self.summaries = MemoryStore("comparisons"), MemoryStore("summaries")
        else:
            path = str(folder / "campaign.sqlite")
            self.job_store = open_job_store(folder)
            self.comparisons = SQLiteStore(path, "relaxation_comparisons", key="candidate_id")
            self.summaries = SQLiteStore(path, "campaign_summaries", key="campaign")
        self.builders = [
            RelaxationComparisonBuilder(self.job_store, self.comparisons),
            CampaignSummaryBuilder(self.job_store, self.comparisons, self.summaries),
        ]
        for store in (self.job_store, self.comparisons, self.summaries):
            store.connect()

    def build(self):
        """Run both builders with maggma's runner; how many documents each built."""
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        for builder in self.builders:
            builder.run(log_level=logging.WARNING)
        root.setLevel(level)
        root.handlers[:] = handlers  # maggma adds one at each run
        return [builder.n_built for builder in self.builders]

    def run(self, flow):
        run_locally(flow, store=self.job_store, create_folders=True, root_dir=self.folder, log=False)

    def fill(self, documents):
        """What a run of a flow left, without running it again."""
        outputs, data = documents
        self.job_store.docs_store.update(deepcopy(outputs), key=["uuid", "index"])
        self.job_store.additional_stores["data"].update(deepcopy(data), key="blob_uuid")

    def jobs(self, kind):
        return list(self.job_store.query({"output.@class": kind.__name__}))


@pytest.fixture(params=["memory", "sqlite"])
def place(request, tmp_path):
    return Place(request.param, tmp_path)


@pytest.fixture
def memory(tmp_path):
    return Place("memory", tmp_path)


def screening(name="test", controls=20, **selection):
    comparison_maker = RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker())
    relax = RelaxSelectedMaker(comparison_maker, controls=controls)
    select_maker = SelectMaker(cuts=Cuts(**{"top_k": 3, **selection}), relax_maker=relax)
    return ScreeningFlowMaker(name, EnumerateMaker(chunk_size=5), select_maker).make(TEMPLATES, SPACES)


@pytest.fixture(scope="module")
def left_by(tmp_path_factory):
    """The documents that a screening flow leaves, run once for each set of arguments."""

    @cache
    def run(name="test", run_number=1, **selection):
        place = Place("memory", tmp_path_factory.mktemp(name))
        place.run(screening(name, **selection))
        data = place.job_store.additional_stores["data"]
        rows = [list(store.query()) for store in (place.job_store.docs_store, data)]
        for row in itertools.chain(*rows):
            del row["_id"]
        return rows

    return run


def test_collections_hold_what_the_jobs_found(place, left_by):
    place.fill(left_by())
    assert place.build() == [3, 1]
    for row in place.jobs(RelaxationComparison):
        built = place.comparisons.query_one({"candidate_id": row["output"]["candidate_id"]})
        assert (built["campaign"], built["state"]) == ("test", "successful")
        assert built["source"] == {name: row[name] for name in ("uuid", "index", "completed_at")}
        assert RelaxationComparison.model_validate(built) == RelaxationComparison.model_validate(row["output"])
    (summary,) = place.summaries.query()
    (row,) = place.jobs(CampaignSummary)
    assert CampaignSummary.model_validate(summary) == CampaignSummary.model_validate(row["output"])
    assert (summary["finished"], summary["n_broken_comparisons"]) == (True, 0)


def test_only_what_is_new_or_changed_is_built(place, left_by):
    place.fill(left_by())
    place.build()
    before = {row["candidate_id"]: row["last_updated"] for row in place.comparisons.query()}
    assert place.build() == [0, 0]
    assert {row["candidate_id"]: row["last_updated"] for row in place.comparisons.query()} == before

    # One more candidate of the same campaign, relaxed by a flow of its own.
    chunks = [
        TranslatedChunk.model_validate(row["output"])
        for row in place.job_store.query({"output.@class": "TranslatedChunk"}, load=True)
    ]
    rows = [row for chunk in chunks for row in chunk.rows()]
    candidate, translation = next(row for row in rows if row[0].candidate_id not in before)
    maker = RelaxationComparisonFlowMaker(relax_maker=PairPotentialRelaxMaker())
    flow = maker.make(candidate, translation, ["unrelaxed", "translated"])
    flow.update_metadata({"campaign": "test"})
    place.run(flow)
    assert place.build() == [1, 1]
    assert sum(place.summaries.query_one()["outcomes"]["translated"].values()) == 4
    assert place.build() == [0, 0]

    # The job that compared it runs again: a later index, and the older document stays where it is.
    (row,) = place.job_store.query(
        {"output.@class": "RelaxationComparison", "metadata.candidate_id": candidate.candidate_id}
    )
    row.pop("_id", None)
    row["output"]["endings"][0]["outcome"] = "unconverged"
    place.job_store.update({**row, "index": 2, "completed_at": "9999-01-01T00:00:00"}, key=["uuid", "index"])
    assert place.build() == [1, 1]
    assert place.comparisons.query_one({"candidate_id": candidate.candidate_id})["source"]["index"] == 2
    assert place.summaries.query_one()["outcomes"]["translated"]["unconverged"] == 1
    assert place.comparisons.count() == 4
    assert place.build() == [0, 0]


def test_an_element_that_ends_last_is_in_the_summary(memory, left_by):
    memory.fill(left_by())
    memory.build()
    element = ElementReference(symbol="Mg", relaxation=relaxation("unrelaxed", 10))
    row = {"uuid": "e", "index": 1, "completed_at": "9999-01-01T00:00:00", "output": element.model_dump(mode="json")}
    row["output"]["@class"] = ElementReference.__name__
    memory.job_store.update({**row, "metadata": {"campaign": "test", "stage": "compare"}}, key=["uuid", "index"])
    assert memory.build() == [0, 1]
    assert memory.build() == [0, 0]


def test_a_running_campaign_has_a_summary(memory, tmp_path, left_by):
    """The documents of a campaign arrive one by one, in the order in which its jobs ended."""
    memory.fill(left_by())
    running = Place("memory", tmp_path)
    running.job_store.additional_stores["data"].update(list(memory.job_store.additional_stores["data"].query()))
    seen = []
    for row in sorted(memory.job_store.query(), key=lambda row: (row["completed_at"], row["index"])):
        running.job_store.update(row, key=["uuid", "index"])
        running.build()
        summary = running.summaries.query_one() or {}
        compared = sum(summary.get("outcomes", {}).get("translated", {}).values())
        seen.append([summary.get(name, 0) for name in ("translated", "selected")] + [compared, summary.get("finished")])
        assert summary["counts"]["unique"] >= 8
    final = CampaignSummary.model_validate(memory.jobs(CampaignSummary)[0]["output"])
    numbers = [row[:3] for row in seen]
    assert numbers == sorted(numbers)
    assert numbers[0] == [0, 0, 0]
    assert [final.translated, 0, 0] in numbers
    assert all([final.translated, 3, compared] in numbers for compared in range(4))
    assert [row[3] for row in seen] == [False] * (len(seen) - 1) + [True]
    assert CampaignSummary.model_validate(running.summaries.query_one()) == final


def test_campaigns_in_one_store_stay_apart(place, left_by):
    place.fill(left_by("a", top_k=2))
    place.fill(left_by("b", top_k=1, controls=0))
    assert place.build() == [3, 2]
    assert sorted(row["campaign"] for row in place.comparisons.query()) == ["a", "a", "b"]
    summaries = {row["campaign"]: row for row in place.summaries.query()}
    assert [summaries[name]["selected"] for name in "ab"] == [2, 1]
    assert sum(summaries["a"]["outcomes"]["translated"].values()) == 2
    assert summaries["b"]["outcomes"] == {"translated": {"not compared": 1}}
    assert summaries["a"]["translated"] == summaries["b"]["translated"] == summaries["a"]["counts"]["unique"]


def test_a_campaign_that_was_started_anew_is_not_counted_twice(memory, left_by):
    memory.fill(left_by())
    memory.build()
    first = memory.summaries.query_one()
    memory.fill(left_by(run_number=2))
    assert memory.build() == [3, 1]
    second = memory.summaries.query_one()
    assert memory.comparisons.count() == 3
    for name in ("counts", "translated", "selected", "relaxed", "outcomes"):
        assert second[name] == first[name]


def test_comparisons_without_a_campaign(memory, left_by):
    memory.fill(left_by())
    for row in memory.job_store.query():
        del row["metadata"]["campaign"]
        memory.job_store.update(row, key=["uuid", "index"])
    assert memory.build() == [3, 0]
    assert {row["campaign"] for row in memory.comparisons.query()} == {None}
    assert memory.build() == [0, 0]


@pytest.mark.parametrize("missing", ["relaxations", "candidate_id"])
def test_one_broken_document_stops_nothing(place, left_by, missing, caplog):
    place.fill(left_by())
    broken = place.jobs(RelaxationComparison)[0]
    broken.pop("_id", None)
    del broken["output"][missing]
    place.job_store.update(broken, key=["uuid", "index"])
    assert place.build() == [2, 1]
    assert [builder.n_broken for builder in place.builders] == [1, 0]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert broken["uuid"] in line
    assert missing in line
    (row,) = place.comparisons.query({"state": "failed"})
    assert row["candidate_id"] == broken["metadata"]["candidate_id"]
    assert missing in row["error"]
    summary = place.summaries.query_one()
    assert summary["n_broken_comparisons"] == 1
    assert sum(summary["outcomes"]["translated"].values()) == 2
    assert place.build() == [0, 0]
    assert place.builders[0].n_broken == 0

    place.comparisons.remove_docs({"state": "failed"})
    place.build()
    assert place.builders[0].n_broken == 1


def test_broken_translation_is_no_wrong_count(memory, left_by):
    memory.fill(left_by())
    chunk = memory.jobs(TranslatedChunk)[0]
    chunk["output"]["stats"]["n_translated"] = "many"
    memory.job_store.update(chunk, key=["uuid", "index"])
    assert memory.build() == [3, 0]
    summary = memory.summaries.query_one()
    assert summary["state"] == "failed"
    assert "n_translated" in summary["error"]
    assert "translated" not in summary


def test_structures_in_an_additional_store(memory, left_by):
    for row in left_by()[0]:
        memory.job_store.update(deepcopy(row), key=["uuid", "index"], save={"data": "structure"})
    jobs = memory.jobs(RelaxationComparison)
    blobs = [row["output"]["relaxations"][0]["structure"]["blob_uuid"] for row in jobs]
    memory.job_store.additional_stores["data"].remove_docs({"blob_uuid": blobs[0]})
    assert memory.build() == [2, 1]
    assert memory.builders[0].n_broken == 1
    assert "additional stores" in memory.comparisons.query_one({"state": "failed"})["error"]
    for row in memory.comparisons.query({"state": "successful"}):
        comparison = RelaxationComparison.model_validate(row)
        assert all(item.structure.volume > 0 for item in comparison.relaxations)


def test_builders_survive_serialisation(place, left_by, tmp_path):
    place.fill(left_by())
    for builder in place.builders:
        dumpfn(builder, tmp_path / "builder.json")
        again = loadfn(tmp_path / "builder.json")
        assert again.as_dict() == builder.as_dict()
        assert [store.key for store in again.targets] == [store.key for store in builder.targets]


@pytest.mark.parametrize("processes", [1, 2])
def test_maggmas_own_runner(tmp_path, left_by, processes):
    place = Place("sqlite", tmp_path)
    place.fill(left_by())
    files = [str(tmp_path / name) for name in ("comparisons.json", "summaries.json")]
    for builder, file in zip(place.builders, files, strict=True):
        dumpfn(builder, file)
    command = [Path(sys.executable).with_name("mrun"), "--no_bars", "-vv", "-n", str(processes), *files]
    for built in (3, 0):
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert f"{built} built, 0 broken" in result.stdout + result.stderr
    assert place.comparisons.count({"state": "successful"}) == 3
    (row,) = place.jobs(CampaignSummary)
    summary = place.summaries.query_one()
    assert CampaignSummary.model_validate(summary) == CampaignSummary.model_validate(row["output"])
    assert json.loads(json.dumps(summary["versions"]))["cryslator-flows"]
