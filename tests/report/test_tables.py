import io
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobflow import run_locally
from rich.console import Console

from cryslator_flows.analysis.same_minimum import compare_ends
from cryslator_flows.counting import count_steps
from cryslator_flows.documents.adaptation import Adaptation
from cryslator_flows.documents.candidates import EnumerationCounts, TranslationStats
from cryslator_flows.documents.potential import PotentialStats
from cryslator_flows.documents.relaxations import Relaxation, RelaxationComparison, RelaxationCost
from cryslator_flows.jobs.gather import add_stats
from cryslator_flows.jobs.summarize import summarize
from cryslator_flows.report.page.figures import funnel
from cryslator_flows.report.savings_tables import plot_savings, savings_markdown
from cryslator_flows.report.tables import full_report
from cryslator_flows.report.written import write_files
from cryslator_flows.results.export import cell, write_relaxed
from cryslator_flows.screening.hulls import Competition
from tests.analysis.test_savings import comparison, relaxation
from tests.flows.makers import PairPotentialRelaxMaker

OUTCOMES = ["same minimum"] * 6 + ["ended lower", "ended higher", "unconverged"]


POTENTIAL = PotentialStats(
    engine="CHGNet", n_relaxed=4, ionic_steps=9.0, seconds=1.0, element_energies={}, n_compounds=30,
    formation_energy_error=0.04, n_selected=2, n_unconverged=0, failed={}, difference=0.1,
)  # fmt: skip


def screened(starts=("translated", "mlip"), **cost):
    """Nine candidates with names and step counts as long as they get, one of them failed."""
    rows = []
    for number, outcome in enumerate(OUTCOMES):
        unrelaxed = relaxation("unrelaxed", 12_000 + 900 * number, ionic_steps=200 + number, **cost)
        others = {start: relaxation(start, 8_000 + 700 * number, ionic_steps=150 + number, **cost) for start in starts}
        row = comparison(unrelaxed, outcome, **others)
        if outcome == "unconverged":
            row.relaxation(starts[0]).cost.converged = False
        rows.append(row.model_copy(update={"template_id": "Sr2NiWO6:AFLOW-icsd-999", "reduced_formula": "Ba2SrMn3O12"}))
    failed = Relaxation(start=starts[0], job_uuids=["u"], error="x")
    rows.append(comparison(relaxation("unrelaxed", 30, **cost), "failed", **{starts[0]: failed}))
    return rows


def test_candidates_unlike_the_training_data_are_told():
    reasons = {"wide interval": 2, "Tc in 3 training halides": 1}
    parts = [
        TranslationStats(n_translated=8, n_out_of_domain=3, domain_reasons=reasons),
        TranslationStats(n_translated=4, n_out_of_domain=1, domain_reasons={"wide interval": 1}),
    ]
    words = "4 unlike the training data (wide interval: 3, Tc in 3 training halides: 1)"
    assert words in " ".join(printed(screened(), parts, width=160).split())


def chunk(n_translated, n_rejected, seconds):
    return TranslationStats(n_translated=n_translated, n_rejected=n_rejected, seconds=seconds, models={"m": "v"})


def summed(rows, chunks=()):
    counts = EnumerationCounts(templates=3, enumerated=20, unique=12)
    return summarize("test", counts, add_stats(list(chunks), Counter()), len(rows), rows)


