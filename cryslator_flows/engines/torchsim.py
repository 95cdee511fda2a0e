"""Relaxation with torch-sim, of one structure or of many at once, with documents that hold the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from jobflow import Maker, job
from pydantic import BaseModel, Field
from pymatgen.core import Structure

from cryslator_flows.documents.gate import Crystal
from cryslator_flows.documents.relaxations import RelaxationCost
from cryslator_flows.errors import CampaignError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import Enum

    from atomate2.torchsim.core import TorchSimOptimizeMaker
    from torch import Tensor
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState

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
    """Relax structures with torch-sim, with the settings of atomate2's ``TorchSimOptimizeMaker``.

    The document of atomate2's maker has neither steps nor convergence. Its cell filter does not survive a JobStore or a
    campaign file. It cannot be imported where torch-sim is not installed, on a submit node for instance. This maker
    runs the same optimizers. Where the cell relaxes, the forces on the cell have to converge too: by symmetry, a cubic
    crystal may have no others.

    Parameters
    ----------
    settings : dict
        Arguments of ``TorchSimOptimizeMaker``, names in place of enums; they replace `DEFAULTS`. ``model_type`` and
        ``model_path`` must be among them. ``autobatcher_dict`` is for many structures, see
        `batched`: True fits batches to the memory of the GPU, a dict has the limits of a batch, False makes none.
        Without it, a GPU gets batches.
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
        """Build the maker of atomate2 with these settings.

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

        try:
            maker = TorchSimOptimizeMaker(**{**DEFAULTS, **self.settings})
        except TypeError as error:
            raise CampaignError(f"torch-sim: {error}; see the fields of TorchSimOptimizeMaker") from error
        maker.optimizer = _member(Optimizer, "optimizer", maker.optimizer)
        maker.model_type = _member(TorchSimModelType, "model_type", maker.model_type)
        maker.convergence_fn = _member(ConvergenceFn, "convergence_fn", maker.convergence_fn)
        maker.init_kwargs = dict(maker.init_kwargs or {})
        if (name := maker.init_kwargs.get("cell_filter")) is not None:
            maker.init_kwargs["cell_filter"] = _member(CellFilter, "init_kwargs.cell_filter", name)
            if maker.convergence_fn is ConvergenceFn.FORCE:
                maker.convergence_fn_kwargs = {"include_cell_forces": True, **(maker.convergence_fn_kwargs or {})}
        return maker

    @cached_property
    def model(self) -> ModelInterface:
        """The potential, loaded once."""
        from atomate2.torchsim.core import pick_model

        maker = self.optimize_maker()
        loaded: ModelInterface = pick_model(maker.model_type, maker.model_path, **maker.model_kwargs)
        return loaded

    @property
    def batched(self) -> bool:
        """True where `relax_many` evaluates many structures at once."""
        from torch.cuda import is_available

        return self.settings.get("autobatcher_dict", is_available()) is not False

    @job(output_schema=TorchSimRelaxation)
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> TorchSimRelaxation:  # noqa: ARG002
        """Relax a structure.

        Parameters
        ----------
        structure : Structure
            The structure to relax.
        prev_dir : str or Path or None
            Not used: there is nothing to continue from.
        """
        return self.relax_many([structure])[0]

    def relax_many(self, structures: Sequence[Structure]) -> list[TorchSimRelaxation]:
        """Relax structures at once, in batches where `batched`.

        A structure that has converged makes room for the next one. The time of a batch is shared among its structures
        by their atoms and steps.

        Parameters
        ----------
        structures : sequence of Structure
            The structures to relax.

        Returns
        -------
        list of TorchSimRelaxation
            One for each structure, in order.

        Raises
        ------
        CampaignError
            As from `optimize_maker`.
        """
        import torch_sim
        from atomate2.torchsim.core import process_in_flight_autobatcher_dict, process_trajectory_reporter_dict
        from atomate2.torchsim.schema import CONVERGENCE_FN_REGISTRY

        maker, model = self.optimize_maker(), self.model
        state = torch_sim.initialize_state(list(structures), model.device, model.dtype)
        if maker.fix_symmetry:
            state.constraints = torch_sim.constraints.FixSymmetry.from_state(state, symprec=maker.symprec)
        limits: Any = {"memory_scales_with": "n_atoms", "max_memory_scaler": state.n_atoms + 1}
        if len(structures) > 1 and self.batched:
            limits = self.settings.get("autobatcher_dict", True)
        most_looks = maker.max_steps // maker.steps_between_swaps
        batcher: Any = process_in_flight_autobatcher_dict(
            list(structures), model, dict(limits) if isinstance(limits, dict) else limits, most_looks
        )[0]
        judge = CONVERGENCE_FN_REGISTRY[maker.convergence_fn](**(maker.convergence_fn_kwargs or {}))

        def ended(now: SimState, last_energy: Tensor) -> Tensor:
            """Tell which structures need no further move; one whose energy is no number never converges."""
            done: Tensor = judge(now, last_energy) | ~now.energy.isfinite()
            return done

        reporter, _ = process_trajectory_reporter_dict(maker.trajectory_reporter_dict)
        began = perf_counter()
        relaxed = torch_sim.optimize(
            state, model, optimizer=maker.optimizer, convergence_fn=ended, max_steps=maker.max_steps,
            steps_between_swaps=maker.steps_between_swaps, trajectory_reporter=reporter, autobatcher=batcher,
            init_kwargs=maker.init_kwargs, **(maker.optimizer_kwargs or {}),
        )  # fmt: skip
        seconds = perf_counter() - began
        # The optimizer evaluates the given structure, with a cell filter twice.
        first = 2 if (maker.init_kwargs or {}).get("cell_filter") else 1
        looks = batcher.iteration_count
        spent = [first + number * maker.steps_between_swaps for number in looks]
        work = [number * len(structure) for number, structure in zip(spent, structures, strict=True)]
        ends = zip(structures, relaxed.to_structures(), relaxed.energy.tolist(), spent, work, looks, strict=True)
        return [
            TorchSimRelaxation(
                structure=Structure(
                    after.lattice,
                    before.species,
                    after.frac_coords,
                    site_properties=before.site_properties,
                    properties=before.properties,
                ),
                output=TorchSimOutput(energy=energy),
                cost=RelaxationCost(
                    engine=f"torch-sim {maker.model_type.value}",
                    ionic_steps=steps,
                    converged=number < most_looks,
                    wall_time=seconds * share / sum(work),
                    dir_name=str(Path.cwd()),
                ),
            )
            for before, after, energy, steps, share, number in ends
        ]


def batched_maker(maker: Maker) -> TorchSimRelaxMaker | None:
    """Return the maker that relaxes as a given one does, but many structures at once.

    SevenNet of atomate2's force fields runs in torch-sim where that is installed and there is a GPU.

    Parameters
    ----------
    maker : Maker
        Any relax maker.

    Returns
    -------
    TorchSimRelaxMaker or None
        None where structures are relaxed one after the other.
    """
    if find_spec("torch_sim") is None:
        return None
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker
    from atomate2.forcefields.utils import MLFF

    twin = maker
    if isinstance(maker, ForceFieldRelaxMaker) and maker.calculator_meta is MLFF.SevenNet:
        arguments = {"model": "7net-0", **maker.calculator_kwargs}
        # Other settings have no counterpart.
        if not (arguments.keys() - {"model", "modal", "device"} or maker.relax_shape or maker.optimizer_kwargs):
            twin = TorchSimRelaxMaker({
                "model_type": "SevenNetModel", "model_path": arguments.pop("model"), "model_kwargs": arguments,
                "convergence_fn_kwargs": {"force_tol": maker.relax_kwargs.get("fmax", 0.1)},
                "init_kwargs": DEFAULTS["init_kwargs"] if maker.relax_cell else {},
                "max_steps": maker.steps, "fix_symmetry": maker.fix_symmetry,
            })  # fmt: skip
    return twin if isinstance(twin, TorchSimRelaxMaker) and twin.batched else None


def _member(kind: type[AnyEnum], key: str, name: Any) -> AnyEnum:
    try:
        return kind(str(name))
    except ValueError as error:
        names = [str(member.value) for member in kind]
        raise CampaignError(f"torch-sim: {key} {str(name)!r} is unknown; {nearest(str(name), names)}") from error
