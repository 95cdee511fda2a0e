"""Settings of relaxations: the key ``relaxation`` of a campaign file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from cryslator_flows.config import StrictModel
from cryslator_flows.crystals.substitution import Symbol
from cryslator_flows.documents.relaxations import Start
from cryslator_flows.engines.vasp_settings import GuardLimits, VaspSettings, apply_vasp_settings
from cryslator_flows.jobs.compare import CompareMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker


class MlipSettings(StrictModel):
    """The interatomic potential that relaxes the starts ``mlip`` and ``translated_mlip``."""

    maker: str = Field(
        "chgnet",
        description="'chgnet', or the import path of an atomate2 maker of any potential, as in "
        "'atomate2.forcefields.jobs.ForceFieldRelaxMaker' and 'atomate2.torchsim.core.TorchSimOptimizeMaker'",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the maker, `force_field_name: MACE-MP-0` for instance"
    )


# Above it CHGNet brings translated validation structures nearer to the minimum, see workflows/universal.
UNCERTAIN_ABOVE = 0.14


class RelaxationSettings(StrictModel):
    """Settings of the relaxation of selected candidates."""

    maker: str = Field(
        "chgnet",
        description="'chgnet', 'gpaw', 'DoubleRelaxMaker', 'MPGGADoubleRelaxMaker', 'MPGGADoubleRelaxStaticMaker', "
        "'MPMetaGGADoubleRelaxMaker', 'MP24DoubleRelaxStaticMaker', or the import path of an atomate2 maker",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments of the maker")
    vasp: VaspSettings | None = Field(None, description="Changes to the VASP jobs of the maker")
    guard: GuardLimits | None = Field(
        default_factory=lambda: GuardLimits(),
        description="Limits beyond which VASP restarts from the unrelaxed structure; null for no guard",
    )
    energy_tolerance: float = Field(
        CompareMaker.energy_tolerance,
        gt=0,
        description="Largest difference of energies that counts as the same minimum, in eV/atom",
    )
    starts: tuple[Start, ...] = Field(
        RelaxSelectedMaker.control_starts,
        min_length=1,
        description="Starts of the controls: unrelaxed, translated, scaled (unrelaxed at the translated volume), and "
        "mlip and translated_mlip, which an interatomic potential relaxes first. All other candidates start from the "
        "first that is listed of translated_mlip, mlip, translated, scaled, unrelaxed",
    )
    mlip: MlipSettings = Field(
        default_factory=lambda: MlipSettings(),
        description="The potential of the starts mlip and translated_mlip",
    )
    uncertain_above: float | None = Field(
        UNCERTAIN_ABOVE,
        gt=0,
        description="Distance from the minimum, in angstrom, that a translated structure may have. A candidate that "
        "would start from a less certain one starts from translated_mlip. It applies where `mlip` is given; null for "
        "no limit",
    )
    relax_elements: bool = Field(
        True,
        description="Relax the elements of the selected candidates too, with the same maker. Reports compute formation "
        "energies from them",
    )
    element_energies: dict[Symbol, float] = Field(
        default_factory=dict,
        description="Energies of the elements by the same engine and settings, in eV/atom; these elements are not "
        "relaxed. With `rounds`, which learn from them, add them before the start; otherwise at any time",
    )

    @field_validator("starts")
    @classmethod
    def _each_start_once(cls, starts: tuple[Start, ...]) -> tuple[Start, ...]:
        if len(set(starts)) < len(starts):
            raise ValueError("a start occurs twice; remove one of the two")
        return starts

    @property
    def uncertain_limit(self) -> float | None:
        """`uncertain_above` if the campaign names a potential; None otherwise."""
        return self.uncertain_above if "mlip" in self.model_fields_set else None

    @property
    def needs_potential(self) -> bool:
        """True if relaxations may start from structures of the potential."""
        from cryslator_flows.flows.relaxation_comparison import PRERELAXED

        return self.uncertain_limit is not None or not PRERELAXED.keys().isdisjoint(self.starts)

    def comparison_maker(self) -> RelaxationComparisonFlowMaker:
        """Build the maker of the flow that relaxes one candidate.

        Raises
        ------
        CampaignError
            A maker cannot be built; the message begins with its key in the campaign file.
        """
        from cryslator_flows.engines.by_name import build_potential_maker, build_relax_maker
        from cryslator_flows.flows.relaxation_comparison import RelaxationComparisonFlowMaker

        relax_maker = build_relax_maker(self.maker, self.kwargs)
        if self.vasp is not None:
            relax_maker = apply_vasp_settings(relax_maker, self.vasp)
        maker = RelaxationComparisonFlowMaker(
            relax_maker=relax_maker,
            guard=self.guard,
            compare_maker=CompareMaker(energy_tolerance=self.energy_tolerance),
        )
        if self.needs_potential:
            maker.mlip_maker = build_potential_maker(self.mlip.maker, self.mlip.kwargs)
        return maker

    def check_makers(self, folder: Path) -> Iterator[Callable[[], object]]:
        """Yield the checks of the makers.

        Parameters
        ----------
        folder : Path
            The folder of the campaign file; makers may come from its modules.

        Yields
        ------
        callable
            Raises a `CampaignError` whose message begins with the key of a maker, also of a potential that no start
            uses.
        """
        from cryslator_flows.engines.by_name import build_potential_maker, make_importable

        yield lambda: make_importable(self.maker, folder)
        yield lambda: make_importable(self.mlip.maker, folder, "relaxation.mlip")
        yield self.comparison_maker
        yield lambda: build_potential_maker(self.mlip.maker, self.mlip.kwargs)
