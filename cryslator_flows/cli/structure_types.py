"""Command about the library of structure types: ``cryslator templates``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryslator_flows.errors import StructureError
from cryslator_flows.system.console import err, note, out, quiet, shown
from cryslator_flows.system.whole_files import check_output, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from cryslator_flows.crystals.prototypes import Prototype

app = typer.Typer()

# Crystals in a picture.
MOST_DRAWN = 24
TITLES = ("template", "type", "name", "group", "atoms", "known", "some")
COLUMNS = 4


@app.command()
def templates(
    formula: Annotated[
        list[str] | None, typer.Option("--formula", help="Formula type, as in ABC3; may be repeated.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Name of the type, as in Spinel; may be repeated.")
    ] = None,
    element: Annotated[
        list[str] | None, typer.Option("--element", help="Element of the crystal that is shown; may be repeated.")
    ] = None,
    space_group: Annotated[
        list[int] | None, typer.Option("--space-group", help="Number of the space group; may be repeated.")
    ] = None,
    n_elements: Annotated[int | None, typer.Option(help="Number of elements.", show_default=False)] = None,
    max_atoms: Annotated[int, typer.Option(help="Largest number of atoms in the cell.")] = 40,
    min_members: Annotated[int, typer.Option(help="Least number of known crystals of the type.")] = 3,
    draw: Annotated[
        Path | None, typer.Option(help=f"Draw the first {MOST_DRAWN} into this file (.png, .svg or .pdf).")
    ] = None,
) -> None:
    """List the structure types that `source: prototypes` of a campaign offers.

    The library holds one crystal of each type, with at most 24 atoms in the cell: larger ones, such as olivine and
    garnet, come from files of your own (`source: files`). The filters are those of a campaign file. Piped output has
    tabs between its columns and a line for each type.

    Example: `cryslator templates --formula ABC3 --min-members 100 --draw perovskites.png`
    """
    quiet()
    from pydantic import ValidationError

    from cryslator_flows.crystals.prototypes import prototypes
    from cryslator_flows.crystals.templates import PrototypeTemplates

    if draw is not None:
        check_output(draw)
        if draw.suffix not in (".png", ".svg", ".pdf"):
            raise StructureError(f"--draw {draw}: name a file that ends in .png, .svg or .pdf")
    given = {
        "anonymous_formulas": formula or None, "names": name or None, "elements": element or None,
        "space_groups": space_group or None, "n_elements": n_elements, "max_atoms": max_atoms,
        "min_members": min_members,
    }  # fmt: skip
    try:
        source = PrototypeTemplates.model_validate({"source": "prototypes"} | given)
    except ValidationError as error:
        first = error.errors()[0]
        raise StructureError(f"templates, {first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}") from error
    for text, kind in zip(formula or (), source.anonymous_formulas or (), strict=True):
        if text != kind:
            note("note:", f"--formula {text} lists the formula type {kind}, whatever the elements; see --element")
    types = {item.template_id: item for item in prototypes()}
    found = [types[item.template_id] for item in source.load() if not isinstance(item, StructureError)]
    rows = [TITLES] + [
        (item.template_id, item.anonymous_formula, item.name, str(item.space_group), str(len(item.species)),
         str(item.n_members), ", ".join(item.row["members"][:3]))
        for item in found
    ]  # fmt: skip
    if out.is_terminal:
        out.print(_table(rows))
    else:
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
    err.print(f"{len(found)} structure types. Materials Project, CC BY 4.0; names: AFLOW by pymatgen.")
    if draw is not None and found:
        write_whole(draw, _picture(found[:MOST_DRAWN], draw.suffix[1:]))
        err.print(f"Wrote {shown(draw)}.")


def _table(rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Column, Table

    table = Table(*(Column(title, no_wrap=title in ("template", "some")) for title in rows[0]), box=None)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _picture(types: Sequence[Prototype], form: str) -> bytes:
    """Draw the crystals in a grid, each along a direction that shows its atoms side by side."""
    from io import BytesIO

    from ase.visualize.plot import plot_atoms
    from matplotlib.figure import Figure

    rows = -(-len(types) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.8 * rows), layout="constrained")
    for axes, item in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, types, strict=False):
        plot_atoms(item.structure.to_ase_atoms(), axes, radii=0.5, rotation="-75x,15y,5z")
        axes.set_title(f"{item.formula}\n{item.name or item.anonymous_formula} ({item.space_group})", fontsize=9)
    for axes in figure.axes:
        axes.set_axis_off()
    file = BytesIO()
    figure.savefig(file, format=form, dpi=120)
    return file.getvalue()
