"""Job that compares starts and their electrons with the relaxed structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobflow import JobConfig, Maker, OnMissing, job
from pymatgen.core import Structure

from cryslator_flows.analysis.property_errors import property_errors, read_electronic, structure_errors
from cryslator_flows.documents.properties import Calculated, ElectronicProperties, PropertyComparison, PropertyErrors
from cryslator_flows.documents.relaxations import STARTS, Start
from cryslator_flows.errors import DataError, StructureError


@dataclass
class ComparePropertiesMaker(Maker):
    """Compare the starts of one candidate and their electronic properties with the relaxed structure.

    The job runs also when static calculations failed; it then compares the geometry alone.

    Parameters
    ----------
    name : str
        The job name.
    """

    name: str = "compare properties"

    @job(config=JobConfig(on_missing_references=OnMissing.NONE), output_schema=PropertyComparison)
    def make(
        self,
        candidate_id: str,
        reduced_formula: str,
        structures: dict[Calculated, Structure | None],
        documents: dict[Calculated, Any],
    ) -> PropertyComparison:
        """Compare the starts of a candidate.

        Parameters
        ----------
        candidate_id : str
            The candidate.
        reduced_formula : str
            Its formula.
        structures : dict
            The starts and the ``relaxed`` structure; None if its job failed.
        documents : dict
            For each structure the document of its static calculation; None if it failed.
        """
        electronic: dict[Calculated, ElectronicProperties] = {}
        missing: dict[Calculated, str] = {}
        for name, document in documents.items():
            try:
                if document is None:
                    raise DataError("its static calculation failed")
                electronic[name] = read_electronic(document)
            except DataError as error:
                missing[name] = str(error)
        errors: dict[Start, PropertyErrors] = {}
        relaxed = structures["relaxed"]
        for name, structure in structures.items():
            if structure is None:
                missing[name] = "no such structure: its job failed"
        for start in STARTS:
            structure = structures.get(start)
            if structure is None or relaxed is None:
                continue
            try:
                errors[start] = property_errors(structure, relaxed, electronic.get(start), electronic.get("relaxed"))
            except DataError as error:
                missing[start] = str(error)
                errors[start] = structure_errors(structure, relaxed)
            except StructureError as error:
                missing[start] = str(error)
        return PropertyComparison(
            candidate_id=candidate_id,
            reduced_formula=reduced_formula,
            errors=errors,
            electronic=electronic,
            missing=missing,
        )
