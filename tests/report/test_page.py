"""The page of a campaign, in a real browser."""

import base64
import csv
import json
import zlib

import numpy as np
import pytest
from selenium.webdriver.support.select import Select

from cryslator_flows.crystals.columns import CELL_MOVES, encode_columns
from cryslator_flows.crystals.packing import TranslatedCandidates, TranslatedChunk
from cryslator_flows.documents.candidates import TranslationStats
from cryslator_flows.report.page import candidate_table
from cryslator_flows.report.page.candidate_table import CandidateTable
from cryslator_flows.report.page.relaxed_table import table_columns
from cryslator_flows.report.page.whole_page import PageContent, write_page
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.screening.cuts import Cuts
from cryslator_flows.screening.hulls import Competition
from tests.report.test_tables import prerelaxed, screened, summed
from tests.support.waiting import wait_for


def chunk(number, template, **changed):
    columns = {
        "template": np.zeros(number, int),
        "symbols": np.array(["Ti Zr O O"] * number),
        "candidate_id": np.array([f"{index:05d}" for index in range(number)]),
        "formula": np.array(["ZrO2", "BaZrO3", "SrBaZrO4", "CaO", *["ZrO2", "BaZrO3"] * number])[:number],
        "formation_energy_per_atom": np.linspace(-3, 1, number),
        "formation_energy_uncertainty": np.full(number, 0.1),
        "formation_energy_uncertainty_90": np.full(number, 0.2),
        "domain_reason": np.array([""] * number),
        "mean_displacement": np.linspace(0, 1, number),
        "volume_change": np.full(number, 0.05),
        "out_of_domain": np.zeros(number, bool),
        "n_atoms": np.zeros(number, int),
        "moves": np.zeros(CELL_MOVES * number, dtype=np.int64),
        # A formula of its own system, so that its phase diagram would be seen.
        "atoms_too_close": np.arange(number) == 3,
        **changed,
    }
    templates = base64.b64encode(zlib.compress(json.dumps({"<b>rutile": template}).encode())).decode()
    packed = TranslatedCandidates(n_candidates=number, templates=templates, columns=encode_columns(columns))
    return TranslatedChunk(shortlist=packed, stats=TranslationStats(), translated=packed, rejections=[])


def read(chunks, comparisons=(), cuts=None):
    table = CandidateTable(cuts or Cuts(), {item.candidate_id for item in comparisons})
    assert len(list(table.read(chunks))) == len(chunks)
    return table


def content(comparisons, chunks=(), **others):
    return PageContent(summed(comparisons), comparisons, read(chunks, comparisons), **others)


def with_structures(comparisons, structure):
    """The same as other candidates, each with an identifier of its own."""
    relaxed = [
        comparison.model_copy(update={
            "candidate_id": f"{number:05d}", "reduced_formula": "ZrO2",
            "unrelaxed_structure": structure, "translated_structure": structure,
        })
        for number, comparison in enumerate(comparisons)
    ]  # fmt: skip
    relaxed[0].relaxations[0].structure = structure
    return relaxed


def test_relaxed_candidates_have_a_row_at_any_rank(rutile, template, monkeypatch):
    monkeypatch.setattr(candidate_table, "MOST_ROWS", 3)
    (relaxed,) = with_structures(screened()[:1], rutile)
    table = read([chunk(5, template)] * 2, [relaxed.model_copy(update={"candidate_id": "00004"})])
    # Both chunks have the same candidates.
    assert [row.candidate_id for row in table.rows] == ["00000", "00004", "00004"]


def load(browser, path):
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())
    wait_for(lambda: browser.execute_script("return document.documentElement.dataset.ready") == "yes", 60, 0.05)


