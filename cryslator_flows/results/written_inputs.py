"""The inputs of the relaxations of a campaign as files to look at."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from monty.json import jsanitize
from pymatgen.core import Structure

from cryslator_flows.crystals.packing import TranslatedCandidates
from cryslator_flows.engines.made_jobs import jobs_of
from cryslator_flows.errors import CampaignError, StoreError
from cryslator_flows.jobs.following import FollowingRelaxMaker
from cryslator_flows.system.whole_files import write_whole, writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from atomate2.vasp.sets.base import VaspInputGenerator
    from jobflow import Job, Maker

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.crystals.packing import Selection, TranslatedCandidate
    from cryslator_flows.jobs.relax import RelaxSelectedMaker
    from cryslator_flows.results.results import CampaignResults


def write_inputs(results: CampaignResults, campaign: CampaignSettings, folder: Path, top: int | None = None) -> int:
    """Write the inputs of all selected candidates, one folder for each candidate and start.

    For VASP these are INCAR, KPOINTS, POSCAR and POTCAR.spec, by the input set generators of the jobs. For other
    engines ``structure.cif`` and the settings of the maker, ``maker.json``. Of several jobs each has a folder. A job
    that continues from another job has no structure yet, and so no file of it.

    Parameters
    ----------
    results : CampaignResults
        The results of the campaign.
    campaign : CampaignSettings
        Its settings at the start.
    folder : Path
        The folder to write to; it is made if missing, and must be empty.
    top : int or None
        Number of candidates, most stable first; None for all.

    Returns
    -------
    int
        Number of folders of candidates and starts.

    Raises
    ------
    CampaignError
        The campaign relaxes nothing, has selected nothing yet, or has nothing left to relax.
    StoreError
        The folder is not empty, or cannot be written.
    """
    selection = _selection(results, campaign)
    relax_maker = campaign.to_maker().select_maker.relax_maker
    if relax_maker is None:
        raise CampaignError(f"campaign {campaign.name!r}: it relaxes nothing; add the key `relaxation`")
    chosen = _chosen(results, selection)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StoreError(f"{folder}: is not empty; give a new folder")
    relax_maker = _with_controls(relax_maker, chosen, selection)
    chosen = chosen.take(range(chosen.n_candidates)[:top])
    names = set(chosen.arrays()["candidate_id"].tolist())
    batches = results.potential_batches()
    structures = {item.name: item.structure for batch in batches for item in batch.relaxed if item.name in names}
    number = 0
    for candidate, translation in chosen.rows():
        prerelaxed = structures.get(candidate.candidate_id)
        for start, jobs in _jobs_by_start(relax_maker, (candidate, translation), campaign.name, prerelaxed).items():
            if not jobs:
                raise CampaignError(
                    f"relaxation.maker: the start {start} has jobs of functions alone, whose inputs cannot be written; "
                    "give the method `make` of a maker the decorator `@job`"
                )
            name = re.sub(r"[^\w.-]", "", candidate.reduced_formula)
            _write_start(folder / f"{name}-{candidate.candidate_id}" / start, jobs)
            number += 1
    return number


def _selection(results: CampaignResults, campaign: CampaignSettings) -> Selection:
    selection = results.selection()
    if selection is None or (campaign.potential is not None and selection.potential is None):
        stage = "select" if selection is None else "potential"
        raise CampaignError(
            f"campaign {results.label!r}: nothing is selected for relaxation yet; let it run until the stage {stage} "
            "has ended"
        )
    return selection


def _chosen(results: CampaignResults, selection: Selection) -> TranslatedCandidates:
    """Return the selected candidates that no round of active learning relaxed, in the order of the selection."""
    place = {name: number for number, name in enumerate(selection.candidate_ids)}
    wanted = place.keys() - results.rounds_of().keys()
    parts = []
    for chunk in results.chunks():
        names = chunk.translated.arrays()["candidate_id"].tolist()
        if rows := [row for row, name in enumerate(names) if name in wanted]:
            parts.append(chunk.translated.take(rows))
    if not parts:
        raise CampaignError(
            f"campaign {results.label!r}: nothing is left to relax; the cuts left no candidate, or rounds relaxed all"
        )
    joined = TranslatedCandidates.join(parts)
    return joined.take(np.argsort([place[name] for name in joined.arrays()["candidate_id"].tolist()]))


def _with_controls(
    relax_maker: RelaxSelectedMaker, chosen: TranslatedCandidates, selection: Selection
) -> RelaxSelectedMaker:
    """Return the maker with the controls of the first flow; other flows have none."""
    left = selection.remaining
    others = set() if left is None else set(left.arrays()["candidate_id"].tolist())
    names = chosen.arrays()["candidate_id"].tolist()
    return relax_maker.with_controls(chosen.take([row for row, name in enumerate(names) if name not in others]))


def _jobs_by_start(
    relax_maker: RelaxSelectedMaker, row: TranslatedCandidate, campaign: str, prerelaxed: Structure | None
) -> dict[str, list[Job]]:
    """Return the jobs of the flow that relaxes a candidate, by start."""
    candidate, translation = row
    starts = relax_maker.starts_of(candidate.candidate_id, translation)
    flow = relax_maker.comparison_maker.make(candidate, translation, starts, campaign, prerelaxed)
    found: dict[str, list[Job]] = {start: [] for start in starts}
    for job in jobs_of(flow):
        # Functions between makers and the job that restores a symmetry write no input.
        if job.metadata["stage"] == "relax" and job.maker is not None and job.maker.name != "symmetrize":
            found[job.metadata["start"]].append(job)
    return found


def _write_start(folder: Path, jobs: list[Job]) -> None:
    known = next(_structures(jobs))
    for number, job in enumerate(jobs, 1):
        name = re.sub(r"[^\w.-]+", "-", job.name)
        place = folder if len(jobs) == 1 else folder / f"{number}-{name}"
        place.mkdir(parents=True)
        maker: Any = job.maker.maker if isinstance(job.maker, FollowingRelaxMaker) else job.maker
        own = next(_structures([job]), None)
        if hasattr(maker, "input_set_generator"):
            _write_vasp(place, maker.input_set_generator, own or known, has_structure=own is not None)
        else:
            _write_other(place, maker, own)


def _structures(jobs: list[Job]) -> Iterator[Structure]:
    """Yield the structures that jobs are given; a job that continues from another has a reference instead."""
    for job in jobs:
        given = job.function_kwargs.get("structure", next(iter(job.function_args), None))
        if isinstance(given, Structure):
            yield given


def _write_vasp(place: Path, generator: VaspInputGenerator, structure: Structure, has_structure: bool) -> None:
    inputs = generator.get_input_set(structure, potcar_spec=True)
    files: dict[str, object] = {"INCAR": inputs.incar, "KPOINTS": inputs.kpoints, "POTCAR.spec": inputs.potcar}
    if has_structure:
        files["POSCAR"] = inputs.poscar
    for name, content in files.items():
        if content is not None:
            write_whole(place / name, str(content).rstrip() + "\n")


def _write_other(place: Path, maker: Maker, structure: Structure | None) -> None:
    if structure is not None:
        write_whole(place / "structure.cif", structure.to(fmt="cif"))
    write_whole(place / "maker.json", json.dumps(jsanitize(maker, strict=True), indent=1) + "\n")
