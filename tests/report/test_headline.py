"""The sentence and the figures of a campaign, the same on the page and in the terminal."""

import pandas as pd

from cryslator_flows.report.headline import headline
from tests.report.test_page import chunk, content
from tests.report.test_tables import screened, summed


def relaxed(**columns):
    empty = {"energy_above_known_hull": [None] * 3, "energy_above_hull": [None] * 3}
    return pd.DataFrame({**empty, **columns}, index=list("abc")).astype(float)


def test_stable_candidates_and_the_saving_of_electronic_steps_lead():
    found = headline(summed(screened()), relaxed(energy_above_known_hull=[-0.02, 0.0, 0.1]))
    assert found.sentence == (
        "2 of 3 relaxed candidates lie on or below the hull of known compounds; translated starts saved 32 % of "
        "electronic steps, 31 to 33 %."
    )
    assert [tile.value for tile in found.tiles] == ["12 → 3", "2 of 3", "32 %", "27,000"]


def test_own_hull_counts_where_no_known_compound_competes():
    sentence = headline(summed([]), relaxed(energy_above_hull=[0.0, 0.2, None])).sentence
    words = "1 of 2 relaxed candidates lie on or below the hull of the elements and the relaxed candidates"
    assert sentence == f"{words} (1 more: nothing competes)."
    assert headline(summed([]), relaxed()).sentence == "3 candidates are relaxed."


def test_test_doubles_give_no_figure_but_their_number():
    found = headline(summed(screened(synthetic=True)), None)
    assert "nothing is measured" in found.sentence
    assert [tile.words for tile in found.tiles] == ["candidates → selected"]


def test_selected_candidates_lead_where_nothing_is_relaxed(template):
    selected = pd.DataFrame({
        "formula": ["BaZrO3", "ZrO2"], "energy_above_known_hull": [0.1, -0.01],
        "formation_energy_per_atom": [-3.0, -3.5],
    })  # fmt: skip
    made = content([], [chunk(4, template)])
    found = headline(made.summary, None, selected)
    assert "lowest: ZrO2, -0.010 eV/atom from the hull of known compounds" in found.sentence
