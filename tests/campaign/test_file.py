import json
import os

import pytest
import yaml

from cryslator_flows.api import Campaign
from cryslator_flows.campaign import potential_settings
from cryslator_flows.campaign.inputs import EFFECTIVE
from cryslator_flows.errors import CampaignError, ModelError
from tests.conftest import ROOT

MAKERS = "tests.flows.makers"
GOOD = {
    "name": "mine",
    "templates": [{"source": "aflow", "elements": ["O"], "max_atoms": 5}],
    "substitutions": [{"kind": "roles", "cations": [["Mn"], ["Ca", "Sr"]]}],
    "selection": {"top_k": 2},
}
MODULI = "cryslator-universal-bulk-modulus"


def write(tmp_path, content):
    path = tmp_path / "campaign.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflows/*.yaml")), ids=lambda path: path.name)
def test_workflows_make_a_flow(path):
    assert [job.name for job in Campaign.from_file(path).to_flow().jobs] == ["enumerate", "select", "summarize"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"selction": {}}, ["selction", "did you mean 'selection'"]),
        ({"selection": {"top_k": 3, "topk": 3}}, ["line 4, selection: unknown key", "topk", "did you mean 'top_k'"]),
        ({"templates": [{"source": "aflow", "max_atom": 3}]}, ["templates.0", "did you mean 'max_atoms'"]),
        ({"templates": [{"source": "icsd"}]}, ["templates.0", "source must be one of aflow, files"]),
        ({"templates": [{"elements": ["O"]}]}, ["templates.0", "source must be one of aflow, files"]),
        ({"templates": []}, ["templates", "give at least one"]),
        ({"templates": [{"source": "aflow", "anonymous_formulas": ["foo"]}]}, ["anonymous_formulas.0", "'foo'"]),
        (
            {"templates": [{"source": "aflow", "elements": ["Oo"]}]},
            ["templates.0.elements.0", "'Oo' is not an element"],
        ),
        ({"templates": [{"source": "aflow", "elements": "O"}]}, ["templates.0.elements", "expected a list"]),
        (
            {"substitutions": [{"kind": "roles", "cations": [["Mn"], ["Xx"]]}]},
            ["cations.1.0", "'Xx' is not an element"],
        ),
        ({"substitutions": [{"kind": "roles", "cations": [[False]]}]}, ["cations.0.0", "quotes"]),
        (
            {"selection": {"properties": {"band_gap": {"model": "my-gaps", "min": 1}}}},
            ["line", "selection.properties.band_gap.model", "'my-gaps'", "unknown"],
        ),
        (
            {"selection": {"properties": {"band_gap": {"model": "cryslator-universal", "min": 1}}}},
            ["selection.properties.band_gap.model", "predicts formation_energy_per_atom, not band_gap"],
        ),
        (
            {"selection": {"properties": {"log10_bulk_modulus": {"model": MODULI, "min": 100, "unit": "GPa"}}}},
            ["line", "log10_bulk_modulus.unit", "predicts in log10(GPa), not GPa; convert the window"],
        ),
        (
            {"selection": {"properties": {"band_gap": {"model": "my-gaps", "min": 2, "max": 1}}}},
            ["selection.properties.band_gap", "min 2 is above max 1"],
        ),
        (
            {"potential": {"select": {"properties": {"band_gap": {"model": "my-gaps", "min": 1}}}}},
            ["potential.select", "move them to `selection`"],
        ),
        ({"selection": {"controls": -1}}, ["selection.controls", "greater than or equal to 0"]),
        ({"selection": 3}, ["selection", "keys and values"]),
        ({"name": "a/b"}, ["name"]),
        ({"relaxation": {"element_energies": {"Mm": -9.0}}}, ["relaxation.element_energies", "'Mm' is not an element"]),
        ({"relaxation": {"element_energies": {"Mn": "low"}}}, ["relaxation.element_energies.Mn", "number"]),
        ({"relaxation": {"starts": ["translated_mlp"]}}, ["relaxation.starts.0", "translated_mlip"]),
        ({"relaxation": {"mlip": {"maker_": "chgnet"}}}, ["relaxation.mlip", "did you mean 'maker'"]),
        (
            {"selection": {"references": "missing.yaml"}},
            ["line", "selection.references", "missing.yaml does not exist"],
        ),
        ({"selection": {"references": {"Ca1e400O": -1.0}}}, ["selection.references.Ca1e400O", "is not a formula"]),
        ({"relaxation": {"starts": "translated"}}, ["relaxation.starts", "expected a list"]),
        ({"templates": [{"source": "files", "path": 3}]}, ["templates.0", "path: expected a path"]),
        ({"selection": {"references": {"Cao": -1.0}}}, ["line", "selection.references.Cao", "'Cao' is not a formula"]),
        ({"selection": {"references": {"Zz2O": -1.0}}}, ["line", "references.Zz2O", "'Zz2O' is not a formula"]),
        ({"selection": {"references": {"CaO": float("nan")}}}, ["line", ".nan is not a finite number"]),
        ({"selection": {"references": {"CaO": float("-inf")}}}, ["line", "-.inf is not a finite number"]),
        ({"selection": {"references": {"CaO": "NaN"}}}, ["selection.references.CaO", "finite"]),
        ({"selection": {"references": {"CaO": True}}}, ["selection.references.CaO", "not true or false"]),
        ({"selection": {"references": {"Ca": -9.1}}}, ["selection.references", "Ca: -9.1", "not total ones"]),
        ({"selection": {"top_k": True}}, ["line", "selection.top_k", "expected a number, not true or false"]),
        ({"selection": {"max_formation_energy": float("nan")}}, ["line", "finite"]),
        ({"relaxation": {"starts": ["unrelaxed", "unrelaxed"]}}, ["line", "relaxation.starts", "twice"]),
        ({"templates": [{"source": "prototypes", "names": ["Spinl"]}]}, ["line", "templates.0.names", "'Spinel'"]),
        ({"templates": [{"source": "files", "path": "crystals"}]}, ["line", "templates.0.path", "does not exist"]),
        ({"templates": [{"source": "files", "path": "*.cif"}]}, ["line", "templates.0.path", "does not exist"]),
        ({"templates": [{"source": "files", "path": "~/no such"}]}, ["templates.0.path: /", "does not exist"]),
        ({"templates": [{"source": "files", "path": "a" * 300}]}, ["line", "templates.0.path", "does not exist"]),
        ({"templates": [{"source": "store", "store": {"type": "MongStore"}}]}, ["templates.0.store 'MongStore'"]),
        ({"templates": [{"source": "store", "store": {"path": "x"}}]}, ["templates.0.store.path", "does not exist"]),
        ({"name": "a" * 300}, ["line", "name", "200"]),
        ({"rounds": {"replay": "old"}, "relaxation": {"element_energies": {"O": -1}}}, ["rounds.replay", "not exist"]),
        ({"relaxation": {"maker": "sys.exit"}}, ["line", "relaxation.maker 'sys.exit': is not a jobflow Maker"]),
        ({"relaxation": {"maker": "tests.flows.makers.NoMaker"}}, ["line", "relaxation.maker", "cannot be imported"]),
        ({"relaxation": {"kwargs": {"steps": -5}}}, ["line", "relaxation.kwargs.steps", "2 or more"]),
        ({"relaxation": {"kwargs": {"step": 5}}}, ["line", "relaxation.kwargs", "'step'"]),
        ({"relaxation": {"maker": "DoubleRelaxMaker", "vasp": {"input_sets": {}}}}, ["did you mean 'input_set'"]),
        ({"relaxation": {"maker": f"{MAKERS}.EndingMaker"}}, ["line", "relaxation.kwargs", "ended"]),
        ({"relaxation": {"maker": f"{MAKERS}.WithoutMakeMaker"}}, ["line", "relaxation.kwargs", "no make"]),
        ({"relaxation": {"mlip": {"maker": "chgne"}}}, ["line", "relaxation.mlip.maker", "give 'chgnet'"]),
    ],
)
def test_mistakes_are_named(tmp_path, change, words):
    path = write(tmp_path, {**GOOD, **change})
    with pytest.raises(CampaignError) as caught:
        Campaign.from_file(path)
    message = str(caught.value)
    for word in [str(tmp_path), *words]:
        assert word in message
    assert "\n" not in message


