import json
from datetime import datetime

import numpy as np
import pytest
from monty.json import MontyEncoder
from pydantic import ValidationError
from pymatgen.core import DummySpecies
from pymatgen.electronic_structure.core import Magmom

from cryslator_flows.crystals.columns import squeeze
from cryslator_flows.crystals.files import read_structures
from cryslator_flows.crystals.outside import structure_from_dict
from cryslator_flows.crystals.packing import PackedCandidates
from cryslator_flows.documents.candidates import Template
from cryslator_flows.errors import StructureError


@pytest.fixture
def evil(perovskite, tmp_path):
    """A structure whose site property, decoded by monty, writes a file; and that file."""
    row = json.loads(json.dumps(perovskite.as_dict()))
    row["sites"][0]["properties"] = {
        "x": [{"@module": "fsspec.implementations.zip", "@class": "ZipFileSystem", "args": [],
               "fo": str(tmp_path / "written"), "mode": "w"}]
    }  # fmt: skip
    return row, tmp_path / "written"


def test_structures_build_no_foreign_class(evil, tmp_path):
    row, written = evil
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (tmp_path / "a.json").write_text(json.dumps({"structure": row}))
    (tmp_path / "a.yaml").write_text(json.dumps(row))
    rows = list(read_structures(tmp_path))
    assert [found.cause for _, found in rows] == ["names a foreign class"] * 3
    assert "fsspec.implementations.zip.ZipFileSystem" in str(rows[0][1])
    assert not written.exists()


def test_documents_build_no_foreign_class(evil):
    row, written = evil
    content = {"template_id": "t", "structure": row}
    with pytest.raises(ValidationError, match="ZipFileSystem"):
        Template.model_validate(content)
    packed = PackedCandidates.pack([])
    packed.templates = squeeze(json.dumps({"t": json.dumps(content)}))
    with pytest.raises(ValidationError, match="ZipFileSystem"):
        list(packed.candidates())
    assert not written.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"@module": "os", "@callable": "system", "@bound": None},
        {"@module": "pymatgen.core.structure", "@class": "Structure", "@callable": "Structure.from_file"},
        {"@module": "pathlib", "@class": "Path", "string": "/"},
        {"@module": "numpy", "@class": "array", "dtype": "U999999999", "data": ["a"]},
        {"@module": ["os"], "@class": "x"},
        {"@class": "x"},
    ],
)
def test_what_monty_would_build(perovskite, value):
    row = perovskite.as_dict()
    row["sites"][4]["properties"] = {"deep": [{"er": value}]}
    with pytest.raises(StructureError, match="names the class"):
        structure_from_dict(row)


def test_plain_data_of_other_packages_are_left_out(perovskite):
    for name, value in (("force", np.ones(3)), ("date", datetime(2024, 1, 1)), ("moment", Magmom(2))):
        perovskite.add_site_property(name, [value] * 5)
    row = json.loads(json.dumps(perovskite.as_dict(), cls=MontyEncoder))
    assert structure_from_dict(row).site_properties == {}
    assert (
        Template.model_validate({"template_id": "t", "structure": row}).structure.site_properties["date"][0].year
        == 2024
    )


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), "x", None])
def test_occupancies_that_would_drop_an_atom(perovskite, value):
    row = perovskite.as_dict()
    row["sites"][1]["species"][0]["occu"] = value
    with pytest.raises(StructureError, match="site 1: occupancy"):
        structure_from_dict(row)


def test_too_many_atoms_are_counted_before_they_are_read(perovskite):
    row = perovskite.as_dict()
    row["sites"] = [None] * 501
    with pytest.raises(StructureError, match="501 atoms"):
        structure_from_dict(row)


def test_dummy_species(perovskite):
    perovskite.replace(0, DummySpecies("Xa"))
    with pytest.raises(StructureError, match="not an element"):
        structure_from_dict(perovskite.as_dict())
