import pytest
from pydantic import ValidationError

from cryslator_flows.api import Campaign
from cryslator_flows.errors import CampaignError

PRESETS = ["DoubleRelaxMaker", "MPGGADoubleRelaxMaker", "MPMetaGGADoubleRelaxMaker"]


def relax_maker(**relaxation):
    campaign = Campaign(
        name="x",
        templates=[{"source": "aflow"}],
        substitutions=[{"kind": "maps", "maps": [{"Ti": "Mn"}]}],
        relaxation=relaxation,
    )
    return campaign.to_maker().select_maker.relax_maker.comparison_maker.relax_maker


@pytest.mark.parametrize("name", PRESETS)
def test_settings_reach_every_job(name):
    before = relax_maker(maker=name)
    maker = relax_maker(
        maker=name,
        vasp={
            "input_set": {"user_incar_settings": {"ENCUT": 611}},
            "powerups": {"use_auto_ispin": {}, "update_user_potcar_functional": {"potcar_functional": "PBE_64"}},
            "run_vasp_kwargs": {"vasp_cmd": "srun vasp_std", "custodian_kwargs": {"max_errors_per_job": 3}},
        },
    )
    for number in (1, 2):
        old = getattr(before, f"relax_maker{number}")
        new = getattr(maker, f"relax_maker{number}")
        expected = {**old.input_set_generator.user_incar_settings, "ENCUT": 611}
        assert new.input_set_generator.user_incar_settings == expected
        assert new.input_set_generator.auto_ispin
        assert new.input_set_generator.user_potcar_functional == "PBE_64"
        assert new.run_vasp_kwargs["vasp_cmd"] == "srun vasp_std"
        assert new.run_vasp_kwargs["custodian_kwargs"]["max_errors_per_job"] == 3


@pytest.mark.parametrize(
    ("vasp", "message"),
    [
        ({"input_set": {"user_incar_setting": {}}}, "did you mean 'user_incar_settings'"),
        ({"powerups": {"use_auto_spin": {}}}, "did you mean 'use_auto_ispin'"),
        ({"powerups": {"use_auto_ispin": {"x": 1}}}, "relaxation.vasp.powerups.use_auto_ispin"),
        ({"powerups": {"update_user_incar_settings": {"incar_updates": 3}}}, "powerups.update_user_incar_settings"),
        ({"input_set": {"user_incar_settings": 3}}, "relaxation.vasp.input_set.user_incar_settings: expected a map"),
        ({"input_set": {"auto_ismear": "NO"}}, "input_set.auto_ismear: expected true or false"),
        ({"run_vasp_kwargs": {"vasp_cmd": 5}}, "run_vasp_kwargs.vasp_cmd: expected text"),
        ({"run_vasp_kwargs": {"handlers": 5}}, "run_vasp_kwargs.handlers: expected a list"),
        ({"run_vasp_kwargs": {"wall_time": "12:00:00"}}, "run_vasp_kwargs.wall_time: expected a whole number"),
        ({"run_vasp_kwargs": {"vaspcmd": "vasp"}}, "did you mean 'vasp_cmd'"),
    ],
)
def test_mistakes_name_the_key(vasp, message):
    with pytest.raises(CampaignError, match=message):
        relax_maker(maker="DoubleRelaxMaker", vasp=vasp)


def test_unknown_key_and_maker_without_vasp():
    with pytest.raises(ValidationError, match="did you mean 'input_set'"):
        relax_maker(maker="DoubleRelaxMaker", vasp={"inputset": {}})
    with pytest.raises(CampaignError, match="makes no VASP jobs"):
        relax_maker(maker="chgnet", vasp={})
