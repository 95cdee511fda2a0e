import matplotlib.image
import numpy as np
import pytest

from cryslator_flows.documents.properties import ElectronicProperties, PropertyComparison, PropertyErrors
from cryslator_flows.errors import DataError
from cryslator_flows.report.property_tables import (
    QUANTITIES,
    paired_errors,
    plot_properties,
    properties_markdown,
)


def errors(size, electrons=True):
    known = {"band_gap": -size, "efermi": 2 * size, "dos_distance": size / 10} if electrons else {}
    return PropertyErrors(
        volume=-size / 100, volume_per_atom=size / 10, lengths=(size, -size, 0), angles=(0, 0, 3 * size),
        fractional=size / 1000, cartesian=size / 100, **known,
    )  # fmt: skip


def comparison(starts, synthetic=False, missing=None):
    electronic = {"relaxed": ElectronicProperties(engine="GPAW", band_gap=1, efermi=1, synthetic=synthetic)}
    return PropertyComparison(
        candidate_id="0", reduced_formula="X", errors=starts, electronic=electronic, missing=missing or {}
    )


ROWS = [
    comparison({"unrelaxed": errors(4), "translated": errors(1)}),
    comparison({"unrelaxed": errors(2), "translated": errors(3)}),
    comparison({"unrelaxed": errors(6), "translated": errors(2, electrons=False)}, missing={"translated": "failed"}),
    comparison({"translated": errors(9)}),
    comparison({"unrelaxed": errors(1000), "translated": errors(1000)}, synthetic=True),
]


def quantity(name):
    return next(item for item in QUANTITIES if item.name == name)


def test_same_candidates_for_all_starts():
    assert paired_errors(ROWS, quantity("cell volume")) == {"unrelaxed": [4, 2, 6], "translated": [1, 3, 2]}
    assert paired_errors(ROWS, quantity("band gap")) == {"unrelaxed": [4, 2], "translated": [1, 3]}
    assert paired_errors(ROWS, quantity("lattice lengths"))["translated"] == pytest.approx([2 / 3, 2, 4 / 3])
    assert paired_errors([], quantity("band gap")) == {}


def test_table_by_hand():
    shown = properties_markdown(ROWS)
    for line in (
        "| cell volume [%] | 3 | 4.00 | 2.00 | 67% | 33% |",
        "| fractional coordinates | 3 | 0.0040 | 0.0020 | 67% | 33% |",
        "| band gap [eV] | 2 | 3.000 | 2.000 | 50% | 50% |",
        "| DOS distance [%] | 2 | 30.0 | 20.0 | 50% | 50% |",
    ):
        assert line in shown
    assert "test double calculated them: 1 candidates" in shown
    assert "compared for 1 candidates" in shown
    assert "GPAW" in shown


def test_equal_by_symmetry_is_neither_nearer_nor_farther():
    rounding = errors(0).model_copy(update={"fractional": 1e-17})
    line = properties_markdown([comparison({"unrelaxed": rounding, "translated": errors(0)})]).splitlines()[6]
    assert line == "| fractional coordinates | 1 | 0.0000 | 0.0000 | 0% | 0% |"


def test_third_start():
    rows = [comparison({"unrelaxed": errors(4), "translated": errors(1), "mlip": errors(2)})]
    assert "| cell volume [%] | 1 | 4.00 | 1.00 | 2.00 | 100% | 0% |" in properties_markdown(rows)


def test_nothing_synthetic_is_a_measurement(tmp_path):
    shown = properties_markdown(ROWS[-1:])
    assert "unrelaxed" not in shown.split("Engine")[0]
    assert "1000" not in shown
    for rows in ([], ROWS[-1:], [comparison({})]):
        with pytest.raises(DataError, match=f"none of {len(rows)} property comparisons is a measurement"):
            plot_properties(tmp_path / "properties.png", rows)
    assert not (tmp_path / "properties.png").exists()


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [comparison({"unrelaxed": errors(1, electrons=False)})]])
def test_picture(tmp_path, rows):
    image = matplotlib.image.imread(plot_properties(tmp_path / "properties.png", rows))
    assert image.shape[0] > 800
    assert image.shape[1] > 1200
    assert np.ptp(image) == 1
