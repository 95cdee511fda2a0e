"""Relaxed candidates by the energies of their engine: formation energy, hull, space group, volume; and entries."""

import io
import json

import numpy as np
import pytest
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Lattice, Structure
from rich.console import Console

from cryslator_flows.analysis.computed_entries import computed_entries
from cryslator_flows.documents.references import ElementReference, FetchedPhases
from cryslator_flows.documents.relaxations import Relaxation, RelaxationCost
from cryslator_flows.jobs.compare import read_relaxation
from cryslator_flows.report.relaxed_results import describe_energies, relaxed_cells, relaxed_table
from cryslator_flows.report.tables import full_report
from cryslator_flows.results.export import write_relaxed_table
from cryslator_flows.results.relaxed_frame import RELAXED_COLUMNS, relaxed_frame
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.screening.known_phases import known_phases
from tests.analysis.test_formation_energies import ELEMENTS, relaxed, shares
from tests.report.test_tables import POTENTIAL, summed

FORMED = {"CaTiO3": -3.4, "CaO": -3.2, "TiO2": -3.3, "Ca2TiO4": -3.2, "SrS": -2.0}
ALL = {**ELEMENTS, "S": -4.0}
KNOWN = Competition({})


def total(formula):
    return FORMED[formula] + sum(ALL[symbol] * share for symbol, share in shares(formula).items())


@pytest.fixture
def comparisons():
    rows = relaxed([*FORMED], [-3.0] * len(FORMED), [total(formula) for formula in FORMED])
    for row in rows:
        for item in row.relaxations:
            item.cost.engine = "VASP"
    return rows


def rock_salt(first, second, a=4.8):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5] * 3])


def test_formation_energies_and_hull_by_the_engine_alone(comparisons):
    """0.8 CaO + 0.2 TiO2 and so on, by hand; known compounds do not mix in."""
    frame = relaxed_frame(comparisons, ALL, KNOWN).set_index("formula")
    assert frame["formation_energy_per_atom"].to_dict() == pytest.approx(FORMED)
    # 2 CaO + TiO2 has 7 atoms, CaO + CaTiO3 too, and the second is lower.
    decomposed = (2 * FORMED["CaO"] + 5 * FORMED["CaTiO3"]) / 7
    assert frame.loc["Ca2TiO4", "energy_above_hull"] == pytest.approx(FORMED["Ca2TiO4"] - decomposed)
    assert frame.loc["CaTiO3", "energy_above_hull"] == pytest.approx(0.0)
    assert frame.loc["Ca2TiO4", "competitors"] == 3
    # Alone in its system: unknown, never 0.
    assert np.isnan(frame.loc["SrS", "energy_above_hull"])
    assert np.isnan(frame.loc["CaO", "energy_above_hull"])
    assert frame["energy_above_known_hull"].isna().all()


def test_known_compounds_compete_on_their_scale_alone(comparisons):
    for row in comparisons:
        for item in row.relaxations:
            item.cost.engine = "CHGNet"
    frame = relaxed_frame(comparisons, ALL, KNOWN).set_index("formula")
    hull = known_phases([frozenset({"Ca", "O"})])["CaO"]
    assert frame.loc["CaO", "energy_above_known_hull"] == pytest.approx(FORMED["CaO"] - hull)
    assert frame["energy_above_known_hull"].is_monotonic_increasing


def test_lowest_end_with_its_structure_and_steps(comparisons, tmp_path):
    row = comparisons[1]
    row.relaxations[0].structure = rock_salt("Ca", "O")
    row.relaxations[0].cost.ionic_steps = 7
    frame = relaxed_frame(comparisons[1:2], ALL, KNOWN)
    assert [*frame.columns] == RELAXED_COLUMNS
    assert frame.iloc[0][["space_group", "n_atoms", "start", "ionic_steps", "electronic_steps"]].tolist() == [
        "Fm-3m", 8, "unrelaxed", 7, 30,
    ]  # fmt: skip
    assert frame.iloc[0]["volume_per_atom"] == pytest.approx(4.8**3 / 8)
    write_relaxed_table(tmp_path / "relaxed.csv", frame)
    lines = (tmp_path / "relaxed.csv").read_text().splitlines()
    assert lines[0].startswith("formula,template_id,formation_energy_per_atom,energy_above_hull,")
    assert lines[1].startswith("CaO,t,-3.2")


