"""Job that translates a chunk of candidates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from jobflow import Maker, job

from cryslator_flows.crystals.packing import PackedCandidates, TranslatedCandidates, TranslatedChunk
from cryslator_flows.documents.candidates import Candidate, Rejection, TranslationStats
from cryslator_flows.documents.rounds import TunedModel
from cryslator_flows.screening.acquisition import Acquisition, RandomSample
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.translator.default_model import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pymatgen.core import Structure


@dataclass
class TranslateChunkMaker(Maker):
    """Translate candidates into near-relaxed structures with predicted formation energies.

    Other models predict the properties that the cuts use. Candidates and translations go to the additional store
    ``data``, packed; the document keeps the counts.

    Parameters
    ----------
    name : str
        The job name.
    model_name : str
        Name or folder of the model; the network is loaded where the job runs.

    Examples
    --------
    >>> TranslateChunkMaker(model_name="cryslator-2023").name
    'translate'
    """

    name: str = "translate"
    model_name: str = DEFAULT_MODEL

    @job(data=["translated", "shortlist", "batch", "packed"], output_schema=TranslatedChunk)
    def make(
        self,
        packed: PackedCandidates,
        cuts: Cuts,
        acquisition: Acquisition | RandomSample | None = None,
        model: TunedModel | None = None,
    ) -> TranslatedChunk:
        """Translate a chunk.

        Parameters
        ----------
        packed : PackedCandidates
            Candidates to translate.
        cuts : Cuts
            Cuts of the selection, for the shortlist.
        acquisition : Acquisition, RandomSample or None
            Choice of the next round of active learning or of an adaptation; None without them.
        model : TunedModel or None
            Model that translates instead of `model_name`; it is written to the job's folder.

        Returns
        -------
        TranslatedChunk
            Candidates and translations; a candidate that could not be translated is listed with the reason.

        Raises
        ------
        ModelError
            The model does not exist or is damaged.
        """
        from cryslator_flows.errors import StructureError
        from cryslator_flows.training.travel import unpack_model
        from cryslator_flows.translator.model_folder import find_model
        from cryslator_flows.translator.translator import kept_translator

        began = perf_counter()
        folder = find_model(self.model_name) if model is None else unpack_model(model, Path.cwd())
        translator = kept_translator(folder, folder.version())
        waiting: list[Candidate] = []

        def structures() -> Iterator[Structure]:
            for candidate in packed.candidates():
                waiting.append(candidate)
                yield candidate.structure

        kept, rows, rejections = [], [], []
        for position, result in enumerate(translator.translate_stream(structures())):
            candidate = waiting[position]
            if isinstance(result, StructureError):
                rejections.append(Rejection(candidate_id=candidate.candidate_id, reason=str(result)))
            else:
                kept.append(position)
                translation = result.model_copy(update={"candidate_id": candidate.candidate_id})
                rows.append((candidate.reduced_formula, translation))
        translated = TranslatedCandidates.add(packed, kept, rows)
        seconds = (perf_counter() - began) / packed.n_candidates
        unrelaxed = [waiting[position].structure for position in kept]
        translated = translated.with_properties(_predict(cuts, unrelaxed))
        reasons = Counter(translation.domain_reason for _, translation in rows if translation.out_of_domain)
        left_out: Counter[str] = Counter()
        return TranslatedChunk(
            translated=translated,
            shortlist=cuts.shortlist(translated, left_out),
            batch=None if acquisition is None else acquisition.choose(translated),
            rejections=rejections,
            packed=None if acquisition is None else packed,
            stats=TranslationStats(
                n_translated=len(rows),
                n_rejected=len(rejections),
                n_out_of_domain=reasons.total(),
                domain_reasons=dict(reasons),
                left_out=dict(left_out),
                seconds=seconds,
                models={translator.name: translator.version},
            ),
        )


def _predict(cuts: Cuts, unrelaxed: list[Structure]) -> dict[str, NDArray[np.floating]]:
    """Predict the properties that cuts use, by `PropertyWindow.title`; each a number for each unrelaxed structure."""
    from cryslator_flows.translator.property_predictor import PropertyPredictor

    predictors = {name: PropertyPredictor.from_pretrained(window.model) for name, window in cuts.properties.items()}
    return {
        cuts.properties[name].title(name): np.array([item.value for item in predictor.predict_many(unrelaxed)], float)
        for name, predictor in predictors.items()
    }
