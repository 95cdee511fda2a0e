"""The command about training pairs: ``cryslator pairs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.console import err, out, plain, progress_bars, quiet, shown
from cryslator_flows.pairs.kinds import Kind, ReaderOptions, Split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryslator_flows.pairs.raw import Dropped, RawPair
    from cryslator_flows.pairs.write import PairsSummary

app = typer.Typer()


@app.command()
def pairs(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"Kind of source: {', '.join(Kind)}.")],
    source: Annotated[str, typer.Argument(metavar="PATH", help="Where it is; a campaign also by name.")],
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
        Split,
        typer.Option(help="By formula of the target, as given by the source, or none: one file."),
    ] = Split.FORMULA,
    seed: Annotated[int, typer.Option(help="Another one gives another split.")] = 0,
    project: Annotated[
        str | None,
        typer.Option(
            "--project", "-p", help="jobflow-remote project that the campaign was submitted to.", show_default=False
        ),
    ] = None,
) -> None:
    """Make pairs of unrelaxed and relaxed crystals to train from.

    Of each pair the sites, axes, images and orientation are matched; what is too different to be one relaxation, or
    broken, is dropped and counted by reason. Pairs are shared out by reduced formula, 0.8 / 0.1 / 0.1, and training
    pairs whose template has a formula of validation or test are dropped.

    Writes `pairs-train.jsonl.gz`, `pairs-val.jsonl.gz` and `pairs-test.jsonl.gz` (`pairs.jsonl.gz` with
    `--split none`), `pairs.json` with all counts, and `dropped.jsonl` with name and reason of what was dropped. The
    exit code is 1 if no pair is left.

    Example: `cryslator pairs campaign my-perovskites -o own/`
    """
    quiet()
    from cryslator_flows.pairs.energies import read_element_energies
    from cryslator_flows.pairs.make import PairsMaker

    energies = None if element_energies is None else read_element_energies(element_energies)
    maker = PairsMaker(output, split, seed, energies)
    options = ReaderOptions(seed=seed)
    with progress_bars() as progress:
        bar = progress.add_task("pairs", total=None, note="")
        summary = maker.make(
            _read(kind, source, project, options), kind.value, source, lambda: progress.update(bar, advance=1)
        )
        progress.update(bar, total=summary.read)
    _print_summary(summary)
    if not summary.kept:
        err.print(f"No pair is left of {summary.read} in {plain(source)}: {shown(output / 'dropped.jsonl')} says why.")
        raise typer.Exit(1)
    out.print("Written: " + ", ".join(shown(output / name) for name in summary.files), soft_wrap=True)


def _read(kind: Kind, source: str, project: str | None, options: ReaderOptions) -> Iterator[RawPair | Dropped]:
    if kind is Kind.CAMPAIGN:
        from cryslator_flows.campaign.pairs import campaign_pairs

        return campaign_pairs(source, project)
    from cryslator_flows.pairs.readers import READERS

    return READERS[kind](Path(source), options)


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
        table.add_row(f"dropped: {plain(reason)}", str(number))
    table.add_section()
    table.add_row("read", str(summary.read))
    out.print(table)
    known = sum(part.formation_energies for part in summary.files.values())
    energies = sum(part.energies for part in summary.files.values())
    if summary.kept and known < summary.kept:
        words = f"{known} of {summary.kept} pairs have a formation energy, {energies} an energy of the engine"
        err.print(f"[yellow]note:[/] {words}; --element-energies makes formation energies of the latter")
