"""Count how many of the most stable candidates a funnel finds, and at which cost.

Example: python workflows/funnel/recall.py workflows/funnel-oxides.yaml workflows/funnel-heuslers.yaml

For each campaign file and seed, `DRAWN` candidates of its space are drawn. SevenNet-0 is the potential. CHGNet stands
for the DFT, so that both can relax all candidates: `pip install sevenn` beside the extra `chgnet`. The truth is the
energy above the hull of known compounds by CHGNet. Each engine takes its energies of the elements from known compounds,
as in the stage `potential` of a campaign.

The folder `runs/recall` keeps every relaxation, so that the script continues where it stopped. Draws that recall.csv
has are not measured again. It gets the rows of every candidate, and RESULTS.md is written at the end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.progress import track

from cryslator_flows.campaign.file import CampaignSettings
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.engines.by_name import FORCE_FIELD_MAKER, build_potential_maker
from cryslator_flows.jobs.potential_relax import relax_all
from cryslator_flows.screening.fitted_references import FittedReferences, reference_compounds
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.screening.known_phases import symbols_of
from cryslator_flows.system.console import markdown_table, quiet
from cryslator_flows.translator.translator import Translator

if TYPE_CHECKING:
    from jobflow import Maker
    from pymatgen.core import Structure

    from cryslator_flows.documents.potential import PotentialRelaxation

HERE = Path(__file__).resolve().parent
ROWS = HERE / "recall.csv"
SEEDS = (0, 1, 2)
DRAWN = 100
WANTED = 20
# Candidates that the translator sends to the potential, and those that reach the last stage.
TO_POTENTIAL = 50
LAST = (20, 30, 40)
# Relaxations that end further apart than this have found different minima, in eV/atom.
FAR = 0.05
ENGINES = {"potential": "SevenNet", "last": "CHGNet"}


def main() -> None:
    """Measure all campaign files and write the results."""
    quiet()
    files = [Path(name).resolve() for name in sys.argv[1:]]
    Path("runs/recall/work").mkdir(parents=True, exist_ok=True)
    os.chdir("runs/recall/work")
    makers = {
        stage: build_potential_maker(
            FORCE_FIELD_MAKER, {"force_field_name": engine, "relax_kwargs": {"fmax": 0.05}}, stage
        )
        for stage, engine in ENGINES.items()
    }
    frames = [pd.read_csv(ROWS)] if ROWS.is_file() else []
    done = {pair for frame in frames for pair in zip(frame["space"], frame["draw"], strict=True)}
    for file in files:
        for seed in SEEDS:
            if (file.stem, seed) not in done:
                frames.append(measure(file, seed, makers))
                pd.concat(frames).to_csv(ROWS, index=False, float_format="%.5g")
    rows = pd.concat(frames, ignore_index=True)
    (HERE / "RESULTS.md").write_text(report(rows), encoding="utf-8")


def measure(file: Path, seed: int, makers: dict[str, Maker]) -> pd.DataFrame:
    """Relax the drawn candidates by all stages.

    Parameters
    ----------
    file : Path
        The campaign file.
    seed : int
        Seed of the draw.
    makers : dict
        Makers of `ENGINES`.

    Returns
    -------
    DataFrame
        One row for each candidate: energies above the known hull in eV/atom, steps, seconds and errors, by stage.
    """
    settings = CampaignSettings.from_file(file)
    templates = (item for source in settings.templates for item in source.load())
    found = list(Enumeration(templates, settings.substitutions, charge_balanced=settings.enumeration.charge_balanced))
    drawn = [found[row] for row in sorted(np.random.default_rng(seed).choice(len(found), DRAWN, replace=False))]
    unrelaxed = {item.candidate_id: item.structure for item in drawn}
    translations = dict(
        zip(unrelaxed, Translator.from_pretrained().translate_many(list(unrelaxed.values())), strict=True)
    )
    translated = {name: item.structure for name, item in translations.items()}
    label = f"{settings.name}, draw {seed}"
    by_potential = relaxed(makers["potential"], translated, f"{label}: potential")
    after = {name: item.structure for name, item in by_potential.items() if item.structure is not None}
    stages = {
        "potential": by_potential,
        "potential_unrelaxed": relaxed(makers["potential"], unrelaxed, f"{label}: unrelaxed"),
        "last": relaxed(makers["last"], after, f"{label}: last"),
        "last_unrelaxed": relaxed(makers["last"], unrelaxed, f"{label}: last, unrelaxed"),
    }
    elements = {symbol for item in drawn for symbol in symbols_of(item.reduced_formula)}
    compounds = reference_compounds(elements)
    references = {
        stage: FittedReferences.fit({
            name: item.energy_per_atom
            for name, item in relaxed(maker, compounds, f"{label}: compounds").items()
            if item.energy_per_atom is not None
        })
        for stage, maker in makers.items()
    }  # fmt: skip
    frame = pd.DataFrame({
        "space": settings.name, "candidates": len(found), "draw": seed, "candidate": list(unrelaxed),
        "formula": [item.reduced_formula for item in drawn],
        "translator": [item.formation_energy_per_atom for item in translations.values()],
    })  # fmt: skip
    for name, items in stages.items():
        fit = references[name.split("_")[0]]
        found_items = [items.get(candidate) for candidate in frame["candidate"]]
        frame[name] = [
            np.nan if item is None or item.energy_per_atom is None
            else fit.formation_energy(formula, item.energy_per_atom)
            for item, formula in zip(found_items, frame["formula"], strict=True)
        ]  # fmt: skip
        frame[f"{name}_steps"] = [np.nan if item is None else item.ionic_steps for item in found_items]
        frame[f"{name}_seconds"] = [np.nan if item is None else item.seconds for item in found_items]
        frame[f"{name}_error"] = [None if item is None else item.error for item in found_items]
    competition = Competition({})
    for name in ("translator", *stages):
        frame[name] = competition.energies_above(frame["formula"].tolist(), frame[name].to_numpy())
    return frame


def relaxed(maker: Maker, structures: dict[str, Structure], label: str) -> dict[str, PotentialRelaxation]:
    """Relax structures by name, with a progress bar."""
    return {item.name: item for item in track(relax_all(maker, structures.items()), label, total=len(structures))}


def report(rows: pd.DataFrame) -> str:
    """Write the tables of all spaces in Markdown."""
    names = " ".join(f"workflows/{space}.yaml" for space in rows["space"].unique())
    about = (
        f"Each space gives {len(SEEDS)} seeded draws of {DRAWN} candidates. *Found* counts the {WANTED} lowest above "
        f"the hull of known compounds by {ENGINES['last']}, the last stage, from the unrelaxed structure or from the "
        f"potential's, whichever ends lower. *Of the crystals sent* counts the {WANTED} lowest from the potential's "
        f"structures alone, which are what the funnel proposes. The funnel sends the {TO_POTENTIAL} best "
        f"of the translator to {ENGINES['potential']}. Seconds are of one busy core, means of the draws. The "
        f"translation takes less than one. {_lost(rows)}"
    )
    parts = [
        "# Recall of a funnel: results",
        f"Made by `python workflows/funnel/recall.py {names}`. Its first lines say how; recall.csv has all candidates.",
        about,
    ]
    for space, group in rows.groupby("space", sort=False):
        draws = [part for _, part in group.groupby("draw")]
        steps = {name: group[f"{name}_steps"].mean() for name in ("potential", "potential_unrelaxed")}
        other = ", ".join(str(ended_lower(draw)) for draw in draws)
        took = (
            f"{ENGINES['potential']} takes {steps['potential']:.1f} ionic steps from a translated structure and "
            f"{steps['potential_unrelaxed']:.1f} from an unrelaxed one. Of the {WANTED} most stable {other}, by "
            f"draw, are so from the unrelaxed structure alone: it ends over {FAR} eV/atom below the structure sent."
        )
        parts += [f"## {space}, {group['candidates'].iloc[0]:,} candidates", table(draws), took]
    return "\n\n".join(parts) + "\n"


def _lost(rows: pd.DataFrame) -> str:
    """Tell how many relaxations failed from each start."""
    translated, unrelaxed, last = (
        int(rows[f"{name}_steps"].isna().sum()) for name in ("potential", "potential_unrelaxed", "last_unrelaxed")
    )
    return (
        f"Of {len(rows)} candidates {translated} failed from the translated structure in {ENGINES['potential']}. "
        f"From the unrelaxed one {unrelaxed} failed there and {last} in {ENGINES['last']}: their cells shrank or grew "
        "without end."
    )


def table(draws: list[pd.DataFrame]) -> str:
    """Compare the orders for several sizes of the last stage."""
    lines = []
    for number in LAST:
        for name, order in ORDERS.items():
            results = [order(draw, number) for draw in draws]
            found, kept = (
                [_wanted(draw, ends).intersection(result[0]).size for draw, result in zip(draws, results, strict=True)]
                for ends in (["last", "last_unrelaxed"], ["last"])
            )
            if order is random_order:
                found = kept = [number * WANTED / DRAWN]
            each = ", ".join(f"{item:.0f}" for item in found) if name != "random" else "expected"
            lines.append((
                str(number), name, f"{np.mean(found):.1f}", each, f"{np.mean(kept):.1f}",
                *(f"{np.mean([item[column] for item in results]):.0f}" for column in (1, 2)),
            ))  # fmt: skip
    header = [
        ">to the last stage", "order", f">found of {WANTED}", "by draw", ">of the crystals sent", ">s, potential",
        ">s, last stage",
    ]  # fmt: skip
    return markdown_table(header, lines)


def _wanted(draw: pd.DataFrame, ends: list[str]) -> pd.Index:
    """Return the most stable candidates by the lower of some energies."""
    return draw[ends].min(axis=1).nsmallest(WANTED).index


def ended_lower(draw: pd.DataFrame) -> int:
    """Count the most stable candidates whose unrelaxed structure relaxes into another minimum, which is far lower."""
    wanted = draw.loc[_wanted(draw, ["last", "last_unrelaxed"])]
    return int((wanted["last"] - wanted["last_unrelaxed"] > FAR).sum())


def funnel(draw: pd.DataFrame, number: int) -> tuple[pd.Index, float, float]:
    """Return what translator and potential choose together, then the seconds of potential and last stage."""
    sent = draw.loc[draw["translator"].nsmallest(TO_POTENTIAL).index]
    last = sent.loc[sent["potential"].nsmallest(number).index]
    return last.index, sent["potential_seconds"].sum(), last["last_seconds"].sum()


def potential_alone(draw: pd.DataFrame, number: int) -> tuple[pd.Index, float, float]:
    """Return what the potential chooses that relaxes all candidates from their unrelaxed structures."""
    last = draw.loc[draw["potential_unrelaxed"].nsmallest(number).index]
    return last.index, draw["potential_unrelaxed_seconds"].sum(), last["last_seconds"].sum()


def translator_alone(draw: pd.DataFrame, number: int) -> tuple[pd.Index, float, float]:
    """Return what the translator chooses; the last stage starts from unrelaxed structures."""
    last = draw.loc[draw["translator"].nsmallest(number).index]
    return last.index, 0.0, last["last_unrelaxed_seconds"].sum()


def random_order(draw: pd.DataFrame, number: int) -> tuple[pd.Index, float, float]:
    """Return the mean seconds of a random order; it finds a share of each kind."""
    return draw.index[:0], 0.0, number * draw["last_unrelaxed_seconds"].mean()


ORDERS = {
    "translator, potential": funnel,
    "potential alone": potential_alone,
    "translator alone": translator_alone,
    "random": random_order,
}


if __name__ == "__main__":
    main()
