"""Flow that compares the starts of one candidate and their electrons with the relaxed structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.jobs.core import StaticMaker
from atomate2.vasp.sets.core import StaticSetGenerator
from jobflow import Flow, Job, Maker, OutputReference

from cryslator_flows.documents.properties import Calculated
from cryslator_flows.engines.made_jobs import jobs_of
from cryslator_flows.jobs.compare_properties import ComparePropertiesMaker

if TYPE_CHECKING:
    from pymatgen.core import Structure


def vasp_static_maker() -> StaticMaker:
    """Return atomate2's static VASP maker, with a dense enough energy grid of the density of states."""
    return StaticMaker(input_set_generator=StaticSetGenerator(user_incar_settings={"NEDOS": 1001}))


@dataclass
class PropertyComparisonFlowMaker(Maker):
    """Calculate the electrons of the starts and of the relaxed structure of one candidate, and compare.

    Parameters
    ----------
    name : str
        The flow name.
    static_maker : Maker
        Maker of static calculations with ``make(structure, prev_dir=None)``, of atomate2 for VASP or
        `GpawStaticMaker`; the same for all structures. VASP makers are set to parse the density of states.
    compare_maker : ComparePropertiesMaker
        Maker of the comparison job.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> structures = {"relaxed": rock_salt, "unrelaxed": rock_salt.copy().apply_strain(0.02, inplace=False)}
    >>> PropertyComparisonFlowMaker().make("3f2a", "MgO", structures).name
    'property comparison MgO'
    """

    name: str = "property comparison"
    static_maker: Maker = field(default_factory=vasp_static_maker)
    compare_maker: ComparePropertiesMaker = field(default_factory=ComparePropertiesMaker)

    def make(self, candidate_id: str, reduced_formula: str, structures: dict[Calculated, Structure]) -> Flow:
        """Make the flow.

        Parameters
        ----------
        candidate_id : str
            The candidate.
        reduced_formula : str
            Its formula.
        structures : dict
            The ``relaxed`` structure and one or several of ``unrelaxed``, ``translated`` and ``mlip``; structures or
            outputs of other jobs.

        Returns
        -------
        Flow
            Its output is a `PropertyComparison`.

        Raises
        ------
        ValueError
            `structures` lacks the relaxed structure or a start, or has another name.
        """
        unknown = set(structures) - set(get_args(Calculated))
        if unknown or "relaxed" not in structures or len(structures) == 1:
            raise ValueError(
                f"structures {', '.join(structures) or '(none)'}: give 'relaxed' and one or several of "
                f"{', '.join(name for name in get_args(Calculated) if name != 'relaxed')}"
            )
        maker = self.static_maker.update_kwargs(
            {"_set": {"task_document_kwargs->parse_dos": True}}, class_filter=BaseVaspMaker, dict_mod=True
        )
        statics: list[Flow | Job] = []
        documents = {}
        for name, structure in structures.items():
            static = maker.make(structure, prev_dir=None)
            static.append_name(f" {reduced_formula} {name}")
            static.update_metadata({"candidate_id": candidate_id, "structure": name})
            statics.append(static)
            # References without a schema: jobflow rebuilds the JSON schema of a task document at each access.
            documents[name] = OutputReference(jobs_of(static)[-1].uuid)
        compare = self.compare_maker.make(candidate_id, reduced_formula, structures, documents)
        compare.append_name(f" {reduced_formula}")
        compare.update_metadata({"candidate_id": candidate_id})
        return Flow([*statics, compare], output=compare.output, name=f"{self.name} {reduced_formula}")
