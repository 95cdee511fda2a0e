"""Documents of pairs that a flow grows from substituted templates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from cryslator_flows.documents.candidates import EnumerationCounts, Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable


class PairCounts(BaseModel):
    """Number of candidates that became pairs, and reasons for the others."""

    n_candidates: int = Field(0, description="Candidates to be relaxed")
    n_pairs: int = Field(0, description="Pairs made")
    n_intermediates: int = Field(0, description="Ionic steps kept as further unrelaxed crystals of the targets")
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Number of candidates without a pair for each reason, most frequent first"
    )
    engines: list[str] = Field(default_factory=list, description="Codes and interatomic potentials of the relaxations")

    @classmethod
    def add(cls, parts: Iterable[PairCounts]) -> PairCounts:
        """Return the sum of several counts."""
        parts = list(parts)
        reasons: Counter[str] = Counter()
        for part in parts:
            reasons.update(part.dropped)
        return cls(
            n_candidates=sum(part.n_candidates for part in parts),
            n_pairs=sum(part.n_pairs for part in parts),
            n_intermediates=sum(part.n_intermediates for part in parts),
            dropped=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            engines=sorted({engine for part in parts for engine in part.engines}),
        )


class PairsChunk(BaseModel):
    """Pairs of one chunk of candidates."""

    counts: PairCounts = Field(description="Counts of the chunk")
    rejections: list[Rejection] = Field(description="Candidates without a pair, and the reasons")
    pairs: list[dict[str, Any]] = Field(
        description="The pairs, with the fields of `PairRecord`, energy_per_atom (eV/atom), template, template_formula "
        "and substitution; after each pair its intermediates, with ionic_step"
    )


class GrownPairs(BaseModel):
    """Summary of a flow of pairs, without the pairs."""

    name: str = Field(description="Name of the flow")
    enumeration: EnumerationCounts = Field(description="Counts of the substitutions")
    counts: PairCounts = Field(description="Counts of the candidates")