def test_a_window_has_the_unit_of_its_model(tmp_path):
    content = {**GOOD, "selection": {"properties": {"log10_bulk_modulus": {"model": MODULI, "min": 1, "max": 2}}}}
    campaign = Campaign.from_file(write(tmp_path, content))
    (window,) = campaign.selection.properties.values()
    assert (str(window), window.title("log10_bulk_modulus")) == ("1 to 2 log10(GPa)", "log10_bulk_modulus (log10(GPa))")
    content["selection"]["properties"]["log10_bulk_modulus"]["unit"] = "log10(GPa)"
    assert Campaign.from_file(write(tmp_path, content)).changed_keys(campaign.content()) == []


def test_what_names_no_maker_is_not_called(tmp_path):
    kwargs = {"args": f"touch {tmp_path}/called", "shell": True}
    path = write(tmp_path, {**GOOD, "relaxation": {"maker": "subprocess.Popen", "kwargs": kwargs}})
    with pytest.raises(CampaignError, match="is not a jobflow Maker"):
        Campaign.from_file(path)
    assert not (tmp_path / "called").exists()


def test_pipes_and_devices_are_not_read_to_their_end(tmp_path, perovskite):
    """Neither as a campaign file nor among its templates."""
    (tmp_path / "crystals").mkdir()
    perovskite.to(filename=tmp_path / "crystals" / "a.cif")
    os.mkfifo(tmp_path / "crystals" / "pipe.cif")
    (tmp_path / "crystals" / "zero.cif").symlink_to("/dev/zero")
    made = Campaign.from_file(write(tmp_path, {**GOOD, "templates": [{"source": "files", "path": "crystals"}]}))
    assert not made.changed_keys(made.content())
    for path in (tmp_path / "crystals" / "pipe.cif", "/dev/zero"):
        with pytest.raises(CampaignError, match="no regular file"):
            Campaign.from_file(path)


