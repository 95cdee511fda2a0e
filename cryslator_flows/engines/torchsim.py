"""Relaxation of one structure with torch-sim, with a document that holds its steps."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from jobflow import Maker, job
from pydantic import BaseModel, Field

from cryslator_flows.documents.gate import Crystal
from cryslator_flows.documents.relaxations import RelaxationCost
from cryslator_flows.engines.made_jobs import undecorated
from cryslator_flows.errors import CampaignError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum
    from pathlib import Path

    from atomate2.torchsim.core import TorchSimOptimizeMaker
    from pymatgen.core import Structure

AnyEnum = TypeVar("AnyEnum", bound="Enum")

# The cell relaxes too, as with atomate2's force fields; forces as in the preset chgnet, in eV/angstrom.
DEFAULTS: dict[str, Any] = {
    "optimizer": "fire",
    "convergence_fn_kwargs": {"force_tol": 0.05},
    "init_kwargs": {"cell_filter": "frechet"},
}


class TorchSimOutput(BaseModel):
    """The results of a relaxation with torch-sim."""

    energy: float = Field(description="Final energy of the cell, in eV")


class TorchSimRelaxation(BaseModel):
    """One structure relaxed with torch-sim."""

    structure: Crystal = Field(description="The relaxed structure")
    output: TorchSimOutput = Field(description="Its energy")
    cost: RelaxationCost = Field(description="Steps and time of the relaxation")


@dataclass
class TorchSimRelaxMaker(Maker):
    """Relax one structure with atomate2's ``TorchSimOptimizeMaker``.

    The document of atomate2's maker has neither steps nor convergence. Its cell filter does not survive a JobStore or a
    campaign file. It cannot be imported where torch-sim is not installed, on a submit node for instance. This maker
    makes the same relaxation and counts the evaluations of the model.

    Parameters
    ----------
    settings : dict
        Arguments of ``TorchSimOptimizeMaker``, names in place of enums; they replace `DEFAULTS`. ``model_type`` and
        ``model_path`` must be among them. ``autobatcher_dict``, for many structures at once, has no effect.
    name : str
        The job name.

    Examples
    --------
    >>> maker = TorchSimRelaxMaker({"model_type": "MACE", "model_path": "mace-mp-0.model", "max_steps": 300})
    >>> maker.name
    'torch-sim relax'
    """

    settings: dict[str, Any] = field(default_factory=dict)
    name: str = "torch-sim relax"

    def optimize_maker(self) -> TorchSimOptimizeMaker:
        """Build the maker of atomate2 that relaxes.

        Raises
        ------
        ImportError
            torch-sim is not installed.
        CampaignError
            An argument, or the name of a model, an optimizer, a convergence function or a cell filter, is unknown.
        """
        from atomate2.torchsim.core import TorchSimOptimizeMaker
        from atomate2.torchsim.schema import ConvergenceFn, TorchSimModelType
        from torch_sim.optimizers import Optimizer
        from torch_sim.optimizers.cell_filters import CellFilter

        arguments = {**DEFAULTS, **self.settings, "autobatcher_dict": False}
        try:
            maker = TorchSimOptimizeMaker(**arguments)
        except TypeError as error:
            raise CampaignError(f"torch-sim: {error}; see the fields of TorchSimOptimizeMaker") from error
        maker.optimizer = _member(Optimizer, "optimizer", maker.optimizer)
        maker.model_type = _member(TorchSimModelType, "model_type", maker.model_type)
        maker.convergence_fn = _member(ConvergenceFn, "convergence_fn", maker.convergence_fn)
        maker.init_kwargs = dict(maker.init_kwargs or {})
        if (name := maker.init_kwargs.get("cell_filter")) is not None:
            maker.init_kwargs["cell_filter"] = _member(CellFilter, "init_kwargs.cell_filter", name)
        return maker

    @job(output_schema=TorchSimRelaxation)
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> TorchSimRelaxation:
        """Relax a structure.

        Parameters
        ----------
        structure : Structure
            The structure to relax.
        prev_dir : str or Path or None
            Passed to atomate2, which does not use it.
        """
        maker = self.optimize_maker()
        with _counted_evaluations() as evaluations:
            document = undecorated(type(maker).make)(maker, structure, prev_dir=prev_dir).output
        # torch-sim evaluates the given structure, with a cell filter twice, and then each step. atomate2 evaluates the
        # last structure once more; this evaluation does not belong to the relaxation.
        spent = len(evaluations) - 1
        moves = spent - (2 if (maker.init_kwargs or {}).get("cell_filter") else 1)
        # It checks convergence only after so many moves, and ends when there were too many.
        most_moves = maker.max_steps // maker.steps_between_swaps * maker.steps_between_swaps
        return TorchSimRelaxation(
            structure=document.structure,
            output=TorchSimOutput(energy=document.output.energy),
            cost=RelaxationCost(
                engine=f"torch-sim {maker.model_type.value}",
                ionic_steps=spent,
                converged=moves < most_moves,
                wall_time=document.time_elapsed,
                dir_name=document.dir_name,
            ),
        )


def _member(kind: type[AnyEnum], key: str, name: Any) -> AnyEnum:
    try:
        return kind(str(name))
    except ValueError as error:
        names = [str(member.value) for member in kind]
        raise CampaignError(f"torch-sim: {key} {str(name)!r} is unknown; {nearest(str(name), names)}") from error


@contextmanager
def _counted_evaluations() -> Iterator[list[None]]:
    """Yield a list that gets an item for each evaluation of a torch-sim model in this process."""
    from torch.nn.modules.module import register_module_forward_hook
    from torch_sim.models.interface import ModelInterface

    evaluations: list[None] = []

    def count(module: object, *_: object) -> None:
        if isinstance(module, ModelInterface):
            evaluations.append(None)

    hook = register_module_forward_hook(count)
    try:
        yield evaluations
    finally:
        hook.remove()
