import numpy as np
import pandas as pd
import pytest

from cryslator_flows.documents.candidates import EnumerationCounts
from cryslator_flows.documents.summary import Savings
from cryslator_flows.report.headline import headline, main_saving
from cryslator_flows.report.page.agreement import Agreement
from cryslator_flows.report.page.best_table import best_selected
from tests.report.test_tables import screened, summed


def saving(start="translated", quantity="ionic steps", share=0.25, interval=(0.1, 0.4)):
    return Savings(
        quantity=quantity, start=start, n_pairs=15, mean_unrelaxed=20, mean=20 * (1 - share), saving=share,
        interval=interval, share_slower=0.1,
    )  # fmt: skip


def summary(**changes):
    counts = EnumerationCounts(templates=1, enumerated=300, unique=250)
    return summed([]).model_copy(update={"counts": counts, "translated": 240, "selected": 16, **changes})


def relaxed(known, own, energy=0.0):
    columns = {"energy_above_known_hull": known, "energy_above_hull": own, "formation_energy_per_atom": energy}
    return pd.DataFrame(columns, dtype=float)


@pytest.mark.parametrize(
    ("frame", "words", "stable"),
    [
        (
            relaxed([-0.02, 0.0, 0.1], [0, 0, 0]),
            "2 of 3 relaxed candidates lie on or below the hull of known",
            "2 of 3",
        ),
        (relaxed([np.nan] * 2, [0.0, 0.3]), "1 of 2 relaxed candidates lies on or below the hull of the el", "1 of 2"),
        (relaxed([0.1, np.nan], [0.0, 0.0]), "0 of 1 relaxed candidate lie on or below the hull of known", "0 of 1"),
        (relaxed([np.nan], [np.nan]), "1 candidate is relaxed", None),
    ],
)
def test_stable_candidates_are_of_the_first_known_hull(frame, words, stable):
    found = headline(summary(), frame)
    assert found.sentence.startswith(words)
    assert [tile.value for tile in found.tiles] == [f"250 → {len(frame)}", *([stable] if stable else [])]


def test_candidates_without_competition_or_energy_are_counted_beside():
    assert "(1 more: nothing competes)" in headline(summary(), relaxed([0.1, np.nan], [0.0, 0.0])).sentence
    frame = relaxed([0.1, np.nan, np.nan], [0.0, 0.0, np.nan], [-1.0, -1.0, np.nan])
    assert "(1 more: nothing competes; 1 more: no formation energy)" in headline(summary(), frame).sentence


@pytest.mark.parametrize(
    ("share", "interval", "words"),
    [
        (0.25, (0.1, 0.4), "translated starts saved 25 % of ionic steps, 10 to 40 %."),
        (-0.1, (-0.3, 0.1), "translated starts took 10 % more ionic steps, -10 to 30 %."),
        (0.25, None, "translated starts saved 25 % of ionic steps in 15 pairs."),
    ],
)
def test_saving_is_told_with_its_interval(share, interval, words):
    found = headline(summary(savings=[saving(share=share, interval=interval)]), relaxed([0.0], [0.0]))
    assert found.sentence.endswith(words)
    assert found.tiles[2].value == f"{100 * share:.0f} %"
    assert found.tiles[3].value == f"{abs(round(15 * 20 * share))}"


def test_core_hours_saved_stand_in_place_of_steps_where_they_are_known():
    rows = [saving(quantity="electronic steps"), saving("mlip", "core-hours"), saving(quantity="core-hours", share=0.5)]
    tiles = headline(summary(savings=rows), relaxed([0.0], [0.0])).tiles
    assert tiles[2].value == "25 %"
    assert tiles[3] == ("150", "core-hours saved in 15 pairs")


def test_electronic_steps_of_translated_starts_come_first():
    rows = [saving("mlip"), saving("mlip", "electronic steps"), saving(), saving(quantity="electronic steps")]
    assert main_saving(summary(savings=rows)) == rows[3]
    assert main_saving(summary(savings=rows[:3])) == rows[1]
    assert main_saving(summary()) is None


def test_a_test_double_measures_nothing():
    found = headline(summed(screened(synthetic=True)), relaxed([], []))
    assert "nothing is measured" in found.sentence
    assert [tile.words for tile in found.tiles] == ["candidates → selected"]


def test_selected_candidates_count_before_relaxed_ones():
    chosen = pd.DataFrame({
        "formula": ["MgO", "CaO"], "template_id": ["a", "b"], "formation_energy_per_atom": [-3.0, -3.2],
        "formation_energy_uncertainty_90": [0.1, np.nan], "energy_above_known_hull": [0.02, -0.01],
        "space_group": ["Fm-3m", None], "volume_per_atom": [9.0, 14.0], "out_of_domain": [False, True],
    }, index=["1", "2"])  # fmt: skip
    found = headline(summary(), None, chosen)
    assert found.sentence == (
        "16 of 240 translated candidates are selected; lowest: CaO, -0.010 eV/atom from the hull of known compounds."
    )
    assert found.tiles[1] == ("1 of 2", "the first selected on or below the hull of known compounds")
    table = best_selected(chosen)
    assert [name for name, _ in table.rows] == ["2", "1"]
    assert "by the potential" not in table.columns
    assert table.rows[0][1][-1] == "outside"


@pytest.mark.parametrize(
    ("held", "number", "verdict"),
    [(10, 16, "too narrow"), (14, 16, "consistent"), (0, 1, "consistent"), (99, 100, "too wide")],
)
def test_intervals_are_judged_by_a_binomial_test(held, number, verdict):
    energies = {str(index): 0.0 for index in range(number)}
    found = Agreement(
        engine="CHGNet", energies=energies, uncertainties={}, mean_error=0.0, mean_absolute_error=0.0, fitted=False,
        held=held, left_out=0,
    )  # fmt: skip
    assert found.verdict == verdict
    assert f"{held} of {number} of the 90 % intervals" in found.judgement