def test_modules_beside_the_file_hide_nothing(tmp_path):
    (tmp_path / "json.py").write_text("")
    with pytest.raises(CampaignError, match=r"json\.py is hidden by .*json/__init__\.py; rename it"):
        Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": {"maker": "json.Maker"}}))


def test_own_module_that_fails_while_it_is_imported(tmp_path):
    (tmp_path / "own_failing_module.py").write_text("raise SystemExit(0)")
    with pytest.raises(CampaignError, match=r"line .*relaxation\.maker .*: cannot be imported"):
        Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": {"maker": "own_failing_module.Maker"}}))


def test_yaml_as_people_write_it(tmp_path):
    text = """
name: mine
templates: [{source: aflow, elements: [O]}]
substitutions: [{kind: roles, cations: [[Mn], [No, Y]]}]
selection: {references: {NO: 9e-1}}
relaxation: {kwargs: {relax_kwargs: {fmax: 1e-2}}}
jobflow_remote: {default: {resources: {time: 12:00:00}}}
"""
    campaign = Campaign.from_file(str(write(tmp_path, text)))
    assert campaign.substitutions[0].cations[1] == ["No", "Y"]
    assert campaign.selection.references == {"NO": 0.9}
    assert campaign.relaxation.kwargs == {"relax_kwargs": {"fmax": 0.01}}
    assert campaign.jobflow_remote.default.resources == {"time": "12:00:00"}


def test_patterns_and_home(tmp_path, monkeypatch, perovskite, rutile):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "crystals").mkdir(parents=True)
    for name, structure in (("a", perovskite), ("b", rutile)):
        structure.to(str(tmp_path / "home" / "crystals" / f"{name}.cif"))
    (tmp_path / "home" / "crystals" / "notes.txt").write_text("no crystal")
    path = write(tmp_path, {**GOOD, "templates": [{"source": "files", "path": "~/crystals/*.cif"}]})
    templates = list(Campaign.from_file(path).templates[0].load())
    assert [template.template_id for template in templates] == ["crystals/a.cif", "crystals/b.cif"]


@pytest.mark.parametrize(
    ("content", "word"),
    [("name: [", "line 1"), ("a:\n  - b\n c: 1\n", "line 3"), ("", "keys and values"), ("- 1", "keys")],
)
def test_broken_yaml(tmp_path, content, word):
    with pytest.raises(CampaignError, match=word):
        Campaign.from_file(write(tmp_path, content))


def test_missing_key_and_file(tmp_path):
    with pytest.raises(CampaignError, match="templates: missing"):
        Campaign.from_file(write(tmp_path, {"name": "a", "substitutions": GOOD["substitutions"]}))
    with pytest.raises(CampaignError, match="No such file"):
        Campaign.from_file(tmp_path / "nothing.yaml")