def test_unconverged_candidates_and_unknown_elements(comparisons):
    comparisons[0].relaxations[0].cost.converged = False
    comparisons[0].relaxations[1].cost.converged = False
    known = {symbol: energy for symbol, energy in ALL.items() if symbol != "Sr"}
    frame = relaxed_frame(comparisons, known, KNOWN).set_index("formula")
    assert "CaTiO3" not in frame.index
    assert np.isnan(frame.loc["SrS", "formation_energy_per_atom"])
    assert frame.loc["CaO", "formation_energy_per_atom"] == pytest.approx(FORMED["CaO"])
    assert relaxed_frame([], ALL, KNOWN).empty
    assert relaxed_frame(comparisons, {}, KNOWN)["formation_energy_per_atom"].isna().all()


def test_the_terminal_says_what_competes(comparisons):
    frame = relaxed_frame(comparisons, ALL, KNOWN)
    summary = summed(comparisons)
    console = Console(width=80, file=io.StringIO())
    table = relaxed_table(frame, describe_energies(summary, comparisons, frame))
    console.print(full_report(summary, comparisons, table))
    text = console.file.getvalue()
    words = " ".join(text.split())
    assert "Known compounds do not compete: VASP has none of their energies' corrections." in words
    assert "no other relaxed candidate competes" in words
    assert ["CaO", "t", "-3.200", "-", "-", "-", "2/30"] in relaxed_cells(frame)
    assert text.index("Relaxed candidates") < text.index("Selected: predicted")


def test_reasons_in_words(comparisons):
    without = relaxed_frame(comparisons, {}, KNOWN)
    assert "give relaxation.element_energies" in describe_energies(summed(comparisons), comparisons, without)[0]
    summary = summed(comparisons).model_copy(update={"elements_without_energy": {"Sr": "not converged"}})
    frame = relaxed_frame(comparisons, ELEMENTS | {"S": -4.0}, KNOWN)
    summary = summary.model_copy(update={"potential": POTENTIAL})
    fitted = "Fitted formation energy (potential.csv and selection): by CHGNet, from energies of the elements that fit"
    assert any(line.startswith(fitted) for line in describe_energies(summary, comparisons, frame))
    assert describe_energies(summary, comparisons, frame)[0] == "No formation energy with Sr: not converged."
    comparisons[0].relaxations[0].cost.engine = "CHGNet"
    mixed = relaxed_frame(comparisons, ALL, KNOWN)
    assert mixed["formation_energy_per_atom"].isna().all()
    assert "cannot be compared" in describe_energies(summary, comparisons, mixed)[0]


def vasp(structure, energy, **parameters):
    """A relaxation as it is read from a task document of atomate2."""
    spec = [{"titel": f"PAW_PBE {name}", "hash": "x", "summary_stats": {}} for name in parameters.pop("potcars")]
    document = {
        "structure": structure,
        "output": {"energy": energy},
        "entry": {"parameters": {"potcar_spec": spec, "is_hubbard": False, "hubbards": {}, **parameters}},
    }
    found = read_relaxation("unrelaxed", [document], ["u"])
    return found.model_copy(update={"cost": RelaxationCost(engine="VASP", converged=True), "error": None})


