"""Job that translates a chunk of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from jobflow import Maker, job

from cryslator_flows.defaults import DEFAULT_MODEL
from cryslator_flows.schemas import Candidate, Rejection, TranslatedChunk


@dataclass
class TranslateMaker(Maker):
    """Translate candidates into near-relaxed structures with predicted formation energies.

    The structures go to the additional store ``data``; the document keeps the counts.

    Parameters
    ----------
    name : str
        The job name.
    model_name : str
        Name or folder of the model; the network is loaded where the job runs.
    """

    name: str = "translate"
    model_name: str = DEFAULT_MODEL

    @job(data=["candidates", "translations"], output_schema=TranslatedChunk)
    def make(self, candidates: list[Candidate]) -> TranslatedChunk:
        """Translate a chunk.

        Parameters
        ----------
        candidates : list of Candidate
            What to translate.

        Returns
        -------
        TranslatedChunk
            Candidates and translations in the same order; what could not be translated is listed with its reason.

        Raises
        ------
        ModelError
            The model does not exist or is damaged.
        """
        from cryslator_flows.errors import StructureError
        from cryslator_flows.translator.translator import Translator

        began = perf_counter()
        translator = Translator.from_pretrained(self.model_name)
        translated, translations, rejections = [], [], []
        stream = translator.translate_stream(candidate.structure for candidate in candidates)
        for candidate, result in zip(candidates, stream, strict=True):
            if isinstance(result, StructureError):
                rejections.append(Rejection(candidate_id=candidate.candidate_id, reason=str(result)))
            else:
                translated.append(candidate)
                translations.append(result.model_copy(update={"candidate_id": candidate.candidate_id}))
        return TranslatedChunk(
            candidates=translated,
            translations=translations,
            rejections=rejections,
            n_translated=len(translations),
            seconds=(perf_counter() - began) / len(candidates) if candidates else None,
            model_name=translator.name,
            model_version=translator.version,
        )
