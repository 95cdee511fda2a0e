"""What a campaign needs is checked before it starts, all at once."""

import pytest
from pymatgen.core import SETTINGS

from cryslator_flows.api import Campaign
from cryslator_flows.campaign.preflight import check_campaign, check_candidates, check_folder
from cryslator_flows.campaign.survey import COUNTED, look_at_all, look_quickly
from cryslator_flows.errors import PreflightError
from tests.campaign.test_file import GOOD, write

FORCE_FIELD = "atomate2.forcefields.jobs.ForceFieldRelaxMaker"
TITANATES = {
    **GOOD,
    "templates": [{"source": "aflow", "prototypes": ["AB3C_cP5_221_a_c_b"], "elements": ["O"]}],
    "substitutions": [{"kind": "roles", "cations": [["Ti"], ["Ca", "Sr"]]}],
}


def vasp_campaign(tmp_path, pool=("Ca", "Sr"), **vasp):
    content = {
        **TITANATES,
        "substitutions": [{"kind": "roles", "cations": [["Ti"], list(pool)]}],
        "relaxation": {"maker": "DoubleRelaxMaker", "vasp": vasp or None},
    }
    return Campaign.from_file(write(tmp_path, content))


def findings(campaign, here=True):
    found = check_campaign(campaign, lambda: look_quickly(campaign).elements, here)
    return [item.message for item in found if item.is_error], [item.message for item in found if not item.is_error]


def test_all_mistakes_of_a_file_are_told_at_once(run, tmp_path):
    content = {
        **GOOD,
        "templates": [{"source": "files", "path": "a.cif"}, {"source": "files", "path": "b.cif"}],
        "selection": {"references": "known.yaml"},
        "relaxation": {"maker": "chgnett"},
    }
    file = write(tmp_path, content)
    with pytest.raises(PreflightError) as caught:
        Campaign.from_file(file)
    keys = ["templates.0.path", "templates.1.path", "selection.references", "relaxation.maker"]
    assert [
        finding.partition(", line ")[2].split(maxsplit=2)[1].rstrip(":") for finding in caught.value.findings
    ] == keys
    assert str(caught.value).startswith("4 mistakes: ")
    code, _, err = run("screen", file)
    assert (code, err.count("Error:")) == (2, 4)
    assert all(finding in err for finding in caught.value.findings)


def test_vasp_that_can_run_has_no_findings(fake_vasp, tmp_path):
    assert findings(vasp_campaign(tmp_path, input_set={"user_incar_settings": {"NCORE": 4}})) == ([], [])


def test_command_with_an_open_quote(fake_vasp, tmp_path):
    (error,), _ = findings(vasp_campaign(tmp_path, run_vasp_kwargs={"vasp_cmd": "srun 'vasp_std"}))
    assert 'no program "srun \'vasp_std"' in error


def test_vasp_that_cannot_run(monkeypatch, fake_vasp, tmp_path):
    """No program, no POTCAR of an element, a misspelt tag and one that is too new for pymatgen."""
    tags = {"ENCUTT": 600, "BRANDNEWTAG": True}
    campaign = vasp_campaign(
        tmp_path, ["Ca", "Cd"], input_set={"user_incar_settings": tags}, run_vasp_kwargs={"vasp_cmd": "srum vasp_std"}
    )
    errors, notes = findings(campaign)
    place = f"{tmp_path / 'campaign.yaml'}, line "
    assert all(message.startswith(place) for message in [*errors, *notes])
    command, potcars, tag = errors
    assert "no program 'srum vasp_std'; load its module" in command
    assert "POTCARs are missing: Cd of PBE_54 (the first: You do not have the right POTCAR" in potcars
    assert "user_incar_settings.ENCUTT: not among the INCAR tags that pymatgen knows; did you mean 'ENCUT'?" in tag
    (note,) = notes
    assert "user_incar_settings.BRANDNEWTAG: not among" in note
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR")
    potcars = findings(campaign)[0][1]
    assert "POTCARs are missing: Ca_sv of PBE_54, Cd of PBE_54, O of PBE_54, Ti_sv of PBE_54" in potcars
    assert "PMG_VASP_PSP_DIR is not set; add them" in potcars


def test_vasp_of_a_worker_elsewhere_is_not_looked_for_here(monkeypatch, tmp_path):
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR", raising=False)
    errors, (note,) = findings(vasp_campaign(tmp_path, run_vasp_kwargs={"vasp_cmd": "srum vasp_std"}), here=False)
    assert errors == []
    assert "the worker of the stage relax needs POTCARs that this machine lacks: Ca_sv of PBE_54" in note


