"""The command about training pairs: ``cryslator pairs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.pairs.kinds import OPTIONS, Kind, SplitRule
from cryslator_flows.system.console import err, note, out, progress_bars, quiet, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.pairs.raw import Dropped, RawPair
    from cryslator_flows.pairs.write import PairsSummary
    from cryslator_flows.training.records import PairRecord

app = typer.Typer()


@app.command()
def pairs(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"Kind of source: {', '.join(Kind)}.")],
    source: Annotated[str, typer.Argument(metavar="PATH", help="Path of the source; a campaign also by name.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write to.")],
    element_energies: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Energies of the elements in eV/atom by the same engine and settings, for formation energies.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        SplitRule,
        typer.Option(help="Split by formula of the target, as given by the source, or none: one file."),
    ] = SplitRule.FORMULA,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    intermediates: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="mpf, store, vasp: ionic steps that are further unrelaxed crystals of a target.",
            show_default=False,
        ),
    ] = None,
    max_per_target: Annotated[
        int | None,
        typer.Option(
            min=1, help="isostructural: templates, the nearest ones, for each relaxed crystal.", show_default="4"
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", "-p", help="jobflow-remote project of the campaign.", show_default=False),
    ] = None,
) -> None:
    """Make pairs of unrelaxed and relaxed crystals to train from.

    PATH depends on KIND. For `campaign` it is the name, folder or file of the campaign. For `vasp` it is a folder with
    `vasprun.xml` files in it or below. For `store` it is a YAML file with `store` (type and arguments of a maggma
    store of task documents) and `criteria`. For `isostructural` it is files or lines of relaxed crystals; each is
    paired with isostructural ones. For published data it is the folder or archive. `xmno` reads the X-Mn-O pairs of
    the paper, `deeprelax` data in the layout of DeepRelax, `mpf` MPF.2021.2.8.

    Sites, axes, images and orientation of each pair are matched. Broken pairs, and pairs too different to be one
    relaxation, are dropped and counted by reason. `isostructural` uses all cores; after a stop the same command
    continues. Pairs are split by reduced formula, 0.8 / 0.1 / 0.1. Training pairs whose template has a formula of
    validation or test are dropped.

    Writes `pairs-train.jsonl.gz`, `pairs-val.jsonl.gz` and `pairs-test.jsonl.gz`, or `pairs.jsonl.gz` with `--split
    none`. Writes `pairs.json` with all counts, and `dropped.jsonl` with name and reason of each dropped pair. The exit
    code is 1 if no pair is left.

    Example: `cryslator pairs campaign my-perovskites -o own/`
    """
    for name, value in {"intermediates": intermediates, "max-per-target": max_per_target, "project": project}.items():
        if value is not None and kind not in OPTIONS[name]:
            raise typer.BadParameter(f"--{name} is for {' and '.join(OPTIONS[name])}, not for {kind}; remove it")
    quiet()
    from pydantic import FiniteFloat

    from cryslator_flows.config import read_strict
    from cryslator_flows.crystals.substitution import Symbol
    from cryslator_flows.pairs.make import PairFolder
    from cryslator_flows.pairs.readers import read_source

    # With this import maggma knows the stores of campaigns by name too.
    from cryslator_flows.running.campaign_pairs import campaign_pairs

    energies = None if element_energies is None else read_strict(element_energies, dict[Symbol, FiniteFloat])
    pair_folder = PairFolder(output, split, seed, energies)
    try:
        with progress_bars() as progress:
            bar = progress.add_task("pairs", total=None, note="")
            read: Iterator[RawPair | PairRecord | Dropped]
            if kind is Kind.CAMPAIGN:
                read = campaign_pairs(source, project)
            else:
                read = read_source(
                    kind,
                    Path(source),
                    pair_folder.scratch,
                    intermediates or 0,
                    max_per_target or 4,
                    seed,
                    split,
                    lambda words: progress.update(bar, note=words),
                )
            summary = pair_folder.fill(read, kind.value, source, lambda: progress.update(bar, advance=1))
            progress.update(bar, total=summary.read, note="")
    except KeyboardInterrupt:
        done = "Run the same command to continue from here" if pair_folder.scratch.exists() else "Nothing was written"
        err.print(f"Stopped. {done}.")
        raise typer.Exit(130) from None
    _print_summary(summary)
    if not summary.kept:
        err.print(f"No pair is left of {summary.read} in {source}: see {shown(output / 'dropped.jsonl')}.")
        raise typer.Exit(1)
    out.print("Written: " + ", ".join(shown(output / name) for name in summary.files), soft_wrap=True)


def _print_summary(summary: PairsSummary) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "pairs", "targets", "formulas"):
        table.add_column(name, justify="right" if name else "left")
    for name, part in summary.files.items():
        table.add_row(name, str(part.pairs), str(part.targets), str(part.formulas))
    table.add_section()
    for reason, number in summary.dropped.items():
        table.add_row(f"dropped: {reason}", str(number))
    table.add_section()
    table.add_row("read", str(summary.read))
    out.print(table)
    for name in (name for name, part in summary.files.items() if not part.pairs):
        note(
            "note:",
            f"no pair is left for {name}; give more formulas, another --seed, or --split none and `pairs` and `shares` "
            "in the recipe",
        )
    known = sum(part.formation_energies for part in summary.files.values())
    energies = sum(part.energies for part in summary.files.values())
    if summary.kept and known < summary.kept:
        words = f"{known} of {summary.kept} pairs have a formation energy, {energies} an energy of the engine"
        if summary.elements_without_energy:
            words += f"; the given energies of the elements lack {', '.join(summary.elements_without_energy)}"
        elif energies > known:
            words += "; --element-energies makes formation energies of the latter"
        note("note:", words)
