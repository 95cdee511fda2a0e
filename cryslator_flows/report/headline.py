"""The message of a campaign in one sentence and a few figures, for the page and the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cryslator_flows.documents.summary import QUANTITIES
from cryslator_flows.system.console import several

if TYPE_CHECKING:
    import pandas as pd

    from cryslator_flows.documents.summary import CampaignSummary, Savings

# Column with energies above a hull, and the hull in words; the first with values counts.
HULLS = {
    "energy_above_known_hull": "the hull of known compounds",
    "energy_above_hull": "the hull of the elements and the relaxed candidates",
}
# Noise of energies, in eV/atom.
ON_HULL = 1e-6


class Tile(NamedTuple):
    """A figure of the headline, and its words."""

    value: str
    words: str


@dataclass(frozen=True)
class Headline:
    """Message of a campaign.

    Parameters
    ----------
    sentence : str
        The message in one sentence.
    tiles : list of Tile
        Its figures. Relaxations by a test double of the engine give none.
    """

    sentence: str
    tiles: list[Tile]


def headline(summary: CampaignSummary, relaxed: pd.DataFrame | None, selected: pd.DataFrame | None = None) -> Headline:
    """Write the message of a campaign so far.

    Parameters
    ----------
    summary : CampaignSummary
        Its summary.
    relaxed : DataFrame or None
        Its relaxed candidates, see `relaxed_frame`; None without them.
    selected : DataFrame or None
        The first selected candidates, see `selected_frame`; they count only before there are relaxed ones.

    Returns
    -------
    Headline
        The sentence has the stable candidates and the main saving, as far as they are known.
    """
    if relaxed is not None and len(relaxed):
        number, tile = _stable(relaxed)
        funnel = Tile(f"{summary.counts.unique:,} → {len(relaxed):,}", "candidates → relaxed")
    elif summary.synthetic:
        words = f"A test double of the engine relaxed {several(summary.selected, 'candidate')}: nothing is measured."
        return Headline(words, [Tile(f"{summary.counts.unique:,} → {summary.selected:,}", "candidates → selected")])
    else:
        number, tile = _predicted(summary, selected)
        funnel = Tile(f"{summary.translated:,} → {summary.selected:,}", "translated → selected")
    parts, tiles = [number], [funnel, *([tile] if tile else [])]
    if saving := main_saving(summary):
        parts.append(describe_saving(saving))
        tiles += _saving_tiles(saving, summary)
    return Headline(f"{'; '.join(parts)}.", tiles)


def main_saving(summary: CampaignSummary) -> Savings | None:
    """Return the saving that the headline has: electronic steps before ionic ones, translated starts before others."""
    ranked = sorted(summary.savings, key=lambda item: (QUANTITIES.index(item.quantity), item.start != "translated"))
    return ranked[0] if ranked else None


def describe_saving(saving: Savings) -> str:
    """Describe a saving in words, with its interval.

    >>> from cryslator_flows.documents.summary import Savings
    >>> describe_saving(Savings(quantity="ionic steps", start="translated", n_pairs=15, mean_unrelaxed=20, mean=15,
    ...                         saving=0.25, interval=(0.1, 0.4), share_slower=0.1))
    'translated starts saved 25 % of ionic steps, 10 to 40 %'
    """
    verb, sign = ("saved", 1) if saving.saving >= 0 else ("took", -1)
    what = f"of {saving.quantity}" if sign > 0 else f"more {saving.quantity}"
    return f"{saving.start} starts {verb} {_percent(abs(saving.saving))} {what}{_interval(saving, sign)}"


def _interval(saving: Savings, sign: int = 1) -> str:
    if saving.interval is None:
        return f" in {several(saving.n_pairs, 'pair')}"
    low, high = sorted(sign * end for end in saving.interval)
    return f", {100 * low:.0f} to {_percent(high)}"


def _saving_tiles(saving: Savings, summary: CampaignSummary) -> list[Tile]:
    """Make the tiles of the share and of the amount saved: core-hours where they are known, else steps."""
    hours = (item for item in summary.savings if (item.quantity, item.start) == ("core-hours", saving.start))
    known = next(hours, saving)
    amount = known.n_pairs * (known.mean_unrelaxed - known.mean)
    word = "saved" if amount >= 0 else "more"
    return [
        Tile(_percent(saving.saving), f"of {saving.quantity} saved{_interval(saving).replace(',', '; 95 % interval')}"),
        Tile(
            f"{abs(amount):,.0f}" if abs(amount) >= 10 or known is saving else f"{abs(amount):.2g}",
            f"{known.quantity} {word} in {several(known.n_pairs, 'pair')}",
        ),
    ]


def _stable(frame: pd.DataFrame) -> tuple[str, Tile | None]:
    """Count the relaxed candidates on or below a hull; without energies above one, only count them."""
    for column, hull in HULLS.items():
        known = frame[column].dropna()
        if len(known):
            stable = int((known <= ON_HULL).sum())
            lacking = int(frame["formation_energy_per_atom"].isna().sum())
            reasons = {"nothing competes": len(frame) - len(known) - lacking, "no formation energy": lacking}
            beside = "; ".join(f"{count} more: {reason}" for reason, count in reasons.items() if count)
            number = several(len(known), "relaxed candidate")
            words = f"{stable} of {number} {'lies' if stable == 1 else 'lie'} on or below {hull}"
            return f"{words} ({beside})" if beside else words, Tile(f"{stable} of {len(known)}", f"on or below {hull}")
    return f"{several(len(frame), 'candidate')} {'is' if len(frame) == 1 else 'are'} relaxed", None


def _predicted(summary: CampaignSummary, selected: pd.DataFrame | None) -> tuple[str, Tile | None]:
    """Describe the selected candidates by their predictions."""
    words = f"{summary.selected:,} of {several(summary.translated, 'translated candidate')} are selected"
    if selected is None or not len(selected):
        return words, None
    above = selected["energy_above_known_hull"].dropna()
    if len(above):
        first = selected.loc[above.idxmin()]
        words += f"; lowest: {first['formula']}, {above.min():+.3f} eV/atom from the hull of known compounds"
        stable = int((above <= ON_HULL).sum())
        which = "the first selected" if summary.selected > len(selected) else "selected"
        return words, Tile(f"{stable} of {len(selected)}", f"{which} on or below the hull of known compounds")
    first = selected.loc[selected["formation_energy_per_atom"].idxmin()]
    energy = first["formation_energy_per_atom"]
    return f"{words}; lowest predicted formation energy: {first['formula']}, {energy:.3f} eV/atom", None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
