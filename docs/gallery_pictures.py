"""Draw the pictures of the gallery from its campaigns: ``python -m docs.gallery_pictures FOLDER``.

The folder is where the blocks of ``docs/gallery.md`` were run. `main` runs them there if there are no results yet.
"""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from pathlib import Path
from runpy import run_path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
from monty.serialization import loadfn
from PIL import Image
from pymatgen.analysis.phase_diagram import PhaseDiagram

from cryslator_flows import Campaign
from cryslator_flows.system.look import DARK, GREEN, GREY, LIGHT, VERMILION

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from cryslator_flows.results.frames import CampaignFrames

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs/gallery"
INK = LIGHT["ink"]
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "gallery", "font.family": "sans-serif", "font.size": 11,
    "axes.spines.top": False, "axes.spines.right": False, "figure.figsize": (6.4, 3.6),
    "figure.constrained_layout.use": True, "legend.frameon": False,
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], INK),
}  # fmt: skip
# Text and lines take the colour of the reader's scheme.
SCHEME = (
    f"<style>svg {{ color: {INK} }} @media (prefers-color-scheme: dark) {{ svg {{ color: {DARK['ink']} }} }}</style>"
)


def orderings(results: CampaignFrames, axes: Axes) -> None:
    """Draw the predicted energies of orderings above the lowest, with their space groups."""
    lowest = results.candidates["formation_energy_per_atom"].min()
    for place, (_, row) in enumerate(results.candidates.iterrows()):
        above = 1000 * (row["formation_energy_per_atom"] - lowest)
        axes.barh(place, max(above, 0.3), color=GREEN if place == 0 else GREY)
        axes.annotate(f"{row['n_atoms']} atoms", (above, place), (5, 0), textcoords="offset points", va="center")
    names = [name.partition(", ")[2] for name in results.candidates["template_id"]]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("predicted energy above the lowest ordering (meV/atom)")


def guesses(results: CampaignFrames, axes: Axes) -> None:
    """Draw the volumes of given, translated and relaxed crystals."""
    done = sorted(results.comparisons.values(), key=lambda item: item.relaxation("unrelaxed").structure.volume)
    for structures, color, marker, label in (
        ([item.unrelaxed_structure for item in done], GREY, "s", "as given"),
        ([item.translated_structure for item in done], GREEN, "o", "translated"),
        ([item.relaxation("unrelaxed").structure for item in done], INK, "_", "relaxed with CHGNet"),
    ):
        volumes = [structure.volume / len(structure) for structure in structures]
        axes.plot(range(len(done)), volumes, marker, color=color, ms=14 if marker == "_" else 7, mew=2, label=label)
    axes.set_xticks(range(len(done)), [item.reduced_formula for item in done])
    axes.set_ylabel("volume per atom (Å³)")
    axes.legend()


def carbides(results: CampaignFrames, axes: Axes) -> None:
    """Draw predicted bulk moduli and energies above the hull, and the window of the selection."""
    table = results.candidates
    modulus = 10 ** table["predicted log10_bulk_modulus"]
    above = table["energy_above_known_hull"]
    inside = (modulus >= 10**2.4) & (above <= 0.1)
    axes.fill_between([above.min() - 0.02, 0.1], 10**2.4, 450, color=GREEN, alpha=0.15, lw=0)
    axes.scatter(above[~inside], modulus[~inside], color=GREY, s=18)
    axes.scatter(above[inside], modulus[inside], color=GREEN, s=30)
    best = table[inside].assign(modulus=modulus).sort_values("modulus")
    for place, (_, row) in enumerate(best.iterrows()):
        spot, label = (row["energy_above_known_hull"], row["modulus"]), (0.13, 265 + 25 * place)
        axes.annotate(row["formula"], spot, label, va="center", arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.6})
    axes.set(xlim=(above.min() - 0.02, 0.5), ylim=(150, 450))
    axes.set(xlabel="predicted energy above the known hull (eV/atom)", ylabel="predicted bulk modulus (GPa)")