def test_paths_count_from_the_file(tmp_path):
    (tmp_path / "known.yaml").write_text("CaO: -3.3\n")
    (tmp_path / "crystals").mkdir()
    templates = [{"source": "files", "path": "crystals"}]
    path = write(tmp_path, {**GOOD, "templates": templates, "selection": {"references": "known.yaml"}})
    campaign = Campaign.from_file(path)
    assert campaign.templates[0].path == tmp_path / "crystals"
    assert campaign.selection.references == {"CaO": -3.3}
    (tmp_path / "known.yaml").write_text("CaO: low\n")
    with pytest.raises(CampaignError, match=r"known\.yaml"):
        Campaign.from_file(path)


def test_model_and_maker_are_checked_before_anything_runs(tmp_path):
    with pytest.raises(ModelError, match="did you mean 'cryslator-universal'"):
        Campaign.from_file(write(tmp_path, {**GOOD, "model": "cryslator-univers"})).to_flow()
    with pytest.raises(CampaignError, match="did you mean 'chgnet'"):
        Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": {"maker": "chgnett"}})).to_flow()


POTENTIAL = {"maker": "atomate2.forcefields.jobs.ForceFieldRelaxMaker", "kwargs": {"force_field_name": "MACE-MP-0"}}


def comparison_maker(tmp_path, **relaxation):
    campaign = Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": relaxation}))
    return campaign.to_maker().select_maker.relax_maker.comparison_maker


def test_potential_of_the_starts(tmp_path):
    assert comparison_maker(tmp_path).mlip_maker.calculator_meta.value == "CHGNet"
    maker = comparison_maker(tmp_path, starts=["unrelaxed", "translated_mlip"], mlip=POTENTIAL)
    assert maker.mlip_maker.calculator_meta.value == "MACE-MP-0"
    assert maker.relax_maker.calculator_meta.value == "CHGNet"


def test_a_potential_that_changes_with_what_is_installed_is_named(tmp_path, monkeypatch):
    def made(**content):
        return Campaign.from_file(write(tmp_path, {**GOOD, **content}))

    monkeypatch.setattr(potential_settings, "find_spec", lambda name: None)
    before = made(potential={}).content()
    monkeypatch.setattr(potential_settings, "find_spec", lambda name: name)
    assert made(potential={}).changed_keys(before) == ["potential"]
    assert made(potential={"maker": "chgnet"}).changed_keys(before) == []
    # An earlier version did not store it.
    old = json.loads(before)
    del old[EFFECTIVE]
    assert made(potential={}).changed_keys(json.dumps(old)) == []


def test_a_limit_that_applies_since_a_potential_is_named(tmp_path):
    before = Campaign.from_file(write(tmp_path, GOOD)).content()
    assert Campaign.from_file(write(tmp_path, {**GOOD, "relaxation": {"mlip": {}}})).changed_keys(before) == [
        "relaxation"
    ]


def test_settings_change_with_the_potential_that_is_used(tmp_path):
    def key(**relaxation):
        return comparison_maker(tmp_path, **relaxation).settings_key("m", "v")

    starts = ["unrelaxed", "mlip"]
    assert key() == key(mlip=POTENTIAL, uncertain_above=None) == key(starts=starts)
    # Uncertain candidates start from structures of this potential.
    assert key(mlip=POTENTIAL) != key()
    assert key(starts=starts, mlip=POTENTIAL) != key(starts=starts)
    fine = {"kwargs": {"relax_kwargs": {"fmax": 0.01}}}
    assert key(starts=starts, mlip=fine) != key(starts=starts)


@pytest.mark.parametrize(
    ("mlip", "words"),
    [
        ({"maker": "chgnett"}, "relaxation.mlip.maker 'chgnett': .* give 'chgnet'"),
        ({"maker": POTENTIAL["maker"], "kwargs": {"force_field_name": "MACE"[:3]}}, "did you mean 'MACE'"),
        (
            {"maker": "atomate2.forcefields.jobs.ForceFieldStaticMaker", "kwargs": POTENTIAL["kwargs"]},
            "relaxes nothing",
        ),
        ({"maker": "atomate2.vasp.jobs.core.StaticMaker"}, "runs DFT"),
        ({"maker": "DoubleRelaxMaker"}, "runs DFT"),
        ({"kwargs": {"fmx": 1}}, "relaxation.mlip.kwargs: .*fmx"),
    ],
)
def test_mistakes_in_the_potential_are_named(tmp_path, mlip, words):
    with pytest.raises(CampaignError, match=words):
        comparison_maker(tmp_path, starts=["unrelaxed", "mlip"], mlip=mlip)
