"""The campaign file: all settings of a campaign in one YAML file."""

from __future__ import annotations

import json
import os
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from cryslator_flows.campaign.inputs import (
    DIGESTS,
    EFFECTIVE,
    check_exists,
    check_property,
    comparable,
    describe_changes,
    digests,
    effective,
    find_template,
)
from cryslator_flows.campaign.potential_settings import PotentialSettings
from cryslator_flows.campaign.relaxation_settings import RelaxationSettings
from cryslator_flows.campaign.remote_settings import RemoteSettings
from cryslator_flows.campaign.round_settings import RoundSettings
from cryslator_flows.campaign.selection_settings import References, SelectionSettings
from cryslator_flows.config import StrictModel, YamlFile
from cryslator_flows.crystals.check import MAX_ATOMS
from cryslator_flows.crystals.formula_filters import FormulaFilters
from cryslator_flows.crystals.orderings import OrderingSettings
from cryslator_flows.crystals.source_files import STORE_FILE
from cryslator_flows.crystals.substitution import AnySubstitutionSpace, AsGiven
from cryslator_flows.crystals.templates import AnyTemplateSource, FileTemplates
from cryslator_flows.errors import CampaignError, NotInstalledError, PreflightError, StoreError
from cryslator_flows.jobs.enumerate import EnumerateMaker
from cryslator_flows.jobs.relax import RelaxSelectedMaker
from cryslator_flows.system.store_specs import absolute
from cryslator_flows.translator.default_model import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jobflow import Flow

    from cryslator_flows.documents.references import Known
    from cryslator_flows.flows.screening import ScreeningFlowMaker


