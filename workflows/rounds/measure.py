"""Search the pool in rounds, with what the pool's relaxations say, and write a row for each candidate.

Example: python workflows/rounds/measure.py --pool runs/sulfides-pool --runs runs/sulfides-rounds --seeds 3

First ``cryslator screen workflows/rounds/pool.yaml`` relaxes the pool. Each search is the campaign of campaign.yaml,
which takes its relaxations over from there: nothing is relaxed twice. A stopped search goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cryslator_flows.analysis.formation_energies import formation_energies
from cryslator_flows.api import Campaign
from cryslator_flows.results.frames import CampaignFrames
from cryslator_flows.running.local.folder import CampaignFolder
from cryslator_flows.running.local.run import CampaignRun, job_bars
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.system.whole_files import write_whole

HERE = Path(__file__).parent


def read(folder: Path) -> CampaignFrames:
    """Return what a campaign folder holds."""
    with CampaignFolder(folder).opened() as opened:
        return CampaignFrames.read(opened.results(), Competition({}))


def pool_rows(pool: CampaignFrames, element_energies: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for each candidate: formation energies by engine (None if unconverged) and released model."""
    comparisons = list(pool.comparisons.values())
    found = formation_energies(comparisons, element_energies)
    assert found is not None
    return [
        {
            "candidate_id": item.candidate_id,
            "formula": item.reduced_formula,
            "template": item.template_id.rpartition(", ")[2],
            "energy": found.energies.get(item.candidate_id),
            "predicted": item.formation_energy_per_atom,
        }
        for item in comparisons
    ]


def search(campaign: Campaign, folder: Path, pool: Path) -> CampaignFrames:
    """Run a campaign with rounds, its relaxations taken over from the pool."""
    with job_bars() as report:
        CampaignRun(campaign, folder, reuse=[pool]).run(report)
    return read(folder)


def order_of(found: CampaignFrames) -> list[str]:
    """Return the order in which a search relaxes: batch by batch, then as the last model predicts."""
    batches = [name for outcome in found.summary.rounds for name in outcome.batch]
    rest = [name for name in found.candidates.index if name not in set(batches)]
    return [*batches, *rest]


def main() -> None:
    """Write ``results.jsonl`` and ``rounds.jsonl``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, default=Path("runs/sulfides-pool"))
    parser.add_argument("--runs", type=Path, default=Path("runs/sulfides-rounds"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    campaign = Campaign.from_file(HERE / "campaign.yaml")
    assert campaign.rounds is not None
    rows = pool_rows(read(options.pool), campaign.element_energies)
    learnt = []
    for seed in range(options.seeds):
        campaign.rounds.fine_tune.seed = seed
        found = search(campaign, options.runs / f"seed-{seed}", options.pool)
        places = {name: place for place, name in enumerate(order_of(found), 1)}
        for row in rows:
            row[f"rounds, seed {seed}"] = places[row["candidate_id"]]
        learnt += [{"seed": seed, **outcome.model_dump(exclude={"batch"})} for outcome in found.summary.rounds]
        for name, lines in (("results.jsonl", rows), ("rounds.jsonl", learnt)):
            write_whole(HERE / name, "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
