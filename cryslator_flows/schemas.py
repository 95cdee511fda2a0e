"""The documents that jobs exchange and stores keep."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from cryslator_flows.gate import Crystal

Start = Literal["unrelaxed", "translated", "mlip", "translated_mlip"]
STARTS: tuple[Start, ...] = get_args(Start)
Stage = Literal["enumerate", "translate", "select", "relax", "compare", "learn", "summarize"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class StrictModel(BaseModel):
    """Model of something that users write by hand: an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _know_all_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            # Keys that start with @ are monty's, from a document of a store.
            for key in [key for key in data if not str(key).startswith("@") and key not in cls.model_fields]:
                near = get_close_matches(str(key), cls.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(cls.model_fields)}"
                raise PydanticCustomError("unknown_key", "unknown key '{key}'; {hint}", {"key": str(key), "hint": hint})
            return {key: value for key, value in data.items() if not str(key).startswith("@")}
        return data


class Template(BaseModel):
    """A known structure whose elements are substituted."""

    template_id: str = Field(description="Identifier of the template, unique in a campaign")
    structure: Crystal = Field(description="The template structure")


class Candidate(BaseModel):
    """A substituted crystal that nobody has relaxed yet."""

    candidate_id: str = Field(description="Stable hash of template, substitution and settings")
    template_id: str = Field(description="The template it was made from")
    substitution: dict[str, str] = Field(description="Template element to new element")
    structure: Crystal = Field(description="The unrelaxed structure")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    chemsys: str = Field(description="Elements in alphabetical order, joined by '-'")
    probability: float | None = Field(None, description="Probability by pymatgen's substitution predictor, if used")
    magnetic_moments: Literal["template", "input set"] = Field(
        "input set",
        description="Where initial magnetic moments come from: carried over, or what the engine starts with",
    )


class Translation(BaseModel):
    """What the translator made of one structure."""

    candidate_id: str | None = Field(None, description="The candidate that was translated")
    structure: Crystal = Field(description="The translated structure, sites in the order of the input")
    formation_energy_per_atom: float = Field(description="Predicted formation energy, in eV/atom")
    formation_energy_uncertainty: float = Field(
        description="Half width of the interval that held 68 % of the validation energies, in eV/atom"
    )
    formation_energy_uncertainty_90: float = Field(
        description="Half width of the interval that held 90 % of the validation energies, in eV/atom"
    )
    mean_displacement: float = Field(description="Mean distance the atoms move, strain apart, in angstrom")
    volume_change: float = Field(description="Translated over unrelaxed volume, minus one")
    max_principal_strain: float = Field(description="Largest absolute principal logarithmic strain")
    atoms_too_close: bool = Field(description="Two atoms of the translated structure nearly coincide")
    unknown_elements: list[str] = Field(description="Elements the model was never trained on")
    domain_distance: float = Field(
        description="Distance from the training data by translated features; 99 % of the validation pairs are below 1"
    )
    out_of_domain: bool = Field(description="Unknown elements, or a domain distance above 1")
    model_name: str = Field(description="Name of the model")
    model_version: str = Field(description="Leading digits of the SHA-256 of the model's files")


class Rejection(BaseModel):
    """A candidate that could not be translated or relaxed, and why."""

    candidate_id: str
    reason: str


class EnumerationCounts(BaseModel):
    """What became of the substitutions of a campaign before translation."""

    templates: int = Field(0, description="Templates used")
    rejected_templates: list[str] = Field(default_factory=list, description="Why other templates could not be used")
    enumerated: int = Field(0, description="Substituted structures made")
    not_charge_balanced: int = Field(0, description="Dropped: no charge-balanced oxidation states")
    duplicates: int = Field(0, description="Dropped: equivalent to an earlier candidate")
    unique: int = Field(0, description="Candidates kept")


class TranslationStats(BaseModel):
    """How many candidates were translated, by which models and how fast."""

    n_translated: int = Field(0, description="Number of translations")
    n_rejected: int = Field(0, description="Number of candidates that could not be translated")
    n_out_of_domain: int = Field(0, description="Number of translations that are flagged as out of domain")
    seconds: float | None = Field(
        None,
        description="Mean wall time of translating a candidate, reading weights and starting processes included, in s",
    )
    models: dict[str, str] = Field(
        default_factory=dict, description="Name of each model and leading digits of the SHA-256 of its files"
    )