def folder_label(folder: Path | str) -> str:
    """Return the name of the campaign that screens the structures of a folder: the folder's name in its characters.

    >>> folder_label("dumps/Heusler alloys (new)/")
    'Heusler-alloys-new'
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(folder).absolute().resolve().name)[:200].strip(".-_")
    return name or "structures"


class EnumerationSettings(StrictModel):
    """Settings of the enumeration of candidates."""

    charge_balanced: bool = Field(
        EnumerateMaker.charge_balanced, description="Drop candidates without charge-balanced oxidation states"
    )
    rescale_volume: bool = Field(
        EnumerateMaker.rescale_volume, description="Scale candidates to the volume of pymatgen's DLSVolumePredictor"
    )
    chunk_size: int = Field(EnumerateMaker.chunk_size, ge=1, description="Number of candidates in one translation job")
    filters: FormulaFilters = Field(
        default_factory=lambda: FormulaFilters(), description="Filters of the formulas, before translation"
    )
    orderings: OrderingSettings = Field(
        default_factory=lambda: OrderingSettings(),
        description="Orderings of templates with partial occupancies and of `kind: partial`",
    )


class CampaignSettings(StrictModel):
    """Settings of a screening campaign; `cryslator_flows.Campaign` runs it."""

    name: str = Field(description="Name of the campaign", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    templates: list[AnyTemplateSource] = Field(min_length=1, description="Sources of templates")
    substitutions: list[AnySubstitutionSpace] = Field(min_length=1, description="Elements and their substitutes")
    enumeration: EnumerationSettings = Field(
        default_factory=lambda: EnumerationSettings(), description="Settings of the enumeration"
    )
    model: str = Field(
        DEFAULT_MODEL, description="Translator model: its name, or its folder relative to the campaign file"
    )
    selection: SelectionSettings = Field(
        default_factory=lambda: SelectionSettings(top_k=10),
        description="Cuts that select the candidates to relax; the best 10 without this key, all with an empty one",
    )
    potential: PotentialSettings | None = Field(
        None,
        description="Interatomic potential that relaxes the candidates that `selection` keeps, and selects among them "
        "before the relaxation; null for no such stage",
    )
    relaxation: RelaxationSettings | None = Field(
        default_factory=lambda: RelaxationSettings(),
        description="Settings of the relaxation of selected candidates; null to stop before it",
    )
    rounds: RoundSettings | None = Field(
        None,
        description="Rounds of active learning before the selection: relax a batch, fine-tune the model on it, "
        "translate again; null for no rounds",
    )
    jobflow_remote: RemoteSettings = Field(
        default_factory=lambda: RemoteSettings(), description="Project and workers of the stages for `cryslator submit`"
    )
    _file: YamlFile | None = PrivateAttr(None)
    _source: Path | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _rounds_learn_formation_energies(self) -> Self:
        if self.rounds is not None and self.relaxation is None:
            raise ValueError("rounds: they need a `relaxation` to learn from; add `relaxation` or remove `rounds`")
        if self.rounds is not None and not self.element_energies and not self._relaxes_elements:
            raise ValueError(
                "rounds: relaxation.element_energies is missing; give the energy of every element by the same engine, "
                "in eV/atom, or remove `relax_elements: false`"
            )
        return self

    @model_validator(mode="after")
    def _structures_as_given_are_kept(self) -> Self:
        """Filter nothing by default from a campaign of structures as they are: the filters are made for templates."""
        if all(isinstance(space, AsGiven) for space in self.substitutions):
            if "charge_balanced" not in self.enumeration.model_fields_set:
                self.enumeration.charge_balanced = False
            for source in self.templates:
                if "max_atoms" not in source.model_fields_set:
                    source.max_atoms = MAX_ATOMS
        return self

    @model_validator(mode="after")
    def _one_way_to_learn(self) -> Self:
        if self.rounds is not None and self.potential is not None and self.potential.adapt is not None:
            raise ValueError(
                "potential.adapt: `rounds` fine-tune the campaign's own model on energies of another engine; remove "
                "`rounds` or `adapt`"
            )
        return self

    @model_validator(mode="after")
    def _relaxations_start_from_the_potential(self) -> Self:
        if self.potential is not None and self.relaxation is not None:
            if "starts" not in self.relaxation.model_fields_set:
                self.relaxation.starts = ("unrelaxed", "translated", "translated_mlip")
            elif "translated_mlip" not in self.relaxation.starts:
                raise ValueError(
                    "relaxation.starts: with `potential` relaxations start from its structures; add translated_mlip"
                )
        return self

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        """Read a campaign file and check everything that it names; its paths are relative to its folder.

        Makers are imported and built, so trust a campaign file like a script. They may be in a module beside the file.

        Parameters
        ----------
        path : Path or str
            The campaign file, or a folder of structures to screen as they are, see `of_structures`.

        Raises
        ------
        CampaignError
            The file cannot be read or a value is wrong. The message names file, line and key.
        PreflightError
            Files, stores or makers that the file names do not exist or cannot be built.
        """
        if os.path.isdir(path):  # noqa: PTH112
            campaign = cls.of_structures(path)
        else:
            file = YamlFile(path, CampaignError)
            campaign = file.parse(cls)
            campaign._file = file
        campaign._source = Path(path)
        # Absolute, because every job runs in a separate folder.
        mistakes = list(campaign._mistakes(Path(path).absolute().parent))
        if mistakes:
            raise PreflightError(mistakes)
        return campaign

    @classmethod
    def of_structures(cls, folder: Path | str) -> Self:
        """Make the campaign that screens the structures of a folder as they are, with the default settings.

        Parameters
        ----------
        folder : Path or str
            Folder of structure files, subfolders included. Its name is the name of the campaign.

        Raises
        ------
        CampaignError
            It is the folder of a campaign.
        """
        folder = Path(folder).absolute()
        if (folder / STORE_FILE).exists():
            raise CampaignError(
                f"{folder}: the folder of a campaign; give its campaign file, or a folder of structures"
            )
        return cls(
            name=folder_label(folder),
            templates=[FileTemplates(source="files", path=folder)],
            substitutions=[AsGiven(kind="as-given")],
        )

    def located(self, message: str) -> str:
        """Return a message that begins with a key, with the campaign's file and line in front, if it has a file."""
        return message if self._file is None else str(self._file.mistake(message))

    def _mistakes(self, folder: Path) -> Iterator[str]:
        """Find what the file names, and yield what cannot be found or built."""
        for check in self._checks(folder):
            try:
                check()
            except NotInstalledError:
                # Results can be read without the packages; a run checks for them.
                continue
            except (CampaignError, StoreError) as error:
                yield self.located(str(error))
        references = self.selection.references
        if isinstance(references, Path) and references.exists():
            try:
                self.selection.references = YamlFile(references, CampaignError).parse(References)
            except CampaignError as error:
                yield str(error)

    def _checks(self, folder: Path) -> Iterator[Callable[[], object]]:
        for number, source in enumerate(self.templates):
            yield partial(find_template, source, f"templates.{number}", folder)
        if os.path.isdir(model := absolute(self.model, folder)):  # noqa: PTH112
            self.model = str(model)
        if self.rounds is not None and self.rounds.replay is not None:
            self.rounds.replay = absolute(self.rounds.replay, folder)
            yield partial(check_exists, self.rounds.replay, "rounds.replay")
        for name, window in self.selection.properties.items():
            if os.path.isdir(model := absolute(window.model, folder)):  # noqa: PTH112
                window.model = str(model)
            yield partial(check_property, name, window)
        if isinstance(self.selection.references, Path):
            self.selection.references = absolute(self.selection.references, folder)
            yield partial(check_exists, self.selection.references, "selection.references")
        if self.potential is not None:
            yield self.potential.relax_maker
        if self.relaxation is not None:
            yield from self.relaxation.check_makers(folder)

    @property
    def _relaxes_elements(self) -> bool:
        return self.relaxation is not None and self.relaxation.relax_elements

    @property
    def element_energies(self) -> dict[str, float]:
        """Return the given energies of the elements by the engine, in eV/atom."""
        return {} if self.relaxation is None else self.relaxation.element_energies

    def content(self) -> str:
        """Return all settings that decide about the results, as JSON; `jobflow_remote` does not.

        Raises
        ------
        StructureError
            A folder of templates is empty.
        """
        replay = None if self.rounds is None else self.rounds.replay
        found = digests(self.templates, self.model, replay)
        counts: dict[str, dict[str, Any]] = {}
        if self.potential is not None:
            counts["potential"] = dict(zip(("maker", "kwargs"), self.potential.maker_and_kwargs(), strict=True))
        if self.relaxation is not None:
            counts["relaxation"] = {"uncertain_above": self.relaxation.uncertain_limit}
        given = self.model_dump(mode="json", exclude={"jobflow_remote"})
        return json.dumps({**given, DIGESTS: found, EFFECTIVE: counts})

    def changed_keys(self, content: str) -> list[str]:
        """List the keys of the campaign file that changed since `content` was taken, without those for reports."""
        before, now = json.loads(content), json.loads(self.content())
        # Earlier versions did not store it.
        if EFFECTIVE in before:
            before, now = effective(before), effective(now)
        before, now = comparable(before), comparable(now)
        # Rounds learn from the energies of the elements; otherwise only reports use them.
        for settings in (before.get("relaxation"), now["relaxation"]) if self.rounds is None else ():
            if settings is not None:
                settings.pop("element_energies", None)
                settings.pop("relax_elements", None)
        return [key for key in now if now[key] != before.get(key)]

    def changes(self, content: str) -> str:
        """Describe `changed_keys`, with the names of the structure files that are new, changed or gone."""
        files = describe_changes(json.loads(content), json.loads(self.content()))
        keys = self.changed_keys(content)
        return ", ".join(f"{key} ({files})" if key == "templates" and files else key for key in keys)

    @property
    def source(self) -> str:
        """Its file, or its folder of structures, as an argument of a command."""
        return "CAMPAIGN_FILE" if self._source is None else shlex.quote(str(self._source))

    def to_flow(self, known: Sequence[Known] = ()) -> Flow:
        """Make the campaign's jobflow Flow; raises the errors of `to_maker`.

        Parameters
        ----------
        known : sequence of Known
            Relaxations of other campaigns, which are not repeated.
        """
        return self.to_maker().make(self.templates, self.substitutions, known)

    def to_maker(self) -> ScreeningFlowMaker:
        """Build the maker of the campaign's flow.

        Raises
        ------
        CampaignError
            The relax maker cannot be built.
        ModelError
            The model does not exist.
        """
        from cryslator_flows.flows.screening import ScreeningFlowMaker
        from cryslator_flows.jobs.select import SelectMaker
        from cryslator_flows.jobs.translate_chunk import TranslateChunkMaker
        from cryslator_flows.translator.model_folder import find_model

        folder, rounds = find_model(self.model), self.rounds
        folder.config()
        relax_selected = None
        if self.relaxation is not None:
            comparison_maker = self.relaxation.comparison_maker()
            if self.potential is not None:
                comparison_maker.mlip_maker = self.potential.relax_maker()
            relax_selected = RelaxSelectedMaker(
                comparison_maker=comparison_maker,
                controls=self.selection.controls,
                control_starts=self.relaxation.starts,
                uncertain_above=self.relaxation.uncertain_limit,
                known_elements=tuple(self.element_energies) if self.relaxation.relax_elements else None,
            )
        return ScreeningFlowMaker(
            name=self.name,
            enumerate_maker=EnumerateMaker(
                **dict(self.enumeration),
                translate_maker=TranslateChunkMaker(model_name=self.model),
                elements=None if rounds is None or self._relaxes_elements else sorted(self.element_energies),
            ),
            select_maker=SelectMaker(
                cuts=self.selection.cuts(),
                relax_maker=relax_selected,
                potential_maker=None if self.potential is None else self.potential.to_maker(),
            ),
            round_maker=None
            if rounds is None or relax_selected is None
            else rounds.to_maker(self.model, relax_selected, self.element_energies),
            adapt_maker=None if self.potential is None else self.potential.to_adapt_maker(self.model),
        )
