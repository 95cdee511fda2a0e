"""Entries of pymatgen for relaxed crystals, and the Materials Project's corrections of their energies."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from pymatgen.entries.compatibility import CompatibilityError, MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedStructureEntry

from cryslator_flows.analysis.ends import converged_ends, lowest_ends

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryslator_flows.documents.references import ElementReference
    from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison

ENTRY_PARAMETERS = ("run_type", "is_hubbard", "hubbards", "potcar_spec")


def entry_parameters(document_parameters: dict[str, Any] | None) -> dict[str, Any]:
    """Keep the parameters of an entry that corrections depend on, as emmet's ``TaskDoc.entry`` has them."""
    found = {name: value for name, value in (document_parameters or {}).items() if name in ENTRY_PARAMETERS}
    if found.get("potcar_spec"):
        # The statistics of each POTCAR take kilobytes.
        found["potcar_spec"] = [{name: item.get(name) for name in ("titel", "hash")} for item in found["potcar_spec"]]
    return found


def correction_per_atom(relaxation: Relaxation) -> float | None:
    """Compute the correction of an energy by `MaterialsProject2020Compatibility`.

    Parameters
    ----------
    relaxation : Relaxation
        A relaxation with structure and energy.

    Returns
    -------
    float or None
        In eV/atom. None unless VASP ran with functional, U values and POTCARs of the Materials Project's GGA(+U).
    """
    if not relaxation.entry_parameters:
        return None
    entry = _entry(relaxation, None, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            adjustments = MaterialsProject2020Compatibility().get_adjustments(entry)
        except CompatibilityError:
            return None
    return float(sum(item.value for item in adjustments)) / len(entry.structure)


def computed_entries(
    comparisons: Iterable[RelaxationComparison], references: Iterable[ElementReference]
) -> list[ComputedStructureEntry]:
    """Make an entry of each relaxed element and of the lowest converged end of each candidate.

    Parameters
    ----------
    comparisons : iterable of RelaxationComparison
        The relaxed candidates.
    references : iterable of ElementReference
        The relaxed elements.

    Returns
    -------
    list of ComputedStructureEntry
        Energies by the engine, with the correction of the Materials Project if it is known for all.
    """
    by_id = {item.candidate_id: item for item in comparisons}
    found: list[tuple[str, Relaxation, dict[str, Any]]] = [
        (f"element {item.symbol}", end, {}) for item in references for end in converged_ends([item.relaxation])
    ]
    for name, end in lowest_ends(by_id.values()).items():
        found.append((name, end, by_id[name].model_dump(include={"campaign", "template_id", "substitution"})))
    corrected = all(end.correction_per_atom is not None for _, end, _ in found)
    entries = []
    for name, end, data in found:
        entry = _entry(end, name, {"start": end.start, **data})
        if corrected:
            entry.correction = (end.correction_per_atom or 0.0) * len(entry.structure)
        entries.append(entry)
    return entries


def _entry(relaxation: Relaxation, name: str | None, data: dict[str, Any]) -> ComputedStructureEntry:
    structure, energy = relaxation.structure, relaxation.energy_per_atom
    if structure is None or energy is None:
        raise ValueError(f"{name}: no relaxed structure or energy")
    engine = {} if relaxation.cost is None else {"engine": relaxation.cost.engine}
    return ComputedStructureEntry(
        structure,
        energy * len(structure),
        parameters={**relaxation.entry_parameters, **engine},
        data=data,
        entry_id=name,
    )
