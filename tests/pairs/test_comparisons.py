import numpy as np
import pytest
from pymatgen.core import Composition

from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison, RelaxationCost
from cryslator_flows.pairs.align import align
from cryslator_flows.pairs.raw import Dropped
from cryslator_flows.pairs.sources.comparisons import comparison_pairs, template_formula

ENERGIES = {"Ca": -2.0, "Ti": -8.0, "O": -5.0}


def relaxation(start, structure, energy, converged=True, synthetic=False):
    cost = RelaxationCost(engine="VASP", converged=converged, synthetic=synthetic)
    return Relaxation(start=start, job_uuids=[], structure=structure, energy_per_atom=energy, cost=cost)


def comparison(unrelaxed, *relaxations, substitution=None):
    return RelaxationComparison(
        candidate_id="abc",
        template_id="PbZrO3.cif",
        substitution=substitution or {"Pb": "Ca", "Zr": "Ti", "O": "O"},
        reduced_formula="CaTiO3",
        formation_energy_per_atom=-3.0,
        unrelaxed_structure=unrelaxed,
        relaxations=relaxations,
        endings=[],
    )


def scaled(structure, factor):
    copy = structure.copy()
    copy.scale_lattice(structure.volume * factor)
    return copy


@pytest.fixture
def ends(perovskite):
    """Relaxed structures, the last of which is no relative of the unrelaxed one."""
    far = scaled(perovskite, 2)
    return scaled(perovskite, 0.95), scaled(perovskite, 0.9), far


def test_the_lowest_end_that_can_be_aligned_makes_the_pair(perovskite, ends):
    relaxations = [
        relaxation("unrelaxed", ends[0], -8.0),
        relaxation("translated", ends[1], -8.1),
        relaxation("mlip", ends[2], -9.0),
    ]
    (pair,) = comparison_pairs([comparison(perovskite, *relaxations)], ENERGIES)
    assert (pair.name, pair.target) == ("abc", "abc")
    assert pair.relaxed == ends[1]
    assert pair.columns["formation_energy_per_atom"] == pytest.approx(-8.1 - (-2 - 8 - 3 * 5) / 5)
    del pair.columns["formation_energy_per_atom"]
    assert pair.columns == {
        "energy_per_atom": -8.1,
        "template": "PbZrO3.cif",
        "template_formula": "ZrPbO3",
        "substitution": {"Pb": "Ca", "Zr": "Ti", "O": "O"},
    }
    assert align(pair).structure("relaxed").volume == pytest.approx(perovskite.volume * 0.9)


def test_without_the_energy_of_an_element_there_is_no_formation_energy(perovskite, ends):
    made = comparison(perovskite, relaxation("unrelaxed", ends[0], -8.0))
    (pair,) = comparison_pairs([made], {"Ca": -2.0, "Ti": -8.0})
    assert "formation_energy_per_atom" not in pair.columns
    assert pair.columns["energy_per_atom"] == -8.0


@pytest.mark.parametrize(
    ("relaxations", "reason"),
    [
        ([{"converged": False}], "not converged"),
        ([{"synthetic": True}], "made by a test double of the engine"),
        ([{"energy": np.nan}], "relaxation failed"),
        ([{"energy": None}], "relaxation failed"),
        ([{"structure": None}, {"converged": False}], "not converged"),
        ([], "relaxation failed"),
    ],
)
def test_what_makes_no_pair(perovskite, relaxations, reason):
    starts = ["unrelaxed", "translated"]
    made = [
        relaxation(start, **{"structure": perovskite, "energy": -8.0} | row)
        for start, row in zip(starts, relaxations, strict=False)
    ]
    assert [*comparison_pairs([comparison(perovskite, *made)], {})] == [Dropped("abc", reason)]


def test_a_digest_and_an_end_too_far_away_make_no_pair(perovskite, ends):
    whole = comparison(perovskite, relaxation("unrelaxed", ends[2], -8.0))
    rows = [*comparison_pairs([whole, whole.digest()], {})]
    assert rows == [Dropped("abc", "ln of the volume ratio over 0.6"), Dropped("abc", "no unrelaxed structure")]


def test_formula_of_the_template():
    composition = Composition("Ca2Ti2O6")
    assert template_formula(composition, {"Pb": "Ca", "Zr": "Ti", "S": "O"}) == Composition("PbZrS3").reduced_formula
    assert template_formula(composition, {"Pb": "Ca", "Ba": "Ca", "Zr": "Ti", "O": "O"}) is None
    assert template_formula(composition, {"Pb": "Ca"}) is None
