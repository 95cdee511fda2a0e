"""Selected candidates of a campaign without relaxations."""

from cryslator_flows import Campaign
from cryslator_flows.running.find import find_campaign
from tests.campaign.test_file import GOOD, write


def test_a_campaign_that_relaxes_nothing_ends_in_a_ranked_table(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    selection = {"top_k": 3, "max_energy_above_hull": 1.0}
    campaign = Campaign.from_file(write(tmp_path, {**GOOD, "selection": selection, "relaxation": None}))
    code, out, _ = run("screen", "campaign.yaml")
    assert (code, "Selected candidates, all 3, energies in eV/atom" in out) == (0, True)
    candidates = campaign.results().candidates
    with find_campaign("mine") as started:
        chosen = started.results.selected()
    assert set(candidates.index[candidates["selected"]]) == set(chosen)
    table = out.split("Selected candidates")[1]
    places = []
    for row in candidates.loc[chosen].itertuples():
        energy = f"{row.formation_energy_per_atom:.3f} ± {row.formation_energy_uncertainty_90:.3f}"
        before, after = table.split(f"{row.formula} {row.template_id} {energy} {row.energy_above_known_hull:.3f} ")
        places.append(len(before))
        _, inside = after.split()[:2]
        assert inside == ("no" if row.out_of_domain else "yes")
    assert places == sorted(places)
    assert table.split("Written")[0] in run("report", "mine")[1]
