"""The campaign file: everything about a campaign in one YAML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from cryslator_flows.campaign.rounds import RoundSettings
from cryslator_flows.campaign.stages import RemoteSettings
from cryslator_flows.crystals.stores import absolute_paths
from cryslator_flows.crystals.substitution import AnySubstitutionSpace, Symbol
from cryslator_flows.crystals.templates import AnyTemplateSource, FileTemplates, StoreTemplates
from cryslator_flows.defaults import DEFAULT_MODEL
from cryslator_flows.errors import CampaignError, nearest
from cryslator_flows.relaxation.vasp import GuardLimits, VaspSettings, apply_vasp_settings
from cryslator_flows.schemas import Start, StrictModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobflow import Flow
    from pydantic_core import ErrorDetails

    from cryslator_flows.campaign.frames import CampaignFrames
    from cryslator_flows.flows.screening import ScreeningFlowMaker
    from cryslator_flows.schemas import RelaxationComparison

# Values that tell the kinds of templates and of substitutions apart.
TAGS = {
    "source": ("aflow", "files", "store", "materials-project"),
    "kind": ("maps", "species", "roles", "predicted"),
}


class EnumerationSettings(StrictModel):
    """How candidates are enumerated."""

    charge_balanced: bool = Field(True, description="Drop candidates without charge-balanced oxidation states")
    rescale_volume: bool = Field(False, description="Scale candidates to the volume of pymatgen's DLSVolumePredictor")
    chunk_size: int = Field(2000, ge=1, description="Candidates in one translation job")


class SelectionSettings(StrictModel):
    """Which translated candidates are relaxed."""

    max_formation_energy: float | None = Field(None, description="Drop candidates above, in eV/atom")
    max_energy_above_hull: float | None = Field(None, ge=0, description="Drop candidates further above, in eV/atom")
    max_uncertainty: float | None = Field(None, gt=0, description="Drop candidates less certain, in eV/atom")
    in_domain_only: bool = Field(False, description="Drop candidates unlike the model's training data")
    per_composition: int | None = Field(None, ge=1, description="Keep at most this many of one reduced formula")
    top_k: int | None = Field(None, ge=1, description="Keep at most this many")
    control_share: float = Field(
        1.0, ge=0, le=1, description="Share of the selected that is relaxed from all starts to measure the saving"
    )
    references: dict[str, float] | Path = Field(
        default_factory=dict,
        description="Known phases for the hull: formula to formation energy in eV/atom, or a YAML or JSON file of that",
    )


class MlipSettings(StrictModel):
    """The interatomic potential that relaxes structures before they are starts."""

    maker: str = Field(
        "chgnet",
        description="'chgnet', or the import path of an atomate2 maker of any potential, as in "
        "'atomate2.forcefields.jobs.ForceFieldRelaxMaker' and 'atomate2.torchsim.core.TorchSimOptimizeMaker'",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of the maker, `force_field_name: MACE-MP-0` for instance"
    )


class RelaxationSettings(StrictModel):
    """How selected candidates are relaxed."""

    maker: str = Field(
        "chgnet",
        description="'chgnet', 'gpaw', 'DoubleRelaxMaker', 'MPGGADoubleRelaxMaker', 'MPMetaGGADoubleRelaxMaker', "
        "or the import path of an atomate2 maker",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments of the maker")
    vasp: VaspSettings | None = Field(None, description="Changes to the VASP jobs of the maker")
    guard: GuardLimits | None = Field(
        default_factory=lambda: GuardLimits(),
        description="When VASP goes back from a translated start to the unrelaxed structure; null for never",
    )
    energy_tolerance: float = Field(
        0.005, gt=0, description="Energies that differ by less count as the same minimum, in eV/atom"
    )
    starts: tuple[Start, ...] = Field(
        ("unrelaxed", "translated"),
        min_length=1,
        description="What the control share starts from: unrelaxed, translated, and these two relaxed with an "
        "interatomic potential first, mlip and translated_mlip. The other candidates start from the translated "
        "structure, or from the last of the starts if that is none of them",
    )
    mlip: MlipSettings = Field(
        default_factory=lambda: MlipSettings(),
        description="The potential of the starts mlip and translated_mlip",
    )
    element_energies: dict[Symbol, float] = Field(
        default_factory=dict,
        description="Energies of the elements by the same engine and settings, in eV/atom, from which reports make "
        "formation energies; may be added when the campaign has ended, but where there are `rounds`, which learn them",
    )


class Campaign(StrictModel):
    """A screening campaign.

    Examples
    --------
    >>> from pathlib import Path
    >>> campaign = Campaign.from_file(Path("workflows/mn-oxides-laptop.yaml"))
    >>> campaign.name
    'mn-oxides-laptop'
    >>> flow = campaign.to_flow()
    """

    name: str = Field(description="Name of the campaign", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    templates: list[AnyTemplateSource] = Field(min_length=1, description="Where templates come from")
    substitutions: list[AnySubstitutionSpace] = Field(min_length=1, description="Which elements become which")
    enumeration: EnumerationSettings = Field(
        default_factory=lambda: EnumerationSettings(), description="How candidates are enumerated"
    )
    model: str = Field(
        DEFAULT_MODEL, description="Translator model, by name, or by its folder counted from the campaign file"
    )
    selection: SelectionSettings = Field(
        default_factory=lambda: SelectionSettings(top_k=10),
        description="Which translated candidates are relaxed; the best 10 without this key, all with an empty one",
    )
    relaxation: RelaxationSettings | None = Field(
        default_factory=lambda: RelaxationSettings(), description="How the selected are relaxed; null to stop before"
    )
    rounds: RoundSettings | None = Field(
        None,
        description="Rounds of active learning before the selection: relax a batch, fine-tune the model on it, "
        "translate again; null for none",
    )
    jobflow_remote: RemoteSettings = Field(
        default_factory=lambda: RemoteSettings(), description="Where `cryslator submit` has the stages run"
    )

    @model_validator(mode="after")
    def _rounds_learn_formation_energies(self) -> Campaign:
        if self.rounds is not None and self.relaxation is None:
            raise ValueError("rounds: they relax and learn, so there must be a `relaxation`; remove one of the two")
        if self.rounds is not None and not self.element_energies:
            raise ValueError(
                "rounds: need relaxation.element_energies, the energy of every element by the same engine, in eV/atom"
            )
        return self

    @classmethod
    def from_file(cls, path: Path) -> Campaign:
        """Read a campaign file; relative paths in it count from its folder.

        Raises
        ------
        CampaignError
            The file cannot be read or a field is wrong; the message names both.
        """
        content = _read_yaml(path)
        try:
            campaign = cls.model_validate(content)
        except ValidationError as error:
            raise CampaignError(f"{path}, {_explain(error.errors()[0])}") from error
        # Absolute, because every job runs in a folder of its own.
        folder = path.absolute().parent
        for source in campaign.templates:
            if isinstance(source, FileTemplates):
                source.path = folder / source.path
            elif isinstance(source, StoreTemplates):
                source.store = absolute_paths(source.store, folder)
        if (folder / campaign.model).is_dir():
            campaign.model = str(folder / campaign.model)
        rounds = campaign.rounds
        if rounds is not None and rounds.replay is not None:
            rounds.replay = folder / rounds.replay
            if not rounds.replay.is_file():
                raise CampaignError(f"{path}, rounds.replay: {rounds.replay} does not exist; give a file of pairs")
        references = campaign.selection.references
        if isinstance(references, Path):
            campaign.selection.references = _read_references(folder / references)
        return campaign

    @property
    def element_energies(self) -> dict[str, float]:
        """Energies of the elements by the engine, in eV/atom, as far as they are given."""
        return {} if self.relaxation is None else self.relaxation.element_energies

    def content(self) -> str:
        """All that decides about the results of the campaign, as JSON; where it runs does not."""
        return self.model_dump_json(exclude={"jobflow_remote"})

    def changed_keys(self, content: str) -> list[str]:
        """Keys of the campaign file that are not what they were when `content` was taken, but for what reports use."""
        before, now = json.loads(_with_new_keys(content)), json.loads(self.content())
        # Rounds learn from the energies of the elements, else they are for reports only.
        for settings in (before.get("relaxation"), now["relaxation"]) if self.rounds is None else ():
            if settings is not None:
                settings.pop("element_energies", None)
        return [key for key in now if now[key] != before.get(key)]

    def to_flow(self, known: Sequence[RelaxationComparison] = ()) -> Flow:
        """The campaign as a jobflow Flow; raises what `to_maker` raises.

        Parameters
        ----------
        known : sequence of RelaxationComparison
            Relaxations of other campaigns; what one of them has is not relaxed again.
        """
        return self.to_maker().make(self.templates, self.substitutions, known)

    def run(self, folder: Path | None = None, rerun_failed: bool = False, reuse: Sequence[Path] = ()) -> CampaignFrames:
        """Run the campaign on this machine, or what is left of it, as ``cryslator screen`` does.

        Interrupt it whenever you like: the next call goes on where it stopped. The folder then holds the files that
        ``cryslator screen`` leaves, `report.html` to look at among them.

        Parameters
        ----------
        folder : Path or None
            The campaign folder, ``runs/NAME`` if None.
        rerun_failed : bool
            Run candidates again whose relaxations failed before.
        reuse : sequence of Path
            Folders of other campaigns: what they relaxed is not relaxed again.

        Returns
        -------
        CampaignFrames
            As from `results`.

        Raises
        ------
        CampaignError
            The campaign changed since it was started in this folder, or enumeration or translation failed.
        StoreError
            The folder cannot be written, or another process runs there.
        """
        from cryslator_flows.campaign.frames import CampaignFrames
        from cryslator_flows.campaign.run import CampaignRun, progress_bar
        from cryslator_flows.campaign.started import find_started
        from cryslator_flows.campaign.written import write_all

        run = CampaignRun(self, folder or Path("runs") / self.name, reuse)
        with progress_bar() as report:
            run.run(report, rerun_failed)
        with find_started(self.name, folder=run.folder.path) as started:
            frames = CampaignFrames.read(started.results)
            write_all(started, frames.summary, list(frames.comparisons.values()), started.status())
        return frames

    def results(
        self, folder: Path | None = None, project: str | None = None, name: str | None = None
    ) -> CampaignFrames:
        """What the campaign left so far, as DataFrames, wherever it runs or ran.

        All translated candidates are read into memory, where 100,000 take 70 MB and a second
        (``python -m tests.benchmarks.results`` measures it). Millions are better read in chunks of some thousands, one
        in memory at a time, by `CampaignResults.chunks`, which `find_started` leads to.

        Parameters
        ----------
        folder : Path or None
            The campaign folder, ``runs/NAME`` if None.
        project : str or None
            The jobflow-remote project. None for the campaign folder if there is one, else the project that the
            campaign file names, else jobflow-remote's own default.
        name : str or None
            What ``cryslator submit --again`` called the run, NAME-2 and so on; the campaign's own name if None.

        Raises
        ------
        CampaignError
            There are no results of that name yet; the message has the nearest name or all that there are.
        ProjectError
            There is no campaign folder, and the project cannot be opened.
        """
        from cryslator_flows.campaign.frames import CampaignFrames
        from cryslator_flows.campaign.started import find_started

        with find_started(name or self.name, project, folder, self.jobflow_remote.project) as started:
            return CampaignFrames.read(started.results)

    def to_maker(self) -> ScreeningFlowMaker:
        """The maker of the campaign's flow.

        Raises
        ------
        CampaignError
            The relax maker cannot be built.
        ModelError
            The model does not exist.
        """
        from cryslator_flows.flows.comparison import PRERELAXED, RelaxationComparisonFlowMaker
        from cryslator_flows.flows.screening import ScreeningFlowMaker
        from cryslator_flows.jobs.compare import CompareMaker
        from cryslator_flows.jobs.enumerate import EnumerateMaker
        from cryslator_flows.jobs.relax import RelaxSelectedMaker
        from cryslator_flows.jobs.select import SelectMaker
        from cryslator_flows.jobs.selection import Cuts
        from cryslator_flows.jobs.translate import TranslateMaker
        from cryslator_flows.relaxation.engines import build_potential_maker, build_relax_maker
        from cryslator_flows.translator.pretrained import find_model

        folder, rounds = find_model(self.model), self.rounds
        folder.config()
        relax_selected = None
        if self.relaxation is not None:
            relax_maker = build_relax_maker(self.relaxation.maker, self.relaxation.kwargs)
            if self.relaxation.vasp is not None:
                relax_maker = apply_vasp_settings(relax_maker, self.relaxation.vasp)
            comparison_maker = RelaxationComparisonFlowMaker(
                relax_maker=relax_maker,
                guard=self.relaxation.guard,
                compare_maker=CompareMaker(energy_tolerance=self.relaxation.energy_tolerance),
            )
            if not PRERELAXED.keys().isdisjoint(self.relaxation.starts):
                potential = self.relaxation.mlip
                comparison_maker.mlip_maker = build_potential_maker(potential.maker, potential.kwargs)
            relax_selected = RelaxSelectedMaker(
                comparison_maker=comparison_maker,
                control_share=self.selection.control_share,
                control_starts=self.relaxation.starts,
            )
        return ScreeningFlowMaker(
            name=self.name,
            enumerate_maker=EnumerateMaker(
                **self.enumeration.model_dump(),
                translate_maker=TranslateMaker(model_name=self.model),
                elements=None if rounds is None else sorted(self.element_energies),
            ),
            select_maker=SelectMaker(
                cuts=Cuts(**self.selection.model_dump(exclude={"control_share"})), relax_maker=relax_selected
            ),
            round_maker=None
            if rounds is None or relax_selected is None
            else rounds.to_maker(self.model, relax_selected, self.element_energies),
        )


def _with_new_keys(content: str) -> str:
    """The content of a campaign that an older version started, with the keys that it did not know at their defaults."""
    try:
        return Campaign.model_validate_json(content).content()
    except ValidationError:
        return content


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise CampaignError(f"{path}: cannot be read ({reason}); give a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "syntax error"
        raise CampaignError(f"{path}{where}: not valid YAML ({problem}); check indentation and colons") from error


def _read_references(path: Path) -> dict[str, float]:
    content = _read_yaml(path)
    try:
        return {str(formula): float(energy) for formula, energy in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise CampaignError(
            f"{path}: selection.references must map formulas to formation energies in eV/atom ({error})"
        ) from error


def _explain(error: ErrorDetails) -> str:
    """Field and message of a validation error, without pydantic's own vocabulary."""
    tags = [tag for group in TAGS.values() for tag in group]
    where = ".".join(str(part) for part in error["loc"] if part not in tags) or "campaign"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        message = "missing; add this key"
    elif error["type"] in {"model_type", "model_attributes_type"}:
        message = "expected keys and values here"
    elif error["type"] == "list_type":
        message = "expected a list, as in [A, B]"
    elif error["type"] == "literal_error":
        known = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        message = f"{error['input']!r} is unknown; {nearest(str(error['input']), known)}"
    elif error["type"] == "too_short":
        message = "give at least one"
    elif error["type"].startswith("union_tag"):
        key = error["ctx"]["discriminator"].strip("'")
        message = f"{key} must be one of {', '.join(TAGS[key])}"
    return f"{where}: {message}"