class RelaxationCost(BaseModel):
    """What one relaxation cost."""

    engine: str = Field(description="Code or interatomic potential")
    ionic_steps: int | None = Field(
        None, description="Ionic steps of all attempts, each one evaluation of energy, forces and stress"
    )
    electronic_steps: list[int] | None = Field(
        None,
        description="Electronic (SCF) steps of each ionic step, attempts in the order they ran; "
        "None where unknown or where the engine has none",
    )
    attempts: int | None = Field(None, description="Times the engine was started, custodian's restarts included")
    discarded_electronic_steps: int | None = Field(
        None, description="How many of the electronic steps custodian's discarded attempts spent"
    )
    n_kpoints: int | None = Field(None, description="Irreducible k-points")
    response_steps: list[int] | None = Field(
        None,
        description="Steps of each loop of linear response (LEPSILON, NMR, DFPT), apart from the electronic steps; "
        "None where unknown or where there was none",
    )
    converged: bool | None = Field(
        None,
        description="True if the relaxation reached its criterion, or the single point its SCF cycle; "
        "None where nothing says",
    )
    guard: str | None = Field(
        None, description="Why the guard went back to the unrelaxed structure; None if it did not"
    )
    synthetic: bool = Field(False, description="Made by a test double of the engine: never a measurement")
    wall_time: float | None = Field(None, description="Wall time, in s")
    dir_name: str | None = Field(None, description="Directory it ran in")

    @property
    def total_electronic_steps(self) -> int | None:
        """All electronic steps, or None where unknown."""
        return None if self.electronic_steps is None else sum(self.electronic_steps)

    @property
    def electronic_steps_times_kpoints(self) -> int | None:
        """Electronic steps times irreducible k-points, or None where one of them is unknown."""
        steps = self.total_electronic_steps
        return None if steps is None or self.n_kpoints is None else steps * self.n_kpoints


class Relaxation(BaseModel):
    """One candidate relaxed from one start."""

    start: Start = Field(description="Which structure the relaxation started from")
    job_uuids: list[str] = Field(description="Jobs that ran it")
    structure: Crystal | None = Field(None, description="Relaxed structure; None if the relaxation failed")
    energy_per_atom: float | None = Field(None, description="Final energy of the engine, in eV/atom")
    cost: RelaxationCost | None = Field(None, description="What it cost, also if it failed; None where nothing tells")
    prerelaxation: RelaxationCost | None = Field(
        None,
        description="What the interatomic potential spent to make the start, never part of `cost`; "
        "None for other starts and where nothing tells",
    )
    error: str | None = Field(None, description="Why there is no result")


Outcome = Literal["same minimum", "ended lower", "ended higher", "unconverged", "failed", "not compared"]


class Ending(BaseModel):
    """Where the relaxation from one start ended, compared with that from the unrelaxed structure."""

    start: Start = Field(description="The start that is compared, never 'unrelaxed'")
    outcome: Outcome = Field(description="How it ended; 'not compared' without a relaxation from the unrelaxed start")
    energy_difference: float | None = Field(None, description="Its end minus the unrelaxed start's end, in eV/atom")


class RelaxationComparison(BaseModel):
    """One candidate relaxed from one or several starts."""

    campaign: str = Field("", description="The campaign it was compared in")
    candidate_id: str = Field(description="The candidate")
    template_id: str = Field(description="The template it was made from")
    substitution: dict[str, str] = Field(description="Template element to new element")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    formation_energy_per_atom: float = Field(description="Predicted by the translator, in eV/atom")
    formation_energy_uncertainty: float | None = Field(
        None, description="As stated with it, see `Translation`, in eV/atom; None in old documents"
    )
    formation_energy_uncertainty_90: float | None = Field(None, description="The same for 90 %")
    unrelaxed_structure: Crystal | None = Field(None, description="The candidate; None in a digest")
    translated_structure: Crystal | None = Field(None, description="Its translation; None in a digest")
    settings: str = Field("", description="Hash of all settings of the relaxations and of the model")
    reused_from: str | None = Field(None, description="The campaign that relaxed it, if this one did not have to")
    relaxations: list[Relaxation] = Field(description="One for each start")
    endings: list[Ending] = Field(description="One for each start but the unrelaxed one")

    def ending(self, start: Start = "translated") -> Ending | None:
        """How the relaxation from `start` ended, if there was one."""
        return next((item for item in self.endings if item.start == start), None)

    def relaxation(self, start: Start) -> Relaxation | None:
        """The relaxation from `start`, if there was one."""
        return next((item for item in self.relaxations if item.start == start), None)

    def digest(self) -> RelaxationComparison:
        """The same without structures and with electronic steps summed: a few hundred bytes that savings need."""
        relaxations = []
        for item in self.relaxations:
            cost = item.cost
            if cost is not None and cost.electronic_steps is not None:
                cost = cost.model_copy(update={"electronic_steps": [sum(cost.electronic_steps)]})
            relaxations.append(item.model_copy(update={"structure": None, "cost": cost}))
        return self.model_copy(
            update={"relaxations": relaxations, "unrelaxed_structure": None, "translated_structure": None}
        )