def aluminides(entries: Path, axes: Axes) -> None:
    """Draw the hull of the engine's energies."""
    diagram = PhaseDiagram(loadfn(entries))
    points = [
        (entry.composition.get_atomic_fraction("Ni"), diagram.get_form_energy_per_atom(entry), entry)
        for entry in diagram.all_entries
    ]
    stable = sorted((x, y, entry.reduced_formula) for x, y, entry in points if entry in diagram.stable_entries)
    unstable = [(x, y) for x, y, entry in points if entry not in diagram.stable_entries]
    axes.plot(*zip(*[spot[:2] for spot in stable], strict=True), "o-", color=GREEN, ms=8, label="stable", zorder=2)
    axes.plot(*zip(*unstable, strict=True), "s", color=GREY, ms=6, label="unstable", zorder=1)
    for x, y, name in stable:
        axes.annotate(name, (x, y), (0, -16), textcoords="offset points", ha="center")
    axes.margins(y=0.18)
    axes.set(xlabel="share of nickel", ylabel="formation energy, CHGNet (eV/atom)")
    axes.legend(loc="upper center")


def rounds(axes: Axes) -> None:
    """Draw the share of the ten most stable sulfides that was found, from the rows of the measurement."""
    report = run_path(str(ROOT / "workflows/rounds/report.py"))
    rows = report["read"]("results.jsonl")
    orders, sought, spent = report["places"](rows), report["most_stable"](rows, 10), range(len(rows) + 1)
    found = {name: report["recall"](sought, order, len(rows)) for name, order in orders.items()}
    seeds = [found[name] for name in found if name != "one-shot"]
    axes.step(spent, sum(seeds) / len(seeds), where="post", color=GREEN, lw=2, label="rounds, mean of three seeds")
    axes.step(spent, found["one-shot"], where="post", color=VERMILION, lw=2, label="one screening")
    axes.plot([0, len(rows)], [0, 1], color=GREY, ls=":", label="random order, expected")
    axes.set(xlabel="relaxations", ylabel="share of the ten found", xlim=(0, len(rows)), ylim=(0, 1.03))
    axes.legend(loc="lower right")


def tuned(axes: Axes) -> None:
    """Draw the measured gain of fine-tuning, from the rows of its measurement."""
    rows = [json.loads(line) for line in (ROOT / "workflows/fine-tuning/results.jsonl").read_text().splitlines()]
    errors = {}
    for row in rows:
        if "replay" not in row["name"]:
            errors.setdefault(row["pairs"], []).append(row["test"]["energy_mae"])
    means = {str(pairs): sum(maes) / len(maes) for pairs, maes in sorted(errors.items())}
    axes.plot(list(means), list(means.values()), "o-", color=GREEN)
    for place, mae in enumerate(means.values()):
        axes.annotate(f"{mae:.3f}", (place, mae), (6, 5), textcoords="offset points")
    axes.set_ylim(0)
    axes.set(xlabel="pairs of the new chemistry", ylabel="energy MAE (eV/atom)")


def space(axes: Axes) -> None:
    """Draw processor time of the enumeration against its candidates, from the table of the measurement."""
    table = (ROOT / "docs/a-million-candidates.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| [\d,]+ \| [\d.]+ \| ([\d.]+) \|", table, flags=re.M)
    axes.loglog(*zip(*[[float(cell.replace(",", "")) for cell in row] for row in rows], strict=True), "o-", color=GREEN)
    axes.set(xlabel="candidates", ylabel="processor time to enumerate (s)")


def save(name: str, draw: Callable[[Axes], None]) -> None:
    """Write a picture that suits light and dark pages."""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots()
        draw(axes)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    head, tag, body = text.getvalue().partition("<defs>")
    (PICTURES / f"{name}.svg").write_text(head + SCHEME + tag + body.replace(INK, "currentColor"))


def main(folder: Path) -> None:
    """Run the gallery where it has not run, and draw its pictures."""
    if not (folder / "runs").exists():
        from tests.support.pages import read_blocks, run_page

        folder.mkdir(parents=True, exist_ok=True)
        run_page(read_blocks(ROOT / "docs/gallery.md"), folder)
    for draw in (orderings, guesses, carbides):
        results = Campaign.from_file(folder / f"{draw.__name__}.yaml").results(folder / "runs" / draw.__name__)
        save(draw.__name__, lambda axes, draw=draw, results=results: draw(results, axes))
    save("aluminides", lambda axes: aluminides(folder / "entries.json", axes))
    types = Image.open(folder / "types.png").convert("RGB")
    types.quantize(32).save(PICTURES / "types.png", optimize=True)
    for draw in (rounds, tuned, space):
        save(draw.__name__, draw)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
