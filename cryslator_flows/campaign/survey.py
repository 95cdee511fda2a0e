"""The candidates of a campaign, counted before it starts: by template and by reason of loss."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.documents.candidates import EnumerationCounts
from cryslator_flows.errors import CryslatorError, StructureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.crystals.packing import PackedCandidates
    from cryslator_flows.documents.candidates import Template

# Time that a start may spend on counting, in s.
PATIENCE = 3.0
# Counts of candidates that add up over templates.
COUNTED = ("enumerated", "not_charge_balanced", "filtered", "duplicates", "higher_ewald", "unique")


@dataclass
class Survey:
    """Counts of the candidates of a campaign.

    Parameters
    ----------
    counts : EnumerationCounts
        Counts of all templates.
    by_template : dict
        Each of `COUNTED` by the identifier of the template; templates of one name share it.
    elements : set of str
        Elements of the candidates.
    chunks : list of PackedCandidates
        The candidates as the translation jobs get them; empty after a quick look.
    is_complete : bool
        False if the time was too short to count all.
    """

    counts: EnumerationCounts = field(default_factory=EnumerationCounts)
    by_template: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    elements: set[str] = field(default_factory=set)
    chunks: list[PackedCandidates] = field(default_factory=list)
    is_complete: bool = True


def look_quickly(campaign: CampaignSettings, seconds: float = PATIENCE) -> Survey:
    """Count the candidates of a campaign, or the first of them.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign. Templates that cannot be read end the count; the enumeration reports them.
    seconds : float
        Time after which the count ends, in s.
    """
    survey = Survey()
    ends = monotonic() + seconds
    try:
        for row in _enumeration(campaign, survey, lambda _: None).rows():
            survey.elements.update(row.substitution.mapping.values())
            if monotonic() > ends:
                survey.is_complete = False
                break
    except (CryslatorError, OSError):
        survey.is_complete = False
    return survey


def look_at_all(campaign: CampaignSettings, report: Callable[[EnumerationCounts], None]) -> Survey:
    """Enumerate the candidates of a campaign as its first job does.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    report : callable
        Called with the counts so far after each template.

    Raises
    ------
    StructureError
        A source of templates does not exist.
    """
    survey = Survey()
    survey.chunks = list(_enumeration(campaign, survey, report).chunks(campaign.enumeration.chunk_size))
    for packed in survey.chunks:
        survey.elements.update(symbol for text in packed.arrays()["symbols"] for symbol in str(text).split()[1::2])
    return survey


def _enumeration(
    campaign: CampaignSettings, survey: Survey, report: Callable[[EnumerationCounts], None]
) -> Enumeration:
    """Return the enumeration of the campaign, which fills the counts of a survey."""
    enumeration = Enumeration(
        (),
        list(campaign.substitutions),
        charge_balanced=campaign.enumeration.charge_balanced,
        rescale_volume=campaign.enumeration.rescale_volume,
        filters=campaign.enumeration.filters,
        orderings=campaign.enumeration.orderings,
    )
    survey.counts = enumeration.counts

    def templates() -> Iterator[Template | StructureError]:
        for source in campaign.templates:
            for template in source.load():
                before = count(enumeration.counts)
                yield template
                if not isinstance(template, StructureError):
                    survey.by_template[template.template_id] += count(enumeration.counts) - before
                report(enumeration.counts)

    enumeration.templates = templates()
    return enumeration


def count(counts: EnumerationCounts) -> Counter[str]:
    """Return each of `COUNTED` of an enumeration."""
    return Counter({**{name: getattr(counts, name) for name in COUNTED}, "filtered": sum(counts.filtered.values())})