def check_quiet(browser):
    """No error was reported, none of WebGL either, and nothing was asked of the network."""
    lines = browser.get_log("browser")
    assert [line for line in lines if line["level"] == "SEVERE" or "GL_INVALID" in line["message"]] == []
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    urls = [item["params"]["request"]["url"] for item in messages if item["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in urls)
    assert [url for url in urls if url.split(":")[0] not in ("file", "data", "blob")] == []


@pytest.mark.parametrize("kind", ["none", "synthetic", "running"])
def test_renders(browser, kind, tmp_path):
    rows = [] if kind == "none" else screened(synthetic=kind == "synthetic")
    load(browser, write_page(tmp_path / "r.html", content(rows, unfinished=3 if kind == "running" else 0)))
    check_quiet(browser)
    state = browser.find_element("css selector", ".state").text
    assert state == ("running: 3 jobs to go" if kind == "running" else "finished")


def show_all_columns(browser):
    """Switch on the columns that are hidden at first."""
    buttons = browser.find_elements("css selector", "#candidates_wrapper .dt-buttons button")
    next(button for button in buttons if button.text.startswith("Columns")).click()
    hidden = ".dt-button-collection button:not(.dt-button-active)"
    wait_for(lambda: browser.find_elements("css selector", hidden), 30, 0.05)
    for button in browser.find_elements("css selector", hidden):
        browser.execute_script("arguments[0].click()", button)
    browser.execute_script("document.querySelector('.dt-button-background').click()")


def cell(browser, row, column):
    return browser.execute_script(
        f"return document.querySelector('#candidates tbody tr:nth-child({row}) td:nth-child({column})').innerText"
    )


def test_large_table_sorts(browser, rutile, template, tmp_path):
    rows = with_structures(screened(), rutile)
    # As if it had run here, and its page were written beside it.
    (tmp_path / "jobs/u").mkdir(parents=True)
    rows[0].relaxations[0].cost.dir_name = f"host:{tmp_path}/jobs/u"
    made = content(rows, [chunk(10_000, template)], job_command="jf -p mine job info")
    load(browser, write_page(tmp_path / "r.html", made))
    titles = [column.title for column in table_columns(rows)]
    heads = "#candidates_wrapper .dt-scroll-head th"
    shown = [head.text.replace("\n", " ") for head in browser.find_elements("css selector", heads)]
    assert shown == [column.title for column in table_columns(rows) if column.shown]
    show_all_columns(browser)
    headers = browser.find_elements("css selector", heads)
    assert len(headers) == len(titles) == 19
    browser.execute_script("arguments[0].click()", headers[4])
    wait_for(lambda: cell(browser, 1, 5) == "1.000", 30, 0.05)
    assert [cell(browser, 1, column) for column in (2, 3, 4, 9)] == ["<b>rutile", "Ti->Zr", "P4_2/mnm", "1.000"]
    # Candidates that were not relaxed have no steps, and come last in either direction.
    steps = titles.index("steps, unrelaxed")
    for expected in ("30", "208/19200"):
        browser.execute_script("arguments[0].click()", headers[steps])
        wait_for(lambda expected=expected: cell(browser, 1, steps + 1).endswith(expected), 30, 0.05)
    job = browser.find_element("css selector", "#candidates [data-uuid]")
    assert job.get_attribute("title").startswith("jf -p mine job info u")
    link = [a.get_attribute("href") for a in browser.find_elements("css selector", "#candidates td a")]
    assert link == [(tmp_path / "jobs/u").as_uri()]
    systems = browser.find_elements("css selector", "#system option")
    assert [system.text for system in systems] == ["O-Zr", "Ba-O-Zr", "Ba-O-Sr-Zr"]
    for system in systems:
        system.click()
        assert browser.execute_script("return document.querySelectorAll('#hull .main-svg').length") > 0
    check_quiet(browser)


def test_phase_diagrams_switch_between_engine_and_prediction(browser, template, tmp_path):
    rows = [
        row.model_copy(update={"candidate_id": f"{n:05d}", "reduced_formula": "ZrO2"})
        for n, row in enumerate(screened())
    ]
    relaxed = relaxed_frame(rows, {"Zr": 0.0, "O": 0.0}, Competition({}))
    part = chunk(40, template, formation_energy_per_atom=np.linspace(-3.9, 1, 40))
    made = content(rows, [part], relaxed=relaxed)
    load(browser, write_page(tmp_path / "r.html", made))
    energies = Select(browser.find_element("id", "energies"))
    assert [option.text for option in energies.options] == ["by test", "predicted"]
    systems = Select(browser.find_element("id", "system"))
    hint = "return document.getElementById('hull').data.find(trace => trace.name?.startsWith('candidate')).hovertext[0]"
    for kind, system, shown in (
        ("by test", "O-Zr", relaxed["formation_energy_per_atom"].min()), ("predicted", "O-Zr", -3.9),
    ):  # fmt: skip
        energies.select_by_visible_text(kind)
        systems.select_by_visible_text(system)
        assert f"formation energy {shown:.3f} eV/atom" in browser.execute_script(hint)
    assert not browser.find_element("id", "no-hull").is_displayed()
    energies.select_by_visible_text("by test")
    systems.select_by_visible_text("Ba-O-Zr")
    assert browser.find_element("id", "no-hull").is_displayed()
    check_quiet(browser)


def test_four_starts_are_told_apart(browser, rutile, template, tmp_path):
    rows = with_structures(prerelaxed(), rutile)
    path = write_page(tmp_path / "r.html", content(rows, [chunk(40, template)]))
    load(browser, path)
    check_quiet(browser)
    text = browser.find_element("tag name", "body").text
    assert "Before translated_mlip: MACE-MP-0 took 14.0 ionic steps, 2 s per candidate; 1 of 9 unfinished." in text
    assert text.count("The savings do not include the steps of a potential.") == 1
    colors = browser.execute_script(
        "return document.querySelector('[data-figure=\"steps-ionic steps\"]').data"
        ".filter(trace => trace.mode === 'markers').map(trace => trace.marker.color)"
    )
    assert len(set(colors)) == len(colors) == 3


FORMULAS = ["=HYPERLINK(1)", "+1+cmd|x", "-2+3", "@SUM(1)", "&#61;1"]


def test_no_spreadsheet_takes_a_name_for_a_formula(browser, template, tmp_path):
    symbols = np.array([*(f"{name} Zr O O" for name in FORMULAS), "Ti Zr O O"])
    part = chunk(6, template, symbols=symbols, out_of_domain=np.ones(6, bool))
    made = content([], [part])
    made.candidates = read([part], cuts=Cuts(in_domain_only=True))
    load(browser, write_page(tmp_path / "r.html", made))
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    (button,) = [item for item in browser.find_elements("css selector", "button") if item.text == "CSV"]
    button.click()
    wait_for((tmp_path / "test.csv").exists, 30, 0.05)
    with (tmp_path / "test.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    expected = [f"'{name}->Zr" for name in FORMULAS[:4]] + ["&#61;1->Zr", "Ti->Zr"]
    assert [row["substitution"] for row in rows] == expected
    assert {row["template"] for row in rows} == {"<b>rutile"}
    assert float(rows[0]["predicted, eV/atom"]) == -3
    check_quiet(browser)


def test_no_script_runs_but_that_of_the_page(browser, template, tmp_path):
    path = write_page(tmp_path / "r.html", content([], [chunk(4, template)]))
    injected = "<script>document.title = 'run'</script><img src=x: onerror=\"document.title = 'run'\">"
    path.write_text(path.read_text().replace("<h1>", f"{injected}<h1>"))
    load(browser, path)
    assert browser.title == "test"
    assert any("Content Security Policy" in line["message"] for line in browser.get_log("browser"))


def test_export_buttons(browser, template, tmp_path):
    rows = screened()
    made = content(rows, [chunk(40, template)])
    load(browser, write_page(tmp_path / "r.html", made))
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element("css selector", "[type=search]").send_keys("SrBaZrO4")
    for name in ("CSV", "JSON"):
        (button,) = [item for item in browser.find_elements("css selector", "button") if item.text == name]
        button.click()
        wait_for((tmp_path / f"test.{name.lower()}").exists, 30, 0.05)
    (record,) = json.loads((tmp_path / "test.json").read_text())
    assert (record["formula"], record["template"], record["candidate"]) == ("SrBaZrO4", "<b>rutile", "00002")
    assert record["steps, unrelaxed"] is None
    assert "SrBaZrO4" in (tmp_path / "test.csv").read_text().splitlines()[1]
    check_quiet(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_prints_black_on_white_within_the_paper(browser, scheme, rutile, template, tmp_path):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    rows = with_structures(screened(), rutile)
    load(browser, write_page(tmp_path / "r.html", content(rows, [chunk(200, template)])))
    color = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(color) == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 32, 31)")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(color) == "rgb(255, 255, 255)"
    assert (
        browser.execute_script("return getComputedStyle(document.querySelector('.xtick text')).fill") == "rgb(0, 0, 0)"
    )
    widths = "return [...document.querySelectorAll('.main-svg')].map(svg => svg.getBoundingClientRect().width)"
    assert max(browser.execute_script(widths)) <= 660
    assert browser.execute_script("return document.querySelectorAll('.paper tbody tr').length") == 50
    hidden = "return ['#candidates', '#views'].every(name => document.querySelector(name).offsetParent === null)"
    assert browser.execute_script(hidden)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert max(browser.execute_script(widths)) > 900


@pytest.mark.parametrize("rows", [screened(), prerelaxed()], ids=["three starts", "four starts"])
def test_page_fits_a_narrow_screen(browser, rutile, template, tmp_path, rows):
    rows = with_structures(rows, rutile)
    path = write_page(tmp_path / "r.html", content(rows, [chunk(40, template)]))
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        load(browser, path)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_is_no_number_leaves_the_page_whole(browser, template, tmp_path):
    """JSON has no NaN, and no browser reads one."""
    unknown = {"mean_displacement": np.array([np.nan, 1, np.inf]), "volume_change": np.array([0.1, np.nan, 0.1])}
    rows = screened()
    rows[0].endings[0].energy_difference = float("nan")
    rows[0].relaxations[0].energy_per_atom = float("nan")
    load(browser, write_page(tmp_path / "r.html", content(rows, [chunk(3, template, **unknown)])))
    show_all_columns(browser)
    assert [[cell(browser, row, column) for column in (9, 10)] for row in (1, 2, 3)] == [
        ["", "10.0"],
        ["1.000", ""],
        ["", "10.0"],
    ]
    check_quiet(browser)
