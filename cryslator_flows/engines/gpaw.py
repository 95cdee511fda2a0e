"""Relaxations with GPAW, an open DFT code, for machines without VASP."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from atomate2.ase.jobs import _ASE_DATA_OBJECTS, AseRelaxMaker
from atomate2.ase.schemas import AseStructureTaskDoc
from jobflow import CURRENT_JOB, job
from pydantic import Field
from pymatgen.core import Structure

from cryslator_flows.counting import count_steps
from cryslator_flows.counting.ledger import LEDGER_NAME, LedgerEntry, append_entry
from cryslator_flows.crystals.moments import MAGNETIC
from cryslator_flows.documents.relaxations import RelaxationCost
from cryslator_flows.engines.kpoints import mesh
from cryslator_flows.engines.made_jobs import undecorated
from cryslator_flows.errors import CountingError, NotInstalledError, StructureError
from cryslator_flows.settings import SETTINGS

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator
    from atomate2.ase.schemas import AseResult
    from pymatgen.core import Molecule

logger = logging.getLogger(__name__)

LOG = "gpaw.txt"


class GpawTaskDoc(AseStructureTaskDoc):
    """Task document of a GPAW relaxation, with its cost."""

    cost: RelaxationCost = Field(description="Ionic and electronic steps, read from GPAW's log")


@dataclass
class GpawRelaxMaker(AseRelaxMaker):
    """Relax cell and positions with GPAW in plane waves.

    GPAW is an optional extra under the GPL: ``pip install 'cryslator-flows[gpaw]'``. Plane waves below about 700 eV
    leave a Pulay stress of several GPa in oxides. The relaxation then ends in another minimum than a converged one.

    Parameters
    ----------
    calculator_kwargs : dict
        Arguments of ``gpaw.GPAW``.
    kspacing : float
        Largest distance of k-points, in 1/angstrom, as VASP's KSPACING; the mesh is Gamma-centred. Not used where
        ``calculator_kwargs`` holds ``kpts``.
    provenance : dict
        ``campaign``, ``candidate_id`` and ``start`` for the ledger, see `record_relax_maker`. Without them no line goes
        to the ledger.
    magnetic_moments : dict
        Initial magnetic moments of elements, in Bohr magnetons, for structures without the site property ``magmom``.
        The calculation is spin-polarized if any moment is not zero.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> maker = GpawRelaxMaker(calculator_kwargs={"mode": {"name": "pw", "ecut": 700}}, kspacing=0.3)
    >>> maker.make(rock_salt).name
    'GPAW relax'
    """

    name: str = "GPAW relax"
    steps: int = 100
    relax_kwargs: dict[str, Any] = field(default_factory=lambda: {"fmax": 0.05})
    optimizer_kwargs: dict[str, Any] = field(default_factory=lambda: {"optimizer": "BFGS"})
    calculator_kwargs: dict[str, Any] = field(
        default_factory=lambda: {
            "mode": {"name": "pw", "ecut": 800},
            "xc": "PBE",
            "occupations": {"name": "fermi-dirac", "width": 0.05},
            "symmetry": {"tolerance": 1e-5},
        }
    )
    kspacing: float = 0.5
    provenance: dict[str, Any] = field(default_factory=dict)
    magnetic_moments: dict[str, float] = field(default_factory=lambda: dict(MAGNETIC))

    def __post_init__(self) -> None:
        super().__post_init__()
        if find_spec("gpaw") is None:
            raise NotInstalledError("GPAW is not installed; pip install 'cryslator-flows[gpaw]'")

    @job(data=_ASE_DATA_OBJECTS, output_schema=GpawTaskDoc)
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> GpawTaskDoc:
        """Relax a structure.

        Parameters
        ----------
        structure : Structure
            The structure to relax.
        prev_dir : str or Path or None
            Not used; part of the signature of all relax makers.

        Returns
        -------
        GpawTaskDoc
            Steps that GPAW's log does not hold are None in its ``cost``.
        """
        try:
            document = undecorated(AseRelaxMaker.make)(self, structure, prev_dir=prev_dir)
        finally:
            # The user must see an error of GPAW, not a later error of the counting.
            try:
                self._record(Path.cwd())
            except Exception:
                logger.exception("steps in %s were not recorded", Path.cwd())
        try:
            cost = count_steps(Path(LOG))
        except CountingError as error:
            logger.warning("steps are unknown: %s", error)
            cost = RelaxationCost(engine="GPAW")
        known = {
            "converged": None if document.state is None else document.state == "successful",
            "wall_time": document.output.elapsed_time,
            "dir_name": document.dir_name,
        }
        return GpawTaskDoc(**dict(document), cost=cost.model_copy(update=known))

    def _record(self, directory: Path) -> None:
        """Write the cost to the ledger, also of a run that fails or cannot be counted."""
        if not self.provenance or not (directory / LOG).exists():
            return
        cost = error = None
        try:
            cost = count_steps(directory / LOG)
        except CountingError as problem:
            error = str(problem)
        entry = LedgerEntry(
            run_id=str(uuid4()),
            job_uuid=CURRENT_JOB.job.uuid if CURRENT_JOB.job else None,
            directory=str(directory),
            time=datetime.now(UTC),
            ended=True,
            cost=cost,
            error=error,
            **self.provenance,
        )
        append_entry(SETTINGS.ledger or directory.parent / LEDGER_NAME, entry)

    def run_ase(self, mol_or_struct: Structure | Molecule, prev_dir: str | Path | None = None) -> AseResult:
        """Relax outside a job; the structure sets k-points and magnetic moments."""
        if not isinstance(mol_or_struct, Structure):
            raise StructureError(f"{mol_or_struct.formula}: is a molecule; give GpawRelaxMaker a Structure")
        structure = mol_or_struct
        if "magmom" not in structure.site_properties:
            moments = [self.magnetic_moments.get(site.specie.symbol, 0.0) for site in structure]
            if any(moments):
                structure = structure.copy(site_properties={"magmom": moments})
        kpts = self.calculator_kwargs.get("kpts", {"size": mesh(structure, self.kspacing), "gamma": True})
        self._calculator = self._get_calculator(kpts=kpts)
        return super().run_ase(structure, prev_dir=prev_dir)

    def _get_calculator(self, **kwargs: Any) -> Calculator:
        from gpaw import GPAW

        # GPAW's calculator has the methods of ASE's class, without being one.
        return cast("Calculator", GPAW(txt=LOG, **{**self.calculator_kwargs, **kwargs}))