class Digests(BaseModel):
    """What a chain of waves of relaxations hands on: its comparisons without their structures."""

    comparisons: list[RelaxationComparison] = Field(default_factory=list, description="See `digest`")


class TunedModel(BaseModel):
    """A model that was fine-tuned in a campaign, files and all: workers need not share a disk."""

    name: str = Field(description="Name of the model, the campaign's with the round")
    version: str = Field(description="Leading digits of the SHA-256 of its weights, calibration and configuration")
    base: str = Field(description="Name of the model it was fine-tuned from")
    files: dict[str, str] = Field(description="Its files by name, each in base64")


class RoundOutcome(BaseModel):
    """What a round of active learning relaxed and learnt."""

    round: int = Field(description="Number of the round, from 1")
    batch: list[str] = Field(description="The candidates that it relaxed")
    relaxed: int = Field(description="How many of them converged from at least one start")
    energy_error: float | None = Field(
        None,
        description="Mean absolute error of the formation energies that were predicted for the batch before it was "
        "relaxed, in eV/atom; None where nothing converged",
    )
    lowest_energy: float | None = Field(
        None, description="Lowest formation energy by the engine so far, in eV/atom; None where nothing converged"
    )
    lowest: str | None = Field(None, description="The candidate that has it")
    lowest_formula: str | None = Field(None, description="Its reduced formula")
    pairs: int = Field(description="Training pairs of all rounds so far")
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Candidates of the batch without a pair, by reason"
    )
    model_name: str = Field(description="The model that translates after this round")
    model_version: str = Field(description="Its version")
    metrics: dict[str, float] = Field(default_factory=dict, description="What the fine-tuning says of itself")
    not_learnt: str | None = Field(None, description="Why the model is still the one before; None if it learnt")


class Learned(BaseModel):
    """What rounds of active learning know so far; each hands it on to the next."""

    outcomes: list[RoundOutcome] = Field(description="Of each round")
    digests: Digests = Field(description="What they relaxed")
    records: list[dict[str, Any]] = Field(description="Training pairs, each a `PairRecord`")
    model: TunedModel | None = Field(None, description="Translates from now on; None for the campaign's own model")


Quantity = Literal["electronic steps", "electronic steps x k-points", "ionic steps"]
QUANTITIES: tuple[Quantity, ...] = ("electronic steps", "electronic steps x k-points", "ionic steps")


class Savings(BaseModel):
    """Paired comparison of one kind of step over the candidates that reached the same minimum from both starts."""

    quantity: Quantity = Field(description="Kind of step")
    start: Start = Field(description="The start that is compared with the unrelaxed one")
    n_pairs: int = Field(description="Candidates compared")
    mean_unrelaxed: float = Field(description="Mean steps from the unrelaxed start")
    mean: float = Field(description="Mean steps from the start that is compared")
    saving: float = Field(description="1 - total from this start / total from unrelaxed starts")
    interval: tuple[float, float] | None = Field(
        None, description="Paired bootstrap 95 % interval of the saving; None below 5 pairs"
    )
    p_value: float | None = Field(None, description="Wilcoxon signed-rank test, two-sided; None below 5 unequal pairs")
    share_slower: float = Field(description="Share of candidates that took more steps from this start")

    @property
    def ratio(self) -> float:
        """Total steps from this start over total steps from the unrelaxed starts."""
        return 1 - self.saving


class Prerelaxations(BaseModel):
    """What an interatomic potential spent to make the structures of one start."""

    start: Start = Field(description="The start, `mlip` or `translated_mlip`")
    engines: list[str] = Field(description="Interatomic potentials")
    n_candidates: int = Field(description="Candidates whose cost is known")
    unconverged: int | None = Field(
        None, description="How many of these the potential did not relax to its criterion; None where one is unknown"
    )
    ionic_steps: float | None = Field(None, description="Mean ionic steps of a candidate; None where one is unknown")
    seconds: float | None = Field(None, description="Mean wall time of a candidate, in s; None where one is unknown")


