import pytest

from cryslator_flows.analysis.ends import converged_ends, why_no_end
from cryslator_flows.analysis.formation_energies import relaxed_energies
from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison, RelaxationCost
from cryslator_flows.pairs.sources.comparisons import comparison_pairs
from cryslator_flows.results.export import write_relaxed


def relaxation(start, structure, energy, converged=True, synthetic=False):
    cost = RelaxationCost(engine="VASP", converged=converged, synthetic=synthetic)
    return Relaxation(start=start, job_uuids=[], structure=structure, energy_per_atom=energy, cost=cost)


@pytest.fixture
def comparison(perovskite):
    """Ends of one candidate by start; the volume tells which is which."""
    rows = {"unrelaxed": (-8.0, {}), "translated": (-8.2, {}), "mlip": (-8.3, {"converged": False}),
            "translated_mlip": (float("nan"), {})}  # fmt: skip
    relaxations = []
    for number, (start, (energy, options)) in enumerate(rows.items()):
        structure = perovskite.copy()
        structure.scale_lattice(50 + number)
        relaxations.append(relaxation(start, structure, energy, **options))
    return RelaxationComparison(
        candidate_id="a", template_id="t", substitution={"Pb": "Ca", "Zr": "Ti", "O": "O"}, reduced_formula="CaTiO3",
        formation_energy_per_atom=-3.0, unrelaxed_structure=perovskite, relaxations=relaxations, endings=[],
    )  # fmt: skip


def test_the_lowest_end_comes_first(comparison):
    assert [end.start for end in converged_ends(comparison.relaxations)] == ["translated", "unrelaxed"]
    assert converged_ends([]) == []


def test_reasons(perovskite):
    assert why_no_end(relaxation("mlip", perovskite, -1.0)) is None
    assert why_no_end(relaxation("mlip", perovskite, -1.0, converged=False)) == "not converged"
    unknown = relaxation("mlip", perovskite, -1.0, converged=None)
    assert why_no_end(unknown) == "nothing says whether it converged"
    assert why_no_end(relaxation("mlip", perovskite, None, converged=False)) == "relaxation failed"
    assert why_no_end(relaxation("mlip", perovskite, -1.0, synthetic=True)) == "made by a test double of the engine"
    assert why_no_end(Relaxation(start="mlip", job_uuids=[], energy_per_atom=-1.0)) == "relaxation failed"


def test_energies_files_and_pairs_take_the_same_end(comparison, tmp_path):
    assert relaxed_energies([comparison]) == {"a": -8.2}
    (pair,) = comparison_pairs([comparison], {})
    assert pair.relaxed.volume == pytest.approx(51)
    assert write_relaxed(tmp_path / "relaxed", [comparison]) == 1
    (file,) = (tmp_path / "relaxed").iterdir()
    assert type(pair.relaxed).from_file(file).volume == pytest.approx(51, rel=1e-5)


def test_ends_of_a_test_double_are_neither_written_nor_measured(comparison, tmp_path):
    for item in comparison.relaxations:
        item.cost.synthetic = True
    assert relaxed_energies([comparison]) == {}
    assert write_relaxed(tmp_path / "relaxed", [comparison]) == 0