def test_elements_without_a_potcar_in_the_set_of_a_maker(fake_vasp, tmp_path):
    relaxation = {"maker": "MPGGADoubleRelaxMaker"}
    campaign = Campaign.from_file(write(tmp_path, {**TITANATES, "relaxation": relaxation}))
    (finding,) = check_campaign(campaign, lambda: ["O", "Po"])
    assert "names no POTCAR of Po)" in finding.message


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"force_field_name": "MACE-MP-0"}, "not installed here; pip install mace-torch"),
        ({"calculator_meta": "my_calc.Mine"}, "my_calc.Mine: not installed here; install my_calc, or set PYTHONPATH"),
        ({"force_field_name": "CHGNet", "calculator_kwargs": {"use_device": "abacus"}}, "CHGNet: cannot be loaded ("),
    ],
)
def test_potential_that_cannot_be_loaded(tmp_path, kwargs, words):
    settings = {"maker": FORCE_FIELD, "kwargs": kwargs}
    relaxation = {"maker": "tests.flows.makers.PairPotentialRelaxMaker"}
    content = {**TITANATES, "potential": settings, "relaxation": relaxation}
    errors, notes = findings(Campaign.from_file(write(tmp_path, content)))
    assert notes == []
    (error,) = errors
    assert f"potential: {next(iter(kwargs.values()))}: " in error
    assert words in error
    assert ", line " in error


def test_model_and_potential_are_both_told(tmp_path):
    settings = {"maker": FORCE_FIELD, "kwargs": {"force_field_name": "MACE-MP-0"}}
    campaign = Campaign.from_file(write(tmp_path, {**TITANATES, "model": "cryslator-univers", "potential": settings}))
    model, potential = findings(campaign)[0]
    assert "did you mean 'cryslator-universal'?" in model
    assert "pip install mace-torch" in potential


def test_folder_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("cryslator_flows.settings.SETTINGS.ledger", tmp_path / "file" / "ledger")
    assert [item.message for item in check_folder(tmp_path / "file" / "run")] == [
        f"{tmp_path / 'file/run'}: cannot be written (Not a directory); choose another path",
        f"CRYSLATOR_LEDGER: {tmp_path / 'file/ledger'}: cannot be written (Not a directory); choose another path",
    ]
    monkeypatch.undo()
    assert check_folder(tmp_path / "new" / "run") == []
    assert not (tmp_path / "new").exists()


def test_survey_counts_what_the_enumeration_makes(tmp_path):
    campaign = Campaign.from_file(write(tmp_path, GOOD))
    whole, quick = look_at_all(campaign, lambda _: None), look_quickly(campaign)
    counts = whole.counts
    assert whole.counts == quick.counts
    assert whole.elements == quick.elements >= {"Mn", "Ca", "Sr", "O"}
    assert sum(packed.n_candidates for packed in whole.chunks) == counts.unique > 0
    totals = counts.model_dump() | {"filtered": sum(counts.filtered.values())}
    for name in COUNTED:
        assert sum(row[name] for row in whole.by_template.values()) == totals[name]
    assert counts.enumerated == counts.not_charge_balanced + counts.duplicates + counts.unique
    assert not look_quickly(campaign, seconds=0).is_complete


def notes(tmp_path, **changes):
    campaign = Campaign.from_file(write(tmp_path, {**TITANATES, **changes}))
    found = check_candidates(campaign, look_at_all(campaign, lambda _: None))
    return [item.message.partition(", line ")[2] for item in found]


def test_references_on_another_scale_or_of_no_candidate(tmp_path):
    good = {"CaO": -3.29, "TiO2": -3.26, "Ca9O": -1}
    assert notes(tmp_path, selection={"references": good}) == []
    # Per formula unit, and in kJ/mol.
    wrong = {"CaO": -6.4, "Ti2O4": -940, "SrO": -3.07, "XeF2": -0.5}
    scale, unused = notes(tmp_path, selection={"references": wrong})
    assert "selection.references: CaO -6.4, known -3.31, Ti2O4 -940, known -3." in scale
    assert "give formation energies in eV/atom" in scale
    assert "selection.references: XeF2: no candidate has these elements; remove what changes nothing" in unused
    assert len(notes(tmp_path, selection={"references": wrong, "known_phases": False})) == 1


def test_energies_of_elements_that_no_candidate_has(tmp_path):
    relaxation = {"maker": "chgnet", "element_energies": {"O": -5.0, "Xe": -0.1, "Kr": 0.0, "Ne": 0.0, "Ar": 0.0}}
    (note,) = notes(tmp_path, relaxation=relaxation)
    assert "relaxation.element_energies: Ar, Kr, Ne and 1 more: no candidate has" in note


def test_a_sample_larger_than_the_space(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (note,) = notes(tmp_path, potential={"maker": FORCE_FIELD, "kwargs": {"force_field_name": "CHGNet"}, "adapt": 50})
    assert "potential.adapt: 50 candidates for the sample, but there are 4, and all are taken" in note
    assert "50 candidates for the sample" in " ".join(run("plan", tmp_path / "campaign.yaml")[2].split())
