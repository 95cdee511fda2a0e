"""The page of a campaign by the rules of axe-core, which tests/install-axe.sh installs."""

import pytest

from cryslator_flows.report.page.whole_page import write_page
from cryslator_flows.results.relaxed_frame import relaxed_frame
from cryslator_flows.screening.cuts import Cuts
from tests.conftest import ROOT, chromium
from tests.report.test_page import chunk, content, load, with_structures
from tests.report.test_tables import screened

AXE = ROOT / ".venv/axe.min.js"


@pytest.fixture(scope="module")
def browser():
    with chromium(logs={"browser": "ALL", "performance": "ALL"}) as driver:
        yield driver


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_no_serious_fault(browser, scheme, width, rutile, template, tmp_path):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    rows = with_structures(screened(), rutile)
    relaxed = relaxed_frame(rows, {}, Cuts(known_phases=False).competition())
    made = content(rows, [chunk(40, template)], relaxed=relaxed)
    load(browser, write_page(tmp_path / "r.html", made))
    browser.set_script_timeout(120)
    # As a person's developer tools would: the page's policy forbids scripts of others.
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
    faults = browser.execute_async_script("axe.run().then(found => arguments[0](found.violations))")
    serious = [fault for fault in faults if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in serious] == []
