import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter
from pymatgen.core import Species

from cryslator_flows.crystals.templates import (
    AflowTemplates,
    AnyTemplateSource,
    FileTemplates,
    MaterialsProjectTemplates,
    PrototypeTemplates,
    StoreTemplates,
)
from cryslator_flows.errors import StoreError, StructureError
from cryslator_flows.system.sqlite_store import SQLiteStore
from cryslator_flows.system.store_specs import open_store, without_secrets


def test_aflow_filters():
    found = list(AflowTemplates(elements=["O"], anonymous_formulas=["X3YZ"], max_atoms=10).load())
    assert found
    for template in found:
        assert template.structure.composition.anonymized_formula == "ABC3"
        assert "O" in template.structure.composition
        assert len(template.structure) <= 10
    ids = [template.template_id for template in AflowTemplates(max_atoms=500).load()]
    assert len(ids) == len(set(ids)) > 200


def test_aflow_is_the_library_of_pymatgen():
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    found = list(AflowTemplates(max_atoms=10_000)._read())
    for template, entry in zip(found, AFLOW_PROTOTYPE_LIBRARY, strict=True):
        ours, theirs = template.structure, entry["snl"].structure
        assert template.template_id == f"{theirs.reduced_formula}:{entry['tags']['aflow']}"
        assert ours.species == theirs.species
        assert np.array_equal(ours.frac_coords, theirs.frac_coords)
        assert np.array_equal(ours.lattice.matrix, theirs.lattice.matrix)
        assert ours.site_properties == theirs.site_properties


def test_aflow_label_must_exist():
    with pytest.raises(StructureError, match="unknown"):
        list(AflowTemplates(prototypes=["no_such"]).load())


def test_files(tmp_path, perovskite, rutile):
    perovskite.to(str(tmp_path / "a.cif"))
    rutile.to(str(tmp_path / "b.vasp"), fmt="poscar")
    found = list(FileTemplates(source="files", path=tmp_path, n_elements=2).load())
    assert [template.structure.composition.reduced_formula for template in found] == ["TiO2"]
    (tmp_path / "c.cif").write_text("")
    *_, rejected = FileTemplates(source="files", path=tmp_path).load()
    assert isinstance(rejected, StructureError)
    assert "c.cif: empty file" in str(rejected)


def test_a_large_file_is_left_out_with_the_key_to_raise(tmp_path, perovskite):
    (perovskite * (2, 2, 3)).to(str(tmp_path / "a.cif"))
    (error,) = FileTemplates(source="files", path=tmp_path).load()
    assert str(error).endswith("a.cif: 60 atoms, over max_atoms: 40 of its source; raise it there")
    (found,) = FileTemplates(source="files", path=tmp_path, max_atoms=60).load()
    assert len(found.structure) == 60
    assert list(FileTemplates(source="files", path=tmp_path, elements=["Pb"]).load()) == []


def test_filters_see_elements_and_not_their_decoration(tmp_path, perovskite):
    perovskite[2], perovskite[3] = Species("O", -2, spin=1), Species("O", -2, spin=-1)
    perovskite[0] = Species("D", 1)
    (tmp_path / "a.json").write_text(json.dumps(perovskite.as_dict()))
    wanted = {"elements": ["H", "Ti", "O"], "n_elements": 3, "anonymous_formulas": ["ABC3"]}
    (found,) = FileTemplates(source="files", path=tmp_path, **wanted).load()
    assert found.structure.site_properties["magmom"] == [None, None, 1.0, -1.0, None]


def test_names_of_files_do_not_depend_on_where_they_lie(tmp_path, perovskite):
    names = []
    for place in ("one", "two"):
        for name in ("CaTiO3", "SrTiO3"):
            (tmp_path / place / "all" / name).mkdir(parents=True)
            perovskite.to(str(tmp_path / place / "all" / name / "POSCAR"))
        paths = (tmp_path / place / "all", tmp_path / place / "all/CaTiO3", tmp_path / place / "all/CaTiO3/POSCAR")
        names.append([item.template_id for path in paths for item in FileTemplates(source="files", path=path).load()])
    assert names[0] == names[1] == ["all/CaTiO3/POSCAR", "all/SrTiO3/POSCAR", *["CaTiO3/POSCAR"] * 2]


def test_store(tmp_path, perovskite):
    path = str(tmp_path / "tasks.sqlite")
    store = SQLiteStore(path, "tasks")
    store.connect()
    store.update([{"uuid": name, "kind": name, "output": {"structure": perovskite.as_dict()}} for name in "ab"], "uuid")
    spec = {"type": "SQLiteStore", "path": path, "collection_name": "tasks"}
    (template,) = StoreTemplates(source="store", store=spec, criteria={"kind": "b"}).load()
    assert template.template_id == "b"
    assert template.structure == perovskite
    with pytest.raises(StructureError, match="no document"):
        list(StoreTemplates(source="store", store=spec, criteria={"kind": "c"}).load())
    rejected = list(StoreTemplates(source="store", store=spec, structure_key="kind").load())
    assert ["document a, kind" in str(rejected[0]), "document b, kind" in str(rejected[1])] == [True, True]
    broken = json.loads(json.dumps(perovskite.as_dict()))
    broken["lattice"] = {"matrix": "none"}
    without = {**perovskite.as_dict(), "sites": [{"abc": [0, 0, 0]}]}
    store.update(
        [{"uuid": "c", "output": {"structure": broken}}, {"uuid": "d", "output": {"structure": without}}], "uuid"
    )
    *good, first, second = StoreTemplates(source="store", store=spec).load()
    assert [template.template_id for template in good] == ["a", "b"]
    assert "document c, output.structure: " in str(first)
    assert "document d, output.structure: " in str(second)
    with pytest.raises(StoreError, match="cannot be opened"):
        list(StoreTemplates(source="store", store={"type": "NoStore"}).load())