class CampaignSummary(BaseModel):
    """The funnel of a campaign and what translation saved."""

    campaign: str = Field(description="Name of the campaign")
    counts: EnumerationCounts
    translated: int = Field(description="Candidates translated")
    not_translated: int = Field(description="Candidates that could not be translated")
    out_of_domain: int = Field(0, description="Translated candidates that are unlike the model's training data")
    selected: int = Field(description="Candidates selected to be relaxed")
    relaxed: int = Field(description="Candidates with at least one converged relaxation")
    reused: int = Field(0, description="Candidates whose relaxations were taken over from another campaign")
    outcomes: dict[Start, dict[Outcome, int]] = Field(description="For each start, how many relaxations ended how")
    guarded: dict[Start, int] = Field(
        description="For each start, how many relaxations the guard sent back to the unrelaxed structure"
    )
    synthetic: int = Field(
        description="Relaxations by a test double of an engine; no saving is measured from what they cost"
    )
    engines: list[str] = Field(description="Codes and interatomic potentials that relaxed")
    savings: list[Savings] = Field(description="For each start and each kind of step the engine has")
    rounds: list[RoundOutcome] = Field(default_factory=list, description="Rounds of active learning, if it has any")
    translation_seconds: float | None = Field(
        description="Mean wall time of translating one candidate, in s; None where unknown"
    )
    prerelaxations: list[Prerelaxations] = Field(
        default_factory=list, description="What interatomic potentials spent to make starts, not part of the savings"
    )
    versions: dict[str, str] = Field(description="Versions of the packages and of the model")


Calculated = Literal["unrelaxed", "translated", "mlip", "translated_mlip", "relaxed"]


class DensityOfStates(BaseModel):
    """Total density of states, both spins, broadened by a Gaussian."""

    energies: list[float] = Field(description="Above the highest occupied level, in eV; the same grid for all crystals")
    densities: list[float] = Field(description="In states/eV/atom")


class ElectronicProperties(BaseModel):
    """What a static calculation found about the electrons of one structure."""

    engine: str = Field(description="Code that calculated it")
    energy_per_atom: float | None = Field(None, description="Energy, in eV/atom")
    band_gap: float = Field(description="Band gap, in eV; 0 for a metal")
    efermi: float = Field(
        description="Fermi level on the engine's own zero of energy, in eV; the middle of the gap where there is one"
    )
    dos: DensityOfStates | None = Field(None, description="Density of states; None where there is none")
    dos_error: str | None = Field(None, description="Why there is no density of states")
    synthetic: bool = Field(False, description="Made by a test double of the engine: never a measurement")


class PropertyErrors(BaseModel):
    """How far a start is from the relaxed structure; differences are start minus relaxed."""

    volume: float = Field(description="Cell volume over that of the relaxed structure, minus one")
    volume_per_atom: float = Field(description="Difference of volumes, in angstrom^3/atom")
    lengths: tuple[float, float, float] = Field(description="Differences of a, b and c, in angstrom")
    angles: tuple[float, float, float] = Field(description="Differences of alpha, beta and gamma, in degrees")
    fractional: float = Field(description="Mean absolute difference of fractional coordinates, drift removed")
    cartesian: float = Field(
        description="Mean distance between the positions of an atom, in the relaxed cell, drift removed, in angstrom"
    )
    band_gap: float | None = Field(None, description="Difference of band gaps, in eV; None where one is unknown")
    efermi: float | None = Field(None, description="Difference of Fermi levels, in eV; None where one is unknown")
    dos_distance: float | None = Field(
        None, description="Distance of the densities of occupied states, 0 (equal) to 1; None where one is unknown"
    )


class PropertyComparison(BaseModel):
    """Structures from which one candidate could be relaxed, and their electrons, beside the relaxed structure."""

    candidate_id: str = Field(description="The candidate")
    reduced_formula: str = Field(description="Reduced formula, as in emmet's formula_pretty")
    errors: dict[Start, PropertyErrors] = Field(description="For each start that could be compared")
    electronic: dict[Calculated, ElectronicProperties] = Field(
        description="For each structure whose static calculation succeeded"
    )
    missing: dict[Calculated, str] = Field(description="Why a structure has no electronic properties or no errors")

    @property
    def synthetic(self) -> bool:
        """Whether a test double calculated any of it."""
        return any(item.synthetic for item in self.electronic.values())
