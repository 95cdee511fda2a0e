import json

import pytest
from monty.json import MontyEncoder

from cryslator_flows.documents.candidates import Template


@pytest.fixture
def template(rutile):
    return json.dumps(Template(template_id="<b>rutile", structure=rutile), cls=MontyEncoder)
