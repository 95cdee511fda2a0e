"""Packed candidates: thousands in one small document, with columns of numbers instead of structures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from monty.json import MontyEncoder
from pydantic import BaseModel, Field
from pymatgen.core import Structure
from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor

from cryslator_flows.crystals.candidate_rows import CandidateRow, make_candidate
from cryslator_flows.crystals.columns import (
    Arrays,
    decode_columns,
    encode_columns,
    from_moves,
    n_moves,
    squeeze,
    stack_moves,
    to_moves,
    unsqueeze,
)
from cryslator_flows.crystals.substitution import Substitution
from cryslator_flows.documents.candidates import Candidate, Rejection, Template, Translation, TranslationStats
from cryslator_flows.documents.potential import PotentialStats
from cryslator_flows.documents.references import ElementReference
from cryslator_flows.documents.relaxations import Digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

TranslatedCandidate = tuple[Candidate, Translation]

NUMBERS = (
    "formation_energy_per_atom",
    "formation_energy_uncertainty",
    "formation_energy_uncertainty_90",
    "mean_displacement",
    "volume_change",
    "max_principal_strain",
    "domain_distance",
)
# Numbers that a model may lack.
OPTIONAL_NUMBERS = ("volume_uncertainty_90", "shape_uncertainty_90", "displacement_uncertainty_90")
FLAGS = ("atoms_too_close", "out_of_domain")
# Begins the names of columns of properties that other models predict, in arrays and tables.
PREDICTED = "predicted "
TEXTS = ("domain_reason", "model_name", "model_version")


def _text(template: Template) -> str:
    """Return a template as JSON, without Cartesian positions and labels of sites, which its structure does not need."""
    content = {
        "@module": Template.__module__,
        "@class": Template.__name__,
        "template_id": template.template_id,
        "structure": template.structure.as_dict(verbosity=0),
    }
    return json.dumps(content, cls=MontyEncoder)


def _each(moves: NDArray[np.int64], n_atoms: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """Return the moves of each candidate from the column of all."""
    return np.split(moves, np.cumsum(n_moves(n_atoms)))[:-1]


class PackedCandidates(BaseModel):
    """Candidates as templates and substitutions. Structures are made on request."""

    n_candidates: int = Field(description="Number of candidates")
    templates: str = Field(description="Templates of the candidates by identifier, as compressed JSON in base64")
    rescale_volume: bool = Field(False, description="True if candidates are scaled to a predicted volume")
    whole_systems: bool = Field(
        False, description="True if other candidates of the campaign cannot be in the convex hulls of these"
    )
    columns: str = Field(description="Compressed numpy archive (npz) in base64, columns of one row for each candidate")

    @classmethod
    def pack(
        cls, rows: Iterable[CandidateRow], rescale_volume: bool = False, whole_systems: bool = False
    ) -> PackedCandidates:
        """Pack candidates during enumeration; parameters as the fields."""
        numbers_of: dict[str, int] = {}
        texts: dict[str, str] = {}
        numbers, symbols, probabilities = [], [], []
        for row in rows:
            name = row.template.template_id
            if name not in texts:
                numbers_of[name] = len(texts)
                texts[name] = _text(row.template)
            numbers.append(numbers_of[name])
            symbols.append(" ".join(f"{old} {new}" for old, new in row.substitution.mapping.items()))
            probabilities.append(np.nan if row.substitution.probability is None else row.substitution.probability)
        arrays = {
            "template": np.array(numbers, dtype=np.int32),
            "symbols": np.array(symbols, dtype=np.str_),
            "probability": np.array(probabilities, dtype=float),
        }
        return cls(
            n_candidates=len(numbers),
            templates=squeeze(json.dumps(texts)),
            rescale_volume=rescale_volume,
            whole_systems=whole_systems,
            columns=encode_columns(arrays),
        )

    def template_texts(self) -> dict[str, str]:
        """Return the templates by identifier, each as JSON."""
        return dict(json.loads(unsqueeze(self.templates)))

    def arrays(self) -> Arrays:
        """Return the decoded columns."""
        return decode_columns(self.columns)

    def candidates(self) -> Iterator[Candidate]:
        """Yield the candidates one by one, in order."""
        return self._make(self.arrays(), self._templates())

    def some(self, rows: NDArray[np.integer] | Sequence[int]) -> Iterator[Candidate]:
        """Yield the candidates of some rows."""
        columns = self.arrays()
        names = ("template", "symbols", "probability")
        return self._make({name: columns[name][np.asarray(rows, dtype=int)] for name in names}, self._templates())

    def _templates(self) -> list[Template]:
        return [Template.model_validate_json(text) for text in self.template_texts().values()]

    def _make(self, columns: Arrays, templates: Sequence[Template]) -> Iterator[Candidate]:
        predictor = DLSVolumePredictor() if self.rescale_volume else None
        for number, symbols, probability in zip(
            columns["template"], columns["symbols"], columns["probability"], strict=True
        ):
            names = str(symbols).split()
            substitution = Substitution(
                dict(zip(names[::2], names[1::2], strict=True)),
                None if np.isnan(probability) else float(probability),
            )
            yield make_candidate(CandidateRow(templates[number], substitution), predictor)


class TranslatedCandidates(PackedCandidates):
    """Candidates and their translations, packed. Each takes one or two hundred bytes.

    Cells and positions are stored as changes from the template, in whole numbers of `columns.STEP`.
    """

    @classmethod
    def add(cls, packed: PackedCandidates, kept: Sequence[int], rows: Sequence[tuple[str, Translation]]) -> Self:
        """Add translations to packed candidates.

        Parameters
        ----------
        packed : PackedCandidates
            The candidates.
        kept : sequence of int
            Positions of the candidates that were translated.
        rows : sequence of (str, Translation)
            Reduced formula and translation of each of these candidates.
        """
        translations = [translation for _, translation in rows]
        templates = [template.structure for template in packed._templates()]
        arrays = {name: column[np.array(kept, dtype=int)] for name, column in packed.arrays().items()}
        arrays["candidate_id"] = np.array([str(item.candidate_id) for item in translations], dtype=np.str_)
        arrays["formula"] = np.array([formula for formula, _ in rows], dtype=np.str_)
        for name in (*NUMBERS, *OPTIONAL_NUMBERS):
            # None becomes NaN.
            arrays[name] = np.array([getattr(item, name) for item in translations], dtype=float)
        for name in FLAGS:
            arrays[name] = np.array([getattr(item, name) for item in translations], dtype=bool)
        for name in TEXTS:
            arrays[name] = np.array([getattr(item, name) for item in translations], dtype=np.str_)
        arrays["unknown_elements"] = np.array([" ".join(item.unknown_elements) for item in translations], np.str_)
        structures = [item.structure for item in translations]
        arrays["n_atoms"] = np.array([len(structure) for structure in structures], dtype=np.int32)
        arrays["moves"] = stack_moves([
            to_moves(templates[number], structure.lattice.matrix, structure.frac_coords)
            for number, structure in zip(arrays["template"], structures, strict=True)
        ])  # fmt: skip
        return cls(
            n_candidates=len(rows),
            templates=packed.templates,
            rescale_volume=packed.rescale_volume,
            whole_systems=packed.whole_systems,
            columns=encode_columns(arrays),
        )

    def with_properties(self, values: Mapping[str, NDArray[np.floating]]) -> Self:
        """Return the same candidates with predicted properties: by name, a number for each candidate."""
        if not values:
            return self
        arrays = self.arrays() | {f"{PREDICTED}{name}": column for name, column in values.items()}
        return self.model_copy(update={"columns": encode_columns(arrays)})

    def take(self, indices: NDArray[np.integer] | Sequence[int]) -> Self:
        """Return some of the candidates, in the order of `indices`, without templates that they do not need."""
        indices = np.asarray(indices, dtype=int)
        arrays = self.arrays()
        moves = _each(arrays.pop("moves"), arrays["n_atoms"])
        taken = {name: column[indices] for name, column in arrays.items()}
        taken["moves"] = stack_moves([moves[index] for index in indices])
        used, taken["template"] = np.unique(taken["template"], return_inverse=True)
        texts = list(self.template_texts().items())
        return type(self)(
            n_candidates=len(indices),
            templates=squeeze(json.dumps(dict(texts[number] for number in used))),
            rescale_volume=self.rescale_volume,
            whole_systems=self.whole_systems,
            columns=encode_columns(taken),
        )

    @classmethod
    def join(cls, parts: Sequence[TranslatedCandidates]) -> TranslatedCandidates:
        """Join the candidates of several documents, in order. Templates with equal identifiers are equal."""
        texts: dict[str, str] = {}
        joined: dict[str, list[NDArray[Any]]] = {}
        for part in parts:
            ours = part.template_texts()
            texts.update((name, text) for name, text in ours.items() if name not in texts)
            numbers = {name: number for number, name in enumerate(texts)}
            renumbered = np.array([numbers[name] for name in ours], dtype=np.int32)
            for name, column in part.arrays().items():
                joined.setdefault(name, []).append(renumbered[column] if name == "template" else column)
        return cls(
            n_candidates=sum(part.n_candidates for part in parts),
            templates=squeeze(json.dumps(texts)),
            rescale_volume=any(part.rescale_volume for part in parts),
            whole_systems=all(part.whole_systems for part in parts),
            columns=encode_columns({name: np.concatenate(columns) for name, columns in joined.items()}),
        )

    def rows(self) -> Iterator[TranslatedCandidate]:
        """Yield candidates with their translations one by one, in order."""
        templates = self._templates()
        columns = self.arrays()
        moves = _each(columns["moves"], columns["n_atoms"])
        for index, candidate in enumerate(self._make(columns, templates)):
            matrix, frac = from_moves(templates[columns["template"][index]].structure, moves[index])
            before = candidate.structure
            structure = Structure(matrix, before.species, frac, site_properties=before.site_properties)
            yield (
                candidate,
                Translation(
                    candidate_id=str(columns["candidate_id"][index]),
                    structure=structure,
                    unknown_elements=str(columns["unknown_elements"][index]).split(),
                    **{name: str(columns[name][index]) for name in TEXTS},
                    **{name: float(columns[name][index]) for name in NUMBERS},
                    **{
                        name: None if np.isnan(value := float(columns[name][index])) else value
                        for name in OPTIONAL_NUMBERS
                    },
                    **{name: bool(columns[name][index]) for name in FLAGS},
                ),
            )


class Shortlist(BaseModel):
    """Translated candidates that may be selected, and counts of all."""

    shortlist: TranslatedCandidates = Field(description="Candidates that no cut excludes so far")
    batch: TranslatedCandidates | None = Field(
        None, description="Candidates that the next round of active learning may relax; None without rounds"
    )
    stats: TranslationStats = Field(description="Statistics of all candidates, shortlisted or not")


class TranslatedChunk(Shortlist):
    """Chunk of candidates and their translations."""

    translated: TranslatedCandidates = Field(description="All candidates that were translated")
    rejections: list[Rejection] = Field(description="Candidates that could not be translated, and the reasons")
    packed: PackedCandidates | None = Field(
        None, description="Candidates to be translated again in rounds of active learning"
    )

    def rows(self) -> Iterator[TranslatedCandidate]:
        """Yield candidates with their translations, in the order of enumeration."""
        return self.translated.rows()


class Selection(BaseModel):
    """Candidates that a campaign relaxes."""

    n_selected: int = Field(description="Number of candidates selected")
    candidate_ids: list[str] = Field(
        description="The selected candidates, the most stable first, then candidates that only rounds of active "
        "learning chose"
    )
    stats: TranslationStats = Field(description="Statistics of all candidates of the campaign")
    remaining: TranslatedCandidates | None = Field(
        None, description="Selected candidates that are left to further flows; None if this one takes all"
    )
    prerelaxed: TranslatedCandidates | None = Field(
        None, description="`remaining` with the structures of the potential; None without this stage"
    )
    potential: PotentialStats | None = Field(None, description="What the potential did; None without this stage")
    elements: list[str] = Field(default_factory=list, description="Elements that are relaxed with the candidates")
    references: list[ElementReference] = Field(
        default_factory=list, description="Relaxed elements; empty before relaxations have ended"
    )
    comparisons: list[Digests] = Field(
        default_factory=list, description="Relaxed candidates; empty before relaxations have ended"
    )
