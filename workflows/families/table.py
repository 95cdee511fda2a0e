"""Enumerate and translate twelve families of the library of structure types, and print what each yields.

Example: python workflows/families/table.py
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.progress import track

from cryslator_flows.api import Campaign
from cryslator_flows.crystals.enumeration import Enumeration
from cryslator_flows.screening.hulls import Competition
from cryslator_flows.screening.known_phases import known_phases, symbols_of
from cryslator_flows.system.console import markdown_table
from cryslator_flows.translator.translator import Translator

# A candidate at most so far above the hull of known compounds is promising, in eV/atom.
NEAR = 0.05

METALS = ["Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni"]
# Filters of the library, then a pool of new elements for each element of the crystal there.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "elpasolites": (
        {"anonymous_formulas": ["ABC2D6"], "space_groups": [225], "min_members": 1000},
        {"Ba": ["K", "Rb", "Cs"], "Er": ["Li", "Na", "Ag"], "U": ["Al", "In", "Sb", "Bi"], "O": ["F", "Cl", "Br", "I"]},
    ),
    "Heuslers": (
        {"names": ["Heusler"]},
        {"Te": ["Mn", "Fe", "Co", "Ni"], "Na": ["Ti", "V", "Zr", "Nb"], "Ac": ["Al", "Ga", "In", "Si", "Sn"]},
    ),
    "half-Heuslers": (
        {"names": ["half-Heusler"]},
        {"La": ["Fe", "Co", "Ni", "Cu"], "O": ["Ti", "Zr", "Hf", "Nb"], "F": ["Sn", "Sb", "Bi"]},
    ),
    "nitrides II-IV-N2": (
        {"anonymous_formulas": ["ABC2"], "space_groups": [33]},
        {"Na": ["Mg", "Ca", "Zn", "Cd"], "Al": ["Si", "Ge", "Sn", "Ti", "Zr"], "O": ["N"]},
    ),
    "layered cathodes": (
        {"anonymous_formulas": ["ABC2"], "space_groups": [166], "min_members": 100},
        {"Li": ["Li", "Na", "K"], "Lu": METALS, "O": ["O", "S"]},
    ),
    "olivines": ({"names": ["Olivine"]}, {}),
    "spinels": (
        {"names": ["Spinel"]},
        {"Ca": ["Mg", "Zn", *METALS], "Tm": ["Al", "Ga", "In", *METALS], "O": ["O", "S"]},
    ),
    "garnets": ({"names": ["Garnet"]}, {}),
    "MAX phases": (
        {"names": ["MAX Phase"]},
        {"Ti": ["Ti", "V", "Zr", "Nb", "Hf", "Ta"], "Ga": ["Al", "Si", "Ga", "Ge", "In", "Sn"], "C": ["C", "N"]},
    ),
    "Ruddlesden-Popper": (
        {"anonymous_formulas": ["AB2C4"], "space_groups": [139], "min_members": 100},
        {"Sr": ["Ca", "Sr", "Ba"], "Hf": ["Ti", "Zr", "Hf", "Sn", "Mn"], "O": ["O", "S", "Se"]},
    ),
    "chalcopyrites": (
        {"names": ["Chalcopyrite"]},
        {"Li": ["Li", "Cu", "Ag"], "B": ["Al", "Ga", "In"], "O": ["S", "Se", "Te"]},
    ),
    "pyrochlores": (
        {"anonymous_formulas": ["A2B2C7"], "space_groups": [227]},
        {"La": ["Sc", "Y", "La", "In", "Bi"], "Hf": ["Ti", "Zr", "Hf", "Ge", "Sn"], "O": ["O"]},
    ),
}


def yielded(name: str, translator: Translator) -> list[str]:
    """Enumerate a family and translate it; returns the cells of its row."""
    filters, pools = FAMILIES[name]
    if not pools:
        return [name, "0", *[""] * 6]
    campaign = Campaign.model_validate({
        "name": "family",
        "templates": [{"source": "prototypes", **filters}],
        "substitutions": [{"kind": "species", "pools": pools}],
        # Intermetallics have no oxidation states.
        "enumeration": {"charge_balanced": "eusler" not in name and name != "MAX phases"},
    })  # fmt: skip
    templates = [template for source in campaign.templates for template in source.load()]
    candidates = list(
        Enumeration(templates, campaign.substitutions, charge_balanced=campaign.enumeration.charge_balanced)
    )
    translations = translator.translate_many(candidate.structure for candidate in candidates)
    formulas = [candidate.reduced_formula for candidate in candidates]
    above = Competition({}).energies_above(formulas, [item.formation_energy_per_atom for item in translations])
    known = known_phases(map(symbols_of, formulas))
    near = [formula for formula, energy in zip(formulas, above, strict=True) if energy <= NEAR]
    unknown = [formula for formula in near if formula not in known]
    inside = sum(not item.out_of_domain for item in translations) / len(translations)
    best = min(zip(above, formulas, strict=True), key=lambda row: row[0])
    return [
        name,
        str(len(templates)),
        str(len(candidates)),
        f"{inside:.0%}",
        str(len(near)),
        str(len(set(unknown))),
        f"{best[1]} ({best[0]:+.3f})",
        f"`{{{', '.join(f'{key}: {value}' for key, value in filters.items())}}}`".replace("'", ""),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=[*FAMILIES], help="names of families; all if left out")
    families = parser.parse_args().families
    translator = Translator.from_pretrained()
    rows = [yielded(name, translator) for name in track(families, "families", console=Console(stderr=True))]
    header = ["family", "templates", "candidates", "in domain", f"at most {NEAR} eV/atom above the known hull",
              "of these new formulas", "lowest (eV/atom)", "filters"]  # fmt: skip
    print(f"{translator.name}, version {translator.version}\n\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    main()
