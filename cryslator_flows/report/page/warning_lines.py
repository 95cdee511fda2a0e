"""Warnings of the page: one line each, the heaviest first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cryslator_flows.documents.relaxations import JOB_FAILED
from cryslator_flows.system.console import main_reasons, several

if TYPE_CHECKING:
    from cryslator_flows.documents.relaxations import RelaxationComparison
    from cryslator_flows.documents.summary import CampaignSummary
    from cryslator_flows.report.page.agreement import Agreement


def warning_lines(
    summary: CampaignSummary,
    comparisons: list[RelaxationComparison],
    agreement: Agreement | None,
    failed: int,
    reasons: list[str],
) -> list[str]:
    """List what a reader must know before trusting the numbers, by weight.

    Parameters
    ----------
    summary : CampaignSummary
        The summary.
    comparisons : list of RelaxationComparison
        The relaxed candidates.
    agreement : Agreement or None
        Agreement of the predicted energies with the engine's.
    failed : int
        Number of failed jobs.
    reasons : list of str
        Reasons of the failures, each once.
    """
    lines = []
    if summary.synthetic:
        lines.append(f"{several(summary.synthetic, 'relaxation')} by a test double of the engine: not measurements.")
    if failed:
        lines.append(f"{several(failed, 'job')} failed: {'; '.join(reasons)}")
    relaxations = [item for comparison in comparisons for item in comparison.relaxations]
    errors = Counter(
        item.error for item in relaxations if item.structure is None and item.error not in (None, JOB_FAILED)
    )
    lines += [f"{several(number, 'relaxation')} without result: {error}" for error, number in errors.most_common()]
    for symbol, why in summary.elements_without_energy.items():
        lines.append(f"No formation energy with {symbol}: {why}.")
    if agreement is not None and agreement.verdict == "too narrow":
        lines.append(f"{agreement.judgement}.")
    ended = [item.cost for item in relaxations if item.structure is not None and item.cost is not None]
    unconverged = sum(cost.converged is False for cost in ended)
    if unconverged:
        lines.append(f"{several(unconverged, 'relaxation')} did not converge, without a part in any saving.")
    if summary.out_of_domain:
        why = f" ({main_reasons(summary.domain_reasons)})" if summary.domain_reasons else ""
        lines.append(
            f"{summary.out_of_domain} of {summary.translated} translated candidates are unlike the model's training "
            f"data{why}: check their uncertainties before you trust their energies and structures."
        )
    return lines