def printed(rows, chunks=(), width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(full_report(summed(rows, chunks), rows))
    return console.file.getvalue()


def cells(text, *beginning):
    """The row of a table that begins with these words."""
    (row,) = [line.split() for line in text.splitlines() if line.split()[: len(beginning)] == [*beginning]]
    return row


def savings(text, start):
    """The rows of a start in the table of savings, in the order of the kinds of steps."""
    rows = [line.split() for line in text.split("Mean steps")[1].splitlines()]
    return [row[1:] for row in rows if row[:1] == [start]]


def test_ends_and_savings_of_each_start_fit_into_100_columns():
    text = printed(screened())
    assert max(map(len, text.splitlines())) <= 100
    # Template names alone are cut, to their column.
    assert not any("…" in line for line in text.splitlines() if "AFLOW" not in line)
    assert cells(text, "translated", "6", "1") == ["translated", *"611110"]
    assert cells(text, "mlip", "6", "1") == ["mlip", *"611100"]
    # Six pairs; 12,000 to 16,500 steps from the unrelaxed, 8,000 to 11,500 from the other start.
    for start in ("translated", "mlip"):
        electronic, weighted, ionic = savings(text, start)
        assert electronic[:5] == ["6", "14250", "->", "9750", "+32%"]
        assert electronic[-2:] == ["0.031", "0%"]
        assert "57000" in weighted
        assert ionic[:5] == ["6", "202.5", "->", "152.5", "+25%"]
    assert "200/12000" in text
    assert "158/13600+" in text
    assert "failed" in text


def test_three_real_starts(rutile, tmp_path):
    """Relaxed for real, the ends are judged and the steps stand in the tables as they were counted."""
    relaxations = []
    for start, strain in (("unrelaxed", 0.12), ("translated", 0.01), ("mlip", -0.06)):
        job = PairPotentialRelaxMaker().make(rutile.copy().apply_strain(strain))
        responses = run_locally(job, create_folders=True, root_dir=tmp_path, log=False, ensure_success=True)
        document = responses[job.uuid][1].output
        relaxations.append(
            Relaxation(
                start=start,
                job_uuids=[job.uuid],
                structure=document.structure,
                cost=count_steps(document),
                energy_per_atom=document.output.energy / len(rutile),
            )
        )
    row = RelaxationComparison(
        candidate_id="0", template_id="rutile", substitution={}, reduced_formula="TiO2", formation_energy_per_atom=-3.1,
        relaxations=relaxations, endings=compare_ends(relaxations, 0.005),
    )  # fmt: skip
    unrelaxed, translated, mlip = (str(item.cost.ionic_steps) for item in relaxations)
    assert [ending.outcome for ending in row.endings] == ["same minimum"] * 2
    text = printed([row])
    assert cells(text, "TiO2")[2:] == ["-3.100", unrelaxed, translated, "same", mlip, "same"]
    for start, steps in (("translated", translated), ("mlip", mlip)):
        ((_, *means),) = savings(text, start)
        assert means[:3] == [f"{unrelaxed}.00", "->", f"{steps}.00"]
    assert "needs 5 pairs" in text


FOUR = ("translated", "mlip", "translated_mlip")


def prerelaxed(**cost):
    """Campaign with all four starts, and what a potential spent for two of them."""
    rows = screened(FOUR, **cost)
    for number, row in enumerate(rows[:9]):
        for start, steps in (("mlip", 30), ("translated_mlip", 10)):
            spent = RelaxationCost(engine="MACE-MP-0", ionic_steps=steps + number, wall_time=2.0, converged=number > 0)
            row.relaxation(start).prerelaxation = spent
    return rows


@pytest.mark.parametrize("electronic", [True, False])
def test_four_starts_fit_into_80_columns(electronic):
    rows = prerelaxed() if electronic else prerelaxed(electronic_steps=None)
    text = printed(rows, width=80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    # The column of the templates alone is cut.
    cut = [line.split() for line in text.splitlines() if "…" in line]
    assert {(row[0], row[2]) for row in cut} - {("formula", "eV/atom")} == {("Ba2SrMn3O12", "0.000")}
    assert all("…" in row[1] and sum("…" in cell for cell in row) == 1 for row in cut)
    for start in FOUR:
        assert len(savings(text, start)) == (3 if electronic else 1)
        assert savings(text, start)[-1][:5] == ["6", "202.5", "->", "152.5", "+25%"]
    steps = "150/8000" if electronic else "150"
    (first,) = (line.split() for line in text.splitlines() if f" {steps} =" in line)
    assert first[-6:] == [steps, "="] * 3
    assert " <" in text
    assert " >" in text
    assert "158/13600+" in text or "158+" in text


def test_what_the_potential_took_is_told_and_saves_nothing():
    rows = prerelaxed()
    summary = summed(rows)
    assert [(item.start, item.engines, item.n_candidates, item.unconverged) for item in summary.prerelaxations] == [
        ("mlip", ["MACE-MP-0"], 9, 1),
        ("translated_mlip", ["MACE-MP-0"], 9, 1),
    ]
    assert [item.ionic_steps for item in summary.prerelaxations] == [34, 14]
    for row in rows:
        for item in row.relaxations:
            item.prerelaxation = None
    assert summed(rows).savings == summary.savings
    assert summed(rows).prerelaxations == []
    sentence = "Before mlip: MACE-MP-0 took 34.0 ionic steps, 2 s per candidate; 1 of 9 unfinished."
    assert sentence in printed(prerelaxed())
    assert sentence in savings_markdown(prerelaxed())
    assert "Before" not in printed(rows)


def test_unknown_costs_of_the_potential_are_no_number():
    rows = prerelaxed()
    rows[0].relaxation("mlip").prerelaxation.wall_time = None
    assert "Before mlip: MACE-MP-0 took 34.0 ionic steps, ? s per candidate" in printed(rows)


def test_one_start_and_force_field_steps():
    rows = screened(starts=("translated",), electronic_steps=None)
    text = printed(rows, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert not any("…" in line for line in text.splitlines() if "AFLOW" not in line)
    assert "mlip" not in text
    assert "No electronic (SCF) steps known" in text
    assert cells(text, "Ba2SrMn3O12", "Sr2NiWO6:AFLOW-…", "0.000", "208")[4:] == ["158+", "unfinished"]


def test_test_doubles_are_named_and_save_nothing(tmp_path):
    rows = screened(synthetic=True)
    summary = summed(rows)
    assert summary.savings == []
    assert summary.synthetic == sum(item.cost is not None for row in rows for item in row.relaxations) == 28
    text = printed(rows)
    assert "28 relaxations by a test double of the engine are left out" in text
    assert cells(text, "none")[:2] == ["none", "0"]
    assert "%" not in text.split("slower")[1].split("Saving:")[0]
    assert "12000" not in text
    assert "synthetic" in text
    assert not (tmp_path / "savings.png").exists()
    assert "savings.png" not in {path.name for path in write_files(tmp_path, summary, rows, [], Competition({}), None)}
    assert "%" not in savings_markdown(rows).split("made slower")[1]


@pytest.mark.parametrize("name", ["ABO3[cubic]", "[/structures]", ":smile:", "\x1b[2J\x07"])
def test_names_are_shown_as_they_are(name):
    rows = [screened()[0].model_copy(update={"template_id": name, "reduced_formula": name})]
    text = printed(rows)
    assert text.count(name.replace("\x1b", r"\x1b").replace("\x07", r"\x07")) == 2
    assert "\x1b" not in text


def test_names_of_documents_lead_out_of_no_folder(tmp_path, rutile):
    rows = screened()[:2]
    for row, formula in zip(rows, ("../../x/rel", str(tmp_path / "absolute")), strict=True):
        row.reduced_formula = formula
        row.relaxation("unrelaxed").structure = rutile
    assert write_relaxed(tmp_path / "in" / "relaxed", rows) == 2
    found = [path.relative_to(tmp_path).parts[:-1] for path in tmp_path.rglob("*") if path.is_file()]
    assert found == [("in", "relaxed")] * 2


def test_the_picture_takes_names_for_text(tmp_path):
    rows = screened()
    summary = summed(rows).model_copy(update={"engines": ["$x_$ \\frac"], "campaign": "$"})
    assert plot_savings(tmp_path / "savings.png", summary, rows).stat().st_size


@given(st.text(), st.floats())
def test_cells_of_a_table_are_no_formulas(text, number):
    shown = cell(text)
    assert shown in (text, f"'{text}")
    try:
        float(shown)
    except ValueError:
        assert shown[:1] not in tuple("=+-@\t\r")
    assert cell(number) is number
    assert cell(str(number)) == str(number)


def test_guard_is_counted():
    rows = screened()
    assert summed(rows).guarded == {}
    assert "guard" not in printed(rows)
    for row in rows[:2]:
        row.relaxation("translated").cost.guard = "forces above 5 eV/A"
    assert summed(rows).guarded == {"translated": 2}
    text = printed(rows)
    assert cells(text, "translated", "6", "1")[-1] == "2"
    assert cells(text, "mlip", "6", "1")[-1] == "0"
    assert "restarted from the unrelaxed structure" in text


@pytest.mark.parametrize(
    ("chunks", "seconds"),
    [
        ([chunk(8, 2, 0.1), chunk(30, 0, 0.02)], 0.04),
        ([chunk(8, 2, 0.1), chunk(30, 0, None)], 0.1),
        ([chunk(5, 0, None)], None),
        ([], None),
    ],
)
def test_cost_of_translation(chunks, seconds):
    rows = screened()
    assert summed(rows, chunks).translation_seconds == (seconds and pytest.approx(seconds))
    assert ("Translation:" in printed(rows, chunks)) == (seconds is not None)
    if seconds:
        assert f"Translation: {seconds} s per candidate" in printed(rows, chunks)


def test_each_filter_has_a_row_in_the_funnel():
    filtered = {"without Pb": 3, "SMACT": 0}
    counts = EnumerationCounts(templates=1, enumerated=20, not_charge_balanced=2, filtered=filtered, unique=14)
    summary = summed([]).model_copy(update={"counts": counts, "campaign": "test"})
    console = Console(width=100, file=io.StringIO())
    console.print(full_report(summary, []))
    text = console.file.getvalue()
    assert cells(text, "charge-balanced")[1] == "18"
    assert cells(text, "without", "Pb")[2:] == ["15", "3", "left", "out"]
    assert cells(text, "SMACT")[1:] == ["15", "0", "left", "out"]
    (data,) = funnel(summary)["data"]
    assert (data["y"][:4], data["x"][:4]) == (["enumerated", "without Pb", "SMACT", "unique"], [20, 15, 15, 14])


def test_without_relaxations_there_are_no_savings():
    text = printed([], [chunk(3, 0, 0.5)])
    assert "Funnel of test" in text
    for word in ("Saving", "Mean steps", "none"):
        assert word not in text


def test_markdown():
    """As `workflows/dft-savings` publishes it."""
    savings, ends, translation = savings_markdown(screened(), 0.034).strip().split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in savings.splitlines()]
    assert {len(row) for row in rows} == {10}
    assert [row[:2] for row in rows[2:]] == [
        [quantity, start]
        for quantity in ("electronic steps", "electronic steps x k-points", "ionic steps")
        for start in ("translated", "mlip")
    ]
    assert rows[2][2:7] == ["6", "14250", "9750", "0.684", "+31.6%"]
    assert rows[2][8:] == ["0.031", "0%"]
    low, high = (float(part.rstrip("%")) for part in rows[2][7].split(" to "))
    assert low <= 31.6 <= high
    assert translation == "Translation: 0.034 s per candidate."
    assert ends.splitlines()[2:] == ["| translated | 6 | 1 | 1 | 1 | 1 | 0 |", "| mlip | 6 | 1 | 1 | 1 | 0 | 0 |"]


def test_picture_has_a_panel_for_each_kind_of_step(tmp_path):
    from PIL import Image

    rows = screened()
    sizes = []
    for subset in (rows, screened(electronic_steps=None)):
        path = plot_savings(tmp_path / "savings.png", summed(subset), subset)
        sizes.append(Image.open(path).size)
    assert sizes[0][0] == 3 * sizes[1][0]


def test_unknown_ionic_steps_are_no_number():
    cost = RelaxationCost(engine="VASP", electronic_steps=None, converged=True)
    unknown = Relaxation(start="translated", job_uuids=["u"], cost=cost)
    row: RelaxationComparison = comparison(relaxation("unrelaxed", 30, ionic_steps=None), translated=unknown)
    text = printed([row])
    assert "?/30" in text
    assert "unknown" in text
    assert cells(text, "none")[:2] == ["none", "0"]


def adaptation(**changes):
    scores = {"energy_error": 0.121, "coverage": 0.4, "half_width": 0.09, "volume_error": 0.034, "recall": 1 / 3}
    better = {"energy_error": 0.052, "coverage": 0.9, "half_width": 0.13, "volume_error": 0.021, "recall": 1.0}
    numbers = {"requested": 60, "n_sampled": 60, "n_relaxed": 59, "n_train": 29, "n_held_out": 29}
    found = {
        "engine": "chgnet", "dropped": {"strain over 0.35": 2}, "ionic_steps": 11.04, "seconds": 0.91,
        "element_energies": {}, "n_compounds": 40, "formation_energy_error": 0.05, "n_shared_formulas": 3,
        "before": scores, "after": better, "model_name": "mine-adapted", "model_version": "abc", **numbers,
    }  # fmt: skip
    return Adaptation.model_validate(found | changes)


def adapted_report(found):
    console = Console(width=100, file=io.StringIO())
    console.print(full_report(summed([]).model_copy(update={"adaptation": found}), []))
    return " ".join(console.file.getvalue().split())


def test_adaptation_in_the_terminal():
    text = adapted_report(adaptation())
    for words in (
        "The translator on 29 of these candidates, against chgnet",
        "before 0.121 40% 0.090 3.4% 33%", "after 0.052 90% 0.130 2.1% 100%",
        "Sample: 60 random candidates. 29 fine-tuned the model, 29 others tested it.",
        "2 left out: strain over 0.35.", "3 of the others have a formula that the model was tuned on.",
        "All candidates are translated again by mine-adapted.",
    ):  # fmt: skip
        assert words in text
    kept = adaptation(requested=1000, kept="the adapted model has the larger energy error", model_name="own")
    text = adapted_report(kept)
    assert "Sample: 60 random candidates, all that there are of 1000." in text
    assert "own is kept: the adapted model has the larger energy error." in text
    assert "translated again" not in text
