"""The first screen of the page: message, best candidates and warnings."""

from dataclasses import replace

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.support.select import Select

from cryslator_flows.report.headline import headline
from cryslator_flows.report.page.agreement import Agreement
from cryslator_flows.report.page.figures import residuals
from cryslator_flows.report.page.warning_lines import warning_lines
from cryslator_flows.report.page.whole_page import write_page
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.screening.cuts import Cuts
from tests.report.test_page import check_quiet, chunk, content, load, with_structures
from tests.report.test_tables import screened
from tests.support.waiting import wait_for


def test_first_screen_leads_with_the_message(browser, rutile, template, tmp_path):
    rows = with_structures(screened(), rutile)
    relaxed = relaxed_frame(rows, {"Zr": -8.0, "O": -5.0}, Cuts(known_phases=False).competition())
    made = content(rows, [chunk(40, template)], relaxed=relaxed)
    load(browser, write_page(tmp_path / "r.html", made))
    assert browser.find_element("class name", "headline").text == headline(made.summary, relaxed).sentence
    tiles = [item.text for item in browser.find_elements("css selector", ".tiles b")]
    assert tiles == [tile.value for tile in headline(made.summary, relaxed).tiles]
    heads = [item.text for item in browser.find_elements("tag name", "h2")]
    assert heads[:2] == ["Best relaxed candidates", "Warnings"]
    square = browser.execute_script(
        "const {xaxis, yaxis} = document.querySelector('.front .plot')._fullLayout;"
        "return [xaxis.range, yaxis.range, xaxis._length, yaxis._length]"
    )
    assert square[0] == square[1]
    assert square[2] == pytest.approx(square[3], abs=1)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    check_quiet(browser)


@pytest.mark.parametrize("table", [".best", "#candidates"])
def test_a_row_shows_its_structure(browser, rutile, template, tmp_path, table):
    rows = with_structures(screened(), rutile)
    relaxed = relaxed_frame(rows, {}, Cuts(known_phases=False).competition())
    load(browser, write_page(tmp_path / "r.html", content(rows, [chunk(40, template)], relaxed=relaxed)))
    for button in browser.find_elements("id", "all"):
        button.click()
    found = browser.find_elements("css selector", f"{table} [data-candidate]")
    last = found[-1].get_attribute("data-candidate")
    chosen = Select(browser.find_element("id", "candidate"))
    assert chosen.first_selected_option.get_attribute("value") != last
    browser.execute_script("arguments[0].querySelector('td').click()", found[-1])
    assert chosen.first_selected_option.get_attribute("value") == last
    views = browser.find_element("id", "views")
    wait_for(lambda: 0 <= views.rect["y"] - browser.execute_script("return scrollY") <= 1000, 30, 0.05)
    found[0].send_keys(Keys.ENTER)
    assert chosen.first_selected_option.get_attribute("value") == found[0].get_attribute("data-candidate")


def test_warnings_are_lines_by_weight(rutile, template, tmp_path):
    rows = with_structures(screened(synthetic=True), rutile)
    made = content(rows, [chunk(4, template)], failed=2, reasons=["out of memory"])
    made.summary = made.summary.model_copy(update={"out_of_domain": 3, "translated": 4})
    # Both other ends of this candidate are compared with one that did not converge.
    rows[1].relaxation("unrelaxed").cost.converged = False
    rows[1].relaxation("unrelaxed").structure = rutile
    lines = warning_lines(made.summary, rows, None, 2, ["out of memory"])
    assert [line.split(" by ")[0].split(":")[0] for line in lines][:2] == ["28 relaxations", "2 jobs failed"]
    assert "1 relaxation did not converge, without a part in any saving." in lines
    assert lines[-1].startswith("3 of 4 translated candidates are unlike the model's training data")
    page = write_page(tmp_path / "r.html", made).read_text()
    assert page.count("<li>2 jobs failed: out of memory</li>") == 1
    assert ">finished, 2 jobs failed<" in page


def test_residuals_are_means_by_element(template):
    rows = screened()[:1]
    found = Agreement(
        engine="X", fitted=False, energies={rows[0].candidate_id: -0.5}, uncertainties={}, mean_absolute_error=0.5,
        mean_error=0.5, held=0, left_out=0,
    )  # fmt: skip
    (bars,) = residuals(found, rows)["data"]
    assert {*bars["x"]} == {"Ba", "Sr", "Mn", "O"}
    assert bars["y"] == [rows[0].formation_energy_per_atom + 0.5] * 4
    assert residuals(replace(found, fitted=True), rows) is None


def test_known_formulas_are_marked(rutile, template, tmp_path):
    rows = with_structures(screened(), rutile)
    relaxed = relaxed_frame(rows, {}, Cuts().competition())
    page = write_page(tmp_path / "r.html", content(rows, [chunk(4, template)], relaxed=relaxed)).read_text()
    assert page.count('<td>ZrO2<br><small class="soft">known</small>') == len(relaxed)