def test_of_a_job_that_was_run_again_the_last_document_counts(tmp_path, perovskite, rutile):
    path = str(tmp_path / "tasks.sqlite")
    store = SQLiteStore(path, "tasks")
    store.connect()
    rows = [("a", 1, rutile), ("a", 2, perovskite), ("b", 1, rutile)]
    store.update(
        [{"uuid": uuid, "index": index, "output": {"structure": item.as_dict()}} for uuid, index, item in rows],
        ["uuid", "index"],
    )
    spec = {"type": "SQLiteStore", "path": path, "collection_name": "tasks"}
    found = {item.template_id: item.structure for item in StoreTemplates(source="store", store=spec).load()}
    assert found == {"a": perovskite, "b": rutile}


def test_store_without_what_opens_it():
    store = {
        "type": "MongoStore",
        "host": "db.example.org",
        "username": "me",
        "password": "hunter2",
        "ssh_tunnel": {"private_key": "hunter2", "port": 22},
        "uri": "mongodb://me:hunter2@db.example.org:27017/?w=1",
        "safe": ["mongodb://me:${PASSWORD}@db.example.org", "mongodb://db.example.org"],
        "s3_token": "${TOKEN}",
    }
    shown = without_secrets(store)
    assert "hunter2" not in str(shown)
    assert shown == {
        **store,
        "password": "***",
        "ssh_tunnel": {"private_key": "***", "port": 22},
        "uri": "mongodb://me:***@db.example.org:27017/?w=1",
    }
    assert without_secrets(shown) == shown


class TellingStore(SQLiteStore):
    """A store whose errors tell the password."""

    def __init__(self, path, password, **kwargs):
        raise ValueError(f"cannot log in with {password}")


@pytest.mark.parametrize("password", ["hunter2", "${TASKS_PASSWORD}"])
def test_no_password_in_the_error_of_a_package(monkeypatch, password):
    monkeypatch.setenv("TASKS_PASSWORD", "hunter2")
    store = {"type": "TellingStore", "path": "a", "password": password}
    with pytest.raises(StoreError, match=r"cannot be opened .*cannot log in with \*\*\*") as caught:
        open_store(store, "template store")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("${NO_SUCH_NAME}", "collection_name: NO_SUCH_NAME is not set in the environment"), ("***", "does not keep it")],
)
def test_arguments_of_a_store_from_the_environment(tmp_path, monkeypatch, name, words):
    monkeypatch.setenv("TASKS", "tasks")
    spec = {"type": "SQLiteStore", "path": str(tmp_path / "a.sqlite"), "collection_name": "my-${TASKS}"}
    store = open_store(spec, "store")
    assert store.collection_name == "my-tasks"
    store.close()
    with pytest.raises(StoreError, match=words):
        open_store({**spec, "collection_name": name}, "store")


def test_materials_project_calls_the_client(monkeypatch, perovskite):
    asked = {}

    class Rester:
        def __init__(self, key):
            asked["key"] = key
            self.materials = SimpleNamespace(summary=SimpleNamespace(search=self.search))

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

        def search(self, **kwargs):
            asked.update(kwargs)
            return [SimpleNamespace(material_id="mp-1", structure=perovskite)]

    client = ModuleType("mp_api.client")
    client.MPRester = Rester
    monkeypatch.setitem(sys.modules, "mp_api", ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", client)
    source = TypeAdapter(AnyTemplateSource).validate_python(
        {"source": "materials-project", "search": {"chemsys": "Ca-Ti-O"}, "api_key": "secret"}
    )
    (template,) = source.load()
    assert template.template_id == "mp-1"
    assert asked == {"key": "secret", "chemsys": "Ca-Ti-O", "fields": ["material_id", "structure"]}
    assert "secret" not in source.model_dump_json()
    assert "secret" not in repr(source)


def test_materials_project_without_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(StructureError, match="pip install"):
        list(MaterialsProjectTemplates(source="materials-project", search={}).load())


def test_structure_types_pass_the_filters():
    source = PrototypeTemplates(source="prototypes", names=["spinel", "Heusler"], min_members=100)
    found = [template for template in source.load() if not isinstance(template, StructureError)]
    assert [template.template_id for template in found] == ["NaAcTe2:mp-865081", "CaTm2O4:mp-1178472"]
    assert [len(template.structure) for template in found] == [4, 14]
    halides = PrototypeTemplates(source="prototypes", anonymous_formulas=["CBA3"], elements=["F"], space_groups=[221])
    assert {template.template_id.split(":")[0] for template in halides.load()} == {"CsYbF3"}


def test_most_structure_types_are_usable_templates():
    found = list(PrototypeTemplates(source="prototypes", min_members=50).load())
    assert len(found) > 100
    assert not [item for item in found if isinstance(item, StructureError)]


def test_unknown_names_of_structure_types():
    with pytest.raises(StructureError, match="no type is called 'Spinl'; did you mean 'Spinel'"):
        list(PrototypeTemplates(source="prototypes", names=["Spinl"]).load())
