"""The content of a campaign's page, before a browser shows it."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from cryslator_flows.report.page.agreement import compare_energies
from cryslator_flows.report.page.figures import agreement, periodic_table, residuals, steps
from cryslator_flows.report.page.phases import all_hulls, draw_hulls
from cryslator_flows.report.page.provenance import describe_cuts, describe_model, describe_settings
from cryslator_flows.report.page.relaxed_table import table_columns, table_rows
from cryslator_flows.report.page.viewer import atom_styles, viewed
from cryslator_flows.report.page.whole_page import write_page
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.screening.hulls import Competition, energies_above_hull
from cryslator_flows.screening.known_phases import symbols_of
from cryslator_flows.translator.model_folder import find_model
from tests.report.test_page import chunk, content, read, with_structures
from tests.report.test_tables import POTENTIAL, adaptation, screened, summed


def test_phase_diagrams_have_the_hull_of_the_selection(template):
    """What the cuts exclude is on neither hull."""
    uncertain = {"formation_energy_uncertainty": np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])}
    formulas = np.array(["BaZrO3", "BaZrO3", "ZrO2", "CaO", "BaO", "Ba2ZrO4"])
    energies = np.array([-5.0, -3.5, -2.9, -4.0, -2.5, -2.6])
    part = chunk(6, template, formula=formulas, formation_energy_per_atom=energies, **uncertain)
    cuts = Cuts(max_uncertainty=0.2, max_energy_above_hull=0.0, known_phases=False, references={"ZrO2": -3.8})
    table = read([part], cuts=cuts)
    hulls = all_hulls(table, [], None, None)
    assert (hulls["systems"], hulls["engine"]) == (["Ba-O-Zr", "O-Zr", "Ba-O"], {})
    drawn = hulls["predicted"]["Ba-O-Zr"]
    stable = {*labels(drawn, "candidate, stable"), *labels(drawn, "known, stable")} - {""}
    above = energies_above_hull(formulas[[1, 2, 4, 5]], energies[[1, 2, 4, 5]], cuts.competition())
    assert stable == {"ZrO2", *formulas[[1, 2, 4, 5]][above == 0]}
    rows = {row[-1]: row[6] for row in table_rows(table, [], lambda _: None)}
    # ZrO2 alone competes: 3 of 5 atoms of BaZrO3 are in it, all of ZrO2, 3 of 7 of Ba2ZrO4.
    known = [-3.5 + 3.8 * 3 / 5, -2.9 + 3.8, -2.6 + 3.8 * 3 / 7]
    assert [rows[f"{index:05d}"] for index in (1, 2, 5)] == pytest.approx(known, abs=1e-5)
    assert rows["00004"] is None
    selected = cuts.select(part.translated).arrays()["formula"].tolist()
    assert {*selected} == {*formulas[[1, 2, 4, 5]][above == 0]}


def labels(figure, name):
    """Labels of a kind of phases, without their marks."""
    return [
        re.sub("<.*?>", "", text) for trace in figure["data"] if trace.get("name") == name for text in trace["text"]
    ]


@pytest.mark.parametrize(("formulas", "kind"), [
    (["MgO", "MgO2"], "scatter"), (["MgTiO3", "MgTiO2"], "scatterternary"), (["LaMgTiO5", "LaMgTiO6"], "scatter3d"),
])  # fmt: skip
def test_labels_of_unstable_candidates_have_their_distance(formulas, kind):
    stable, unstable = formulas
    (hull,) = -Competition({stable: -3.0}, known=False).energies_above([unstable], [0.0])
    (figure,) = draw_hulls([symbols_of(stable)], {stable: -3.0, unstable: hull + 0.1}, None).values()
    assert {trace["type"] for trace in figure["data"]} == {kind}
    assert labels(figure, "candidate, above hull") == [f"{unstable} +0.100"]
    assert labels(figure, "candidate, stable") == [stable]
    assert len(labels(figure, "known, stable")) == len(symbols_of(stable))


def test_engine_hull_is_that_of_the_table(template):
    """Candidates at 0 above the hull of the table are stable in the figure, others have its distance as label."""
    rows = [
        row.model_copy(update={"candidate_id": str(number), "reduced_formula": formula})
        for number, (row, formula) in enumerate(zip(screened(), ["TiO2", "Ti2O3", "TiO"], strict=False))
    ]
    for row, energy in zip(rows, [-10.0, -9.8, -9.9], strict=True):
        for item in row.relaxations:
            item.energy_per_atom = energy
    table = read([chunk(4, template)], rows)
    relaxed = relaxed_frame(rows, {"Ti": -8.0, "O": -7.0}, Competition({}, known=False))
    assert relaxed["energy_above_hull"].notna().all()
    hulls = all_hulls(table, rows, relaxed, None)
    assert hulls["systems"][0] == "O-Ti"
    assert "O-Ti" not in hulls["predicted"]
    above = relaxed.set_index("formula")["energy_above_hull"]
    figure = hulls["engine"]["O-Ti"]
    assert {*labels(figure, "candidate, stable")} == {*above.index[above == 0]}
    assert {*labels(figure, "candidate, above hull")} == {
        f"{formula} +{value:.3f}" for formula, value in above.items() if value > 0
    }


def test_every_start_has_a_symbol_of_its_own():
    rows = screened(("scaled", "translated", "mlip", "translated_mlip"))
    for figure in steps(summed(rows), rows).values():
        symbols = [trace["marker"]["symbol"] for trace in figure["data"] if trace["mode"] == "markers"]
        assert len({*symbols}) == len(symbols) == 4


def test_agreement_names_the_engine_and_counts_what_the_intervals_hold():
    rows = [
        row.model_copy(
            update={"candidate_id": str(number), "formation_energy_per_atom": -2.0, "reduced_formula": "TiO2"}
        )
        for number, row in enumerate(screened())
    ]
    for number, row in enumerate(rows):
        for item in row.relaxations:
            item.energy_per_atom = -10.0 + 0.1 * number
            if item.cost:
                item.cost.engine = "VASP"
    uncertainties = {row.candidate_id: (0.1, 0.25) for row in rows}
    # The energies of the elements make -2.0 of -10.0.
    found = compare_energies(rows, uncertainties, {"Ti": -12.0, "O": -6.0})
    assert found.energies == pytest.approx({str(number): -2.0 + 0.1 * number for number in range(10)})
    assert (found.fitted, found.held, found.engine_label) == (False, 3, "VASP (DFT)")
    assert found.verdict == "too narrow"
    (bars,) = residuals(found, rows)["data"]
    assert dict(zip(bars["x"], bars["y"], strict=True)) == pytest.approx({"Ti": -0.45, "O": -0.45})
    assert found.mean_error == pytest.approx(-found.mean_absolute_error) == pytest.approx(-0.45)
    layout = agreement(found, rows)["layout"]
    assert layout["yaxis"]["title"]["text"] == "VASP (DFT), eV/atom"
    for row in rows[:3]:
        for item in row.relaxations:
            item.cost.engine = "CHGNet"
    assert compare_energies(rows, uncertainties, {"Ti": -12.0, "O": -6.0}) is None
    synthetic = screened(synthetic=True)
    assert compare_energies(synthetic, {"0": (0.1, 0.2)}, {"X": -3.0}) is None


def test_atoms_are_on_all_faces_and_bonds_are_known(rutile):
    """Rutile: titanium at corners and in the middle; two oxygens inside, two on faces and so twice."""
    rows = with_structures(screened()[:1], rutile)
    structure = viewed(rows)["00000"]["structures"]["unrelaxed"]
    drawn = [structure["symbols"][index] for index, *_ in structure["images"]]
    assert [drawn.count(symbol) for symbol in ("Ti", "O")] == [9, 6]
    styles = atom_styles(structure["symbols"])
    assert {*styles["bonds"]} >= {"O-Ti"}
    assert styles["colors"]["O"] == "#ff0d0d"
    assert styles["radii"]["Ti"] > styles["radii"]["O"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_structures_of_a_candidate_are_drawn_without_drift_turn_and_jumps(seed):
    """A turn, a drift and other periodic images of atoms do not change what is drawn, and drift gives the file back."""
    random = np.random.default_rng(seed)
    first = Structure(np.diag([4.0, 5.0, 6.0]), ["Mn", "O", "O"], random.random((3, 3)))
    moves = random.normal(scale=0.02, size=(3, 3))
    moves -= moves.mean(axis=0)
    stretch = np.eye(3) + 0.05 * np.diag(random.random(3))
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    sites = first.frac_coords + moves + random.random(3) + random.integers(-2, 3, size=(3, 3))
    second = Structure(first.lattice.matrix @ stretch @ turn, first.species, sites)
    (row,) = with_structures(screened()[:1], first)
    drawn = viewed([row.model_copy(update={"translated_structure": second})])["00000"]
    before, after = drawn["structures"]["unrelaxed"], drawn["structures"]["translated"]
    assert np.subtract(after["sites"], before["sites"]) == pytest.approx(moves, abs=1e-5)
    assert np.array(after["cell"]) == pytest.approx(first.lattice.matrix @ stretch, abs=1e-5)
    assert after["images"] == before["images"]
    off = np.array(after["sites"]) + after["drift"] - second.frac_coords
    assert off == pytest.approx(np.round(off), abs=1e-5)
    assert drawn["path"] == ["unrelaxed", "translated", "relaxed, unrelaxed start"]


def test_a_structure_of_other_sites_is_drawn_beside_but_not_on_the_way(rutile, perovskite):
    rows = with_structures(screened()[:1], rutile)
    rows[0].relaxations[0].structure = perovskite
    drawn = viewed(rows)["00000"]
    assert [*drawn["structures"]] == ["unrelaxed", "translated", "relaxed, unrelaxed start"]
    assert drawn["path"] == ["unrelaxed", "translated"]


def test_settings_tell_neither_folders_nor_access_to_stores():
    store = {"type": "MongoStore", "host": "db.example.org", "password": "secret", "collection_name": "tasks"}
    text = describe_settings({
        "templates": [
            {"source": "store", "store": store, "criteria": {"a": 1}}, {"source": "files", "path": "/home/me/crystals"}
        ],
        "model": "/home/me/models/mine",
    })  # fmt: skip
    for word in ("secret", "example.org", "/home"):
        assert word not in text
    for word in ("MongoStore", "tasks", ".../crystals", "a: 1", ".../mine"):
        assert word in text


def test_cuts_in_words():
    assert describe_cuts(Cuts()) == ["translated atoms do not nearly coincide"]
    words = "; ".join(
        describe_cuts(
            Cuts(
                max_formation_energy=-1.0,
                max_energy_above_hull=0.1,
                max_uncertainty=0.2,
                in_domain_only=True,
                per_composition=1,
                top_k=5,
                references={"CaO": -3.3},
            )
        )
    )
    for part in (
        "model's domain",
        "0.2 eV/atom",
        "0.1 eV/atom above",
        "Materials Project and 1 reference",
        "-1.0 eV",
        "most 1 of each",
        "most 5 in all",
    ):
        assert part in words


def test_model_is_described_by_its_own_test_if_it_is_the_one_that_translated():
    summary = summed([])
    assert describe_model(summary, "cryslator-universal") == {}
    summary.versions["cryslator-universal"] = find_model("cryslator-universal").version()
    words = describe_model(summary, "cryslator-universal")
    assert words["formation energy MAE"] == "0.031 eV/atom, 2244 crystals"
    assert describe_model(summary, "somewhere-else") == {}


@pytest.mark.parametrize(
    ("symbol", "row", "column"), [("H", 0, 0), ("Zr", 4, 3), ("La", 7, 2), ("Lu", 7, 16), ("U", 8, 5)]
)
def test_elements_stand_where_they_do_in_the_periodic_table(symbol, row, column):
    (heat,) = periodic_table({symbol: (-2.0, -1.5)})["data"]
    assert [(i, j) for i, line in enumerate(heat["z"]) for j, value in enumerate(line) if value is not None] == [
        (row, column)
    ]
    assert heat["hovertext"][row][column] == f"{symbol}: lowest -2.000, mean -1.500 eV/atom"


def test_page_of_a_campaign_that_relaxes_nothing(template, tmp_path):
    """It ends with a potential: its table is linked, and no section is about relaxations."""
    made = content([], [chunk(4, template)])
    assert "potential" not in write_page(tmp_path / "r.html", made).read_text().split("<script")[0]
    (tmp_path / "potential.csv").touch()
    made.summary = made.summary.model_copy(update={"potential": POTENTIAL})
    page = write_page(tmp_path / "r.html", made).read_text()
    assert '<a href="potential.csv">' in page
    assert "<li>Fitted formation energy:" in page
    for title in ("Steps and savings", "Made slower", "Relaxed candidates"):
        assert title not in page


def test_predicted_properties_are_columns_of_the_table(template, tmp_path):
    part = chunk(3, template, **{"predicted band_gap": np.array([0.5, np.nan, 2.0])})
    made = content([], [part])
    rows = table_rows(made.candidates, [], lambda _: None)
    titles = [column.title for column in table_columns([], made.candidates.properties)]
    place = titles.index("predicted band_gap")
    assert [row[place] for row in rows] == [0.5, None, 2.0]
    assert {len(row) for row in rows} == {len(titles)}
    assert '"predicted band_gap"' in write_page(tmp_path / "r.html", made).read_text()


def test_page_tells_the_adaptation(template, tmp_path):
    made = content([], [chunk(4, template)])
    assert "The translator on" not in write_page(tmp_path / "r.html", made).read_text()
    made.summary = made.summary.model_copy(update={"adaptation": adaptation()})
    page = write_page(tmp_path / "r.html", made).read_text()
    assert "<h2>The translator on these candidates</h2>" in page
    assert "<td>after<td>0.052<td>90%<td>0.130<td>2.1%<td>100%" in page
    assert "All candidates are translated again by mine-adapted." in page
