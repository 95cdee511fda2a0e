import json

import pytest
import yaml

from cryslator_flows.campaign.file import Campaign
from cryslator_flows.errors import CampaignError, ModelError
from tests.conftest import ROOT

GOOD = {
    "name": "mine",
    "templates": [{"source": "aflow", "elements": ["O"], "max_atoms": 5}],
    "substitutions": [{"kind": "roles", "cations": [["Mn"], ["Ca", "Sr"]]}],
    "selection": {"top_k": 2},
}


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
        ({"selection": {"topk": 3}}, ["selection", "topk", "did you mean 'top_k'"]),
        ({"templates": [{"source": "aflow", "max_atom": 3}]}, ["templates.0", "did you mean 'max_atoms'"]),
        ({"templates": [{"source": "icsd"}]}, ["templates.0", "source must be one of aflow, files"]),
        ({"templates": [{"elements": ["O"]}]}, ["templates.0", "source must be one of aflow, files"]),
        ({"templates": []}, ["templates", "give at least one"]),
        ({"templates": [{"source": "aflow", "anonymous_formulas": ["foo"]}]}, ["anonymous_formulas.0", "'foo'"]),
        ({"templates": [{"source": "aflow", "elements": ["Oo"]}]}, ["templates.0.elements.0", "'Oo' is no element"]),
        ({"templates": [{"source": "aflow", "elements": "O"}]}, ["templates.0.elements", "expected a list"]),
        ({"substitutions": [{"kind": "roles", "cations": [["Mn"], ["Xx"]]}]}, ["cations.1.0", "'Xx' is no element"]),
        ({"substitutions": [{"kind": "roles", "cations": [[False]]}]}, ["cations.0.0", "quotes"]),
        ({"selection": {"control_share": 2}}, ["selection.control_share", "less than or equal to 1"]),
        ({"selection": 3}, ["selection", "keys and values"]),
        ({"name": "a/b"}, ["name"]),
        ({"relaxation": {"element_energies": {"Mm": -9.0}}}, ["relaxation.element_energies", "'Mm' is no element"]),
        ({"relaxation": {"element_energies": {"Mn": "low"}}}, ["relaxation.element_energies.Mn", "number"]),
        ({"relaxation": {"starts": ["translated_mlp"]}}, ["relaxation.starts.0", "translated_mlip"]),
        ({"relaxation": {"mlip": {"maker_": "chgnet"}}}, ["relaxation.mlip", "did you mean 'maker'"]),
        ({"selection": {"references": "missing.yaml"}}, ["missing.yaml", "cannot be read"]),
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
    templates = [{"source": "files", "path": "crystals"}]
    path = write(tmp_path, {**GOOD, "templates": templates, "selection": {"references": "known.yaml"}})
    campaign = Campaign.from_file(path)
    assert campaign.templates[0].path == tmp_path / "crystals"
    assert campaign.selection.references == {"CaO": -3.3}
    (tmp_path / "known.yaml").write_text("CaO: low\n")
    with pytest.raises(CampaignError, match=r"known\.yaml"):
        Campaign.from_file(path)


def test_model_and_maker_are_checked_before_anything_runs(tmp_path):
    with pytest.raises(ModelError, match="did you mean 'cryslator-oxides'"):
        Campaign.from_file(write(tmp_path, {**GOOD, "model": "cryslator-oxide"})).to_flow()
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


def test_settings_change_with_the_potential_that_is_used(tmp_path):
    def key(**relaxation):
        return comparison_maker(tmp_path, **relaxation).settings_key("m", "v")

    starts = ["unrelaxed", "mlip"]
    assert key() == key(mlip=POTENTIAL) == key(starts=starts)
    assert key(starts=starts, mlip=POTENTIAL) != key(starts=starts)
    fine = {"kwargs": {"relax_kwargs": {"fmax": 0.01}}}
    assert key(starts=starts, mlip=fine) != key(starts=starts)


@pytest.mark.parametrize(
    ("mlip", "words"),
    [
        ({"maker": "chgnett"}, "relaxation.mlip.maker 'chgnett': .* did you mean 'chgnet'"),
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


def test_keys_that_are_new_since_a_campaign_began_change_nothing(tmp_path):
    campaign = Campaign.from_file(write(tmp_path, {**GOOD, "selection": {"references": {"CaO": -3.29}}}))
    before = json.loads(campaign.content())
    del before["relaxation"]["mlip"]
    assert campaign.changed_keys(json.dumps(before)) == []
    assert campaign.changed_keys(json.dumps({**before, "key of another version": 1, "model": "other"})) != []
    campaign.relaxation.mlip.maker = POTENTIAL["maker"]
    assert campaign.changed_keys(json.dumps(before)) == ["relaxation"]