def test_corrections_of_the_materials_project():
    """-0.687 eV for each oxygen of an oxide, and none without its U or with another functional."""
    cao = rock_salt("Ca", "O")
    gga = vasp(cao, -50.0, run_type="GGA", potcars=["Ca_sv 06Sep2000", "O 08Apr2002"])
    assert gga.correction_per_atom == pytest.approx(-0.687 / 2)
    assert gga.energy_per_atom == -50.0 / 8
    assert "summary_stats" not in gga.entry_parameters["potcar_spec"][0]
    assert vasp(cao, -50.0, run_type="r2SCAN", potcars=["Ca_sv", "O"]).correction_per_atom is None
    assert vasp(cao, -50.0, run_type="GGA", potcars=["Ca_pv", "O"]).correction_per_atom is None
    without_u = vasp(rock_salt("Mn", "O"), -60.0, run_type="GGA", potcars=["Mn_pv", "O"])
    assert without_u.correction_per_atom is None
    with_u = vasp(
        rock_salt("Mn", "O"), -60.0, run_type="GGA+U", hubbards={"Mn": 3.9, "O": 0}, potcars=["Mn_pv", "O"]
    )  # fmt: skip
    assert with_u.correction_per_atom == pytest.approx((-0.687 - 1.668) / 2)


def test_corrections_for_all_candidates_or_for_none(comparisons):
    for number, row in enumerate(comparisons):
        row.relaxations[0].correction_per_atom = -0.1 * number
    corrected = relaxed_frame(comparisons, ALL, KNOWN).set_index("formula")["formation_energy_per_atom"]
    assert corrected.to_dict() == pytest.approx({name: FORMED[name] - 0.1 * i for i, name in enumerate(FORMED)})
    comparisons[-1].relaxations[0].correction_per_atom = None
    plain = relaxed_frame(comparisons, ALL, KNOWN).set_index("formula")["formation_energy_per_atom"]
    assert plain.to_dict() == pytest.approx(FORMED)


@pytest.mark.parametrize(
    ("run_type", "correction", "expected"),
    [("r2SCAN", None, 0.1), ("GGA", 0.0, 0.05), ("GGA+U", 0.0, 0.05), ("GGA", None, None), ("HSE06", None, None)],
)
def test_fetched_phases_compete_with_energies_of_their_functional(comparisons, run_type, correction, expected):
    """In place of the shipped table, which has no r2SCAN."""
    for row in comparisons:
        for item in row.relaxations:
            item.entry_parameters, item.correction_per_atom = {"run_type": run_type}, correction
    fetched = FetchedPhases(energies={"R2SCAN": {"CaO": -3.3}, "GGA_GGA+U": {"CaO": -3.25}})
    frame = relaxed_frame(comparisons, ALL, KNOWN, fetched)
    above = frame.set_index("formula").loc["CaO", "energy_above_known_hull"]
    words = " ".join(describe_energies(summed(comparisons), comparisons, frame, fetched))
    if expected is None:
        assert np.isnan(above)
        assert "Known compounds do not compete" in words
    else:
        assert above == pytest.approx(expected)
        assert "compounds of the same functional from the Materials Project" in words
    note = FetchedPhases(note="MP_API_KEY is not set")
    assert "MP_API_KEY is not set." in describe_energies(summed(comparisons), comparisons, frame, note)


def test_entries_make_a_phase_diagram(comparisons):
    """With the formation energies of the table; elements and candidates alike survive JSON."""
    elements = [
        ElementReference(
            symbol=symbol,
            relaxation=Relaxation(
                start="unrelaxed",
                job_uuids=["u"],
                structure=Structure(Lattice.cubic(3), [symbol], [[0, 0, 0]]),
                energy_per_atom=energy,
                cost=RelaxationCost(engine="VASP", converged=True),
            ),
        )
        for symbol, energy in ALL.items()
    ]
    oxide = comparisons[1:2]
    oxide[0].relaxations[0].structure = rock_salt("Ca", "O")
    entries = json.loads(json.dumps(computed_entries(oxide, elements), cls=MontyEncoder), cls=MontyDecoder)
    assert {entry.entry_id for entry in entries} == {
        "element Ca",
        "element O",
        "element Sr",
        "element Ti",
        "element S",
        "1",
    }
    diagram = PhaseDiagram([entry for entry in entries if set(entry.composition.chemical_system_set) <= {"Ca", "O"}])
    (entry,) = (entry for entry in diagram.stable_entries if entry.entry_id == "1")
    assert diagram.get_form_energy_per_atom(entry) == pytest.approx(FORMED["CaO"])
    assert entry.parameters["engine"] == "VASP"
    assert entry.data["template_id"] == "t"
