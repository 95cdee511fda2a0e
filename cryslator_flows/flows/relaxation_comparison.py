"""Flow that relaxes one candidate from one or several starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Flow, Job, Maker, OutputReference

from cryslator_flows.crystals.outside import crystal_alone
from cryslator_flows.engines.by_name import build_relax_maker, chgnet_maker
from cryslator_flows.engines.guard import guard_relax_maker, look_often
from cryslator_flows.engines.pinning import pin_kpoints
from cryslator_flows.engines.recorder import record_relax_maker
from cryslator_flows.engines.vasp_settings import GuardLimits
from cryslator_flows.jobs.compare import CompareMaker
from cryslator_flows.jobs.following import end_with_first_failure
from cryslator_flows.jobs.placing import place
from cryslator_flows.jobs.reuse import hash_settings
from cryslator_flows.jobs.symmetrize import SymmetrizeMaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from cryslator_flows.documents.candidates import Candidate, Translation
    from cryslator_flows.documents.relaxations import Start

# Starts that an interatomic potential makes, and the structure that each is made from.
PRERELAXED: dict[Start, Start] = {"mlip": "unrelaxed", "translated_mlip": "translated"}
# Starts that the model decides about.
TRANSLATED: tuple[Start, ...] = ("scaled", "translated", "translated_mlip")


@dataclass
class RelaxationComparisonFlowMaker(Maker):
    """Relax a candidate from its unrelaxed, translated or potential-relaxed structures, and compare.

    The same maker relaxes all starts, with the k-points of the unrelaxed cell. The start ``scaled`` is the unrelaxed
    structure at the volume of the translated one, which shows what the volume alone is worth. The starts ``mlip`` and
    ``translated_mlip`` are the unrelaxed and the translated structure, relaxed with an interatomic potential first. If
    the potential fails, only the relaxation from this start fails.

    Parameters
    ----------
    name : str
        The flow name.
    relax_maker : Maker
        Any atomate2 maker with ``make(structure, prev_dir=None)``, the same for all starts.
    guard : GuardLimits or None
        Limits beyond which VASP restarts from the unrelaxed structure, see `TranslatedStartGuard`; None for no guard.
    mlip_maker : Maker
        Relaxes with an interatomic potential, for the starts ``mlip`` and ``translated_mlip``. Any maker with
        ``make(structure, prev_dir=None)``; default CHGNet.
    symmetrize_maker : SymmetrizeMaker
        Removes the numerical noise of the potential's relaxation.
    compare_maker : CompareMaker
        Maker of the comparison job.

    Examples
    --------
    >>> from atomate2.vasp.flows.core import DoubleRelaxMaker
    >>> maker = RelaxationComparisonFlowMaker(relax_maker=DoubleRelaxMaker())
    >>> maker.name, maker.guard.max_force
    ('relaxation comparison', 5.0)
    """

    name: str = "relaxation comparison"
    relax_maker: Maker = field(default_factory=lambda: build_relax_maker("chgnet", {}))
    guard: GuardLimits | None = field(default_factory=GuardLimits)
    mlip_maker: Maker = field(default_factory=chgnet_maker)
    symmetrize_maker: SymmetrizeMaker = field(default_factory=SymmetrizeMaker)
    compare_maker: CompareMaker = field(default_factory=CompareMaker)

    def settings_key(self, model_name: str, model_version: str, starts: Sequence[Start] = ("translated",)) -> str:
        """Hash all that decides about a relaxation, except the candidate.

        Parameters
        ----------
        model_name : str
            The model that translates.
        model_version : str
            Its version.
        starts : sequence of str
            The starts. The model counts only if a start is the translated structure or comes from it.

        Returns
        -------
        str
            16 hexadecimal digits. Versions of the packages do not count.
        """
        makers = [self.relax_maker, self.guard, self.mlip_maker, self.compare_maker.energy_tolerance]
        model = [model_name, model_version] if set(TRANSLATED).intersection(starts) else []
        return hash_settings([*makers, *model])

    def make(
        self,
        candidate: Candidate,
        translation: Translation,
        starts: Sequence[Start],
        campaign: str = "screening",
        prerelaxed: Structure | None = None,
    ) -> Flow:
        """Make the flow.

        Parameters
        ----------
        candidate : Candidate
            The candidate, with its unrelaxed structure.
        translation : Translation
            Its translation.
        starts : sequence of str
            Structures to start from: ``unrelaxed``, ``scaled`` (unrelaxed at the translated volume), ``translated``,
            ``mlip``, ``translated_mlip``.
        campaign : str
            Name of the campaign, for the records of the runs.
        prerelaxed : Structure or None
            Structure of the start ``translated_mlip``; None to relax the translated structure here.

        Returns
        -------
        Flow
            Its output is a `RelaxationComparison`.
        """
        # Selective dynamics of a structure from elsewhere would keep atoms in place.
        candidate = candidate.model_copy(update={"structure": crystal_alone(candidate.structure)})
        structures: dict[Start, Structure | OutputReference] = {
            "unrelaxed": candidate.structure,
            "scaled": candidate.structure.copy().scale_lattice(translation.structure.volume),
            "translated": translation.structure,
        }
        if prerelaxed is not None:
            structures["translated_mlip"] = prerelaxed
        jobs: list[Flow | Job] = []
        potentials: dict[Start, list[OutputReference]] = {}
        for start, before in PRERELAXED.items():
            if start in starts and start not in structures:
                potential = self.mlip_maker.make(structures[before], prev_dir=None)
                potentials[start] = end_with_first_failure(potential)
                handed_on = self.symmetrize_maker.make(potentials[start][-1].structure, structures[before])
                structures[start] = handed_on.output
                for made in (potential, handed_on):
                    made.append_name(f" {candidate.reduced_formula} {start}")
                    place(made, "relax", start=start)
                jobs += [potential, handed_on]
        relax_maker = look_often(pin_kpoints(self.relax_maker, candidate.structure))
        guarded = relax_maker if self.guard is None else guard_relax_maker(relax_maker, candidate.structure, self.guard)
        documents, job_uuids = {}, {}
        for start in starts:
            maker = relax_maker if start == "unrelaxed" else guarded
            recorded = record_relax_maker(maker, campaign, candidate.candidate_id, start)
            relax = recorded.make(structures[start], prev_dir=None)
            relax.append_name(f" {candidate.reduced_formula} {start}")
            place(relax, "relax", start=start)
            jobs.append(relax)
            documents[start] = end_with_first_failure(relax)
            job_uuids[start] = [document.uuid for document in documents[start]]
        compare = self.compare_maker.make(
            candidate,
            translation,
            documents,
            job_uuids,
            campaign,
            self.settings_key(translation.model_name, translation.model_version, starts),
            potentials,
        )
        compare.append_name(f" {candidate.reduced_formula}")
        place(compare, "compare")
        flow = Flow([*jobs, compare], output=compare.output, name=f"{self.name} {candidate.reduced_formula}")
        flow.update_metadata({"candidate_id": candidate.candidate_id})
        return flow
