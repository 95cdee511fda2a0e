"""Table and sentences on the adaptation of the translator to a campaign's candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cryslator_flows.system.console import new_table

if TYPE_CHECKING:
    from rich.table import Table

    from cryslator_flows.documents.adaptation import Adaptation, HeldOutScores


@dataclass(frozen=True)
class AdaptationText:
    """An adaptation as text for terminal, page and files.

    Parameters
    ----------
    title : str
        Title of the errors.
    rows : list
        Name of a model, before and after, and its errors.
    sentences : list of str
        Sample, cost and decision.
    """

    measures: ClassVar = (
        "energy MAE (eV/atom)", "in 90 % interval", "half width (eV/atom)", "volume error", "recall of tenth"
    )  # fmt: skip
    title: str
    rows: list[tuple[str, list[str]]]
    sentences: list[str]

    @classmethod
    def of(cls, adaptation: Adaptation) -> AdaptationText:
        """Describe an adaptation."""
        engine = adaptation.engine or "no potential"
        named = (("before", adaptation.before), ("after", adaptation.after))
        return cls(
            title=f"The translator on {adaptation.n_held_out} of these candidates, against {engine}",
            rows=[(name, _cells(scores)) for name, scores in named if scores is not None],
            sentences=_sentences(adaptation),
        )


def adaptation_table(adaptation: Adaptation) -> Table:
    """Make a table of the errors of the translator on the candidates held out, before and after."""
    text = AdaptationText.of(adaptation)
    table = new_table(text.title, "model", *(f">{name}" for name in text.measures))
    for name, cells in text.rows:
        table.add_row(name, *cells)
    table.caption = "\n".join(text.sentences)
    return table


def _cells(scores: HeldOutScores) -> list[str]:
    return [
        f"{scores.energy_error:.3f}",
        f"{scores.coverage:.0%}",
        f"{scores.half_width:.3f}",
        f"{scores.volume_error:.1%}",
        f"{scores.recall:.0%}",
    ]


def _sentences(adaptation: Adaptation) -> list[str]:
    clipped = f", all that there are of {adaptation.requested}" if adaptation.requested > adaptation.n_sampled else ""
    halves = f"{adaptation.n_train} fine-tuned the model, {adaptation.n_held_out} others tested it"
    sentences = [f"Sample: {adaptation.n_sampled} random candidates{clipped}. {halves}."]
    if adaptation.ionic_steps is not None and adaptation.seconds is not None:
        sentences.append(f"Cost: {adaptation.ionic_steps:.1f} ionic steps, {adaptation.seconds:.1f} s each.")
    sentences += [f"{number} left out: {reason}." for reason, number in adaptation.dropped.items()]
    if adaptation.n_shared_formulas:
        sentences.append(f"{adaptation.n_shared_formulas} of the others have a formula that the model was tuned on.")
    if adaptation.kept is None:
        sentences.append(f"All candidates are translated again by {adaptation.model_name}.")
    else:
        sentences.append(f"{adaptation.model_name} is kept: {adaptation.kept}.")
    return sentences
