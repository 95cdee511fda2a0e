import json

import pytest
from monty.json import MontyEncoder

from cryslator_flows.documents.candidates import Template
from tests.conftest import chromium


@pytest.fixture(scope="module")
def browser():
    """Chromium that finds no other host, and tells what it asks for."""
    with chromium("host-resolver-rules=MAP * ~NOTFOUND", logs={"browser": "ALL", "performance": "ALL"}) as driver:
        yield driver


@pytest.fixture
def template(rutile):
    return json.dumps(Template(template_id="<b>rutile", structure=rutile), cls=MontyEncoder)
