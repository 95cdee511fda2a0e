"""Measure what counts as in domain, and how often the intervals hold there, on candidates outside the oxides.

Example: python workflows/domain/measure.py runs/domain

Each family is drawn at random from the package's prototypes: ternary crystals of at most 10 atoms whose elements are
substituted, see `FAMILIES`. No drawn formula is a known compound, so that no training crystal has it. The translated
structures are relaxed with CHGNet. Its energies become formation energies by energies of the elements that are fitted
to known compounds, as in a campaign with a potential. Stop the script at any time: the same command continues.
``--again`` translates the candidates of `results.jsonl` once more and relaxes nothing.
"""

from __future__ import annotations

import argparse
import json
import random
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.core import Composition, Structure

from cryslator_flows.crystals.compound_classes import CLASSES, compound_class
from cryslator_flows.crystals.prototypes import Prototype, prototypes
from cryslator_flows.crystals.substitution import is_charge_balanced, substitute, template_elements
from cryslator_flows.engines.by_name import chgnet_maker
from cryslator_flows.jobs.potential_relax import relax_all
from cryslator_flows.screening.fitted_references import FittedReferences, reference_compounds
from cryslator_flows.screening.known_phases import known_phases
from cryslator_flows.system.whole_files import write_whole
from cryslator_flows.translator.model_folder import find_model
from cryslator_flows.translator.translator import Translator

if TYPE_CHECKING:
    from cryslator_flows.documents.candidates import Translation

HERE = Path(__file__).parent
RESULTS, MODEL = "results.jsonl", "cryslator-universal"
MOST_ATOMS = 10
# Metals of every kind; few training crystals have technetium or protactinium.
METALS = [
    "Li", "Na", "K", "Cs", "Mg", "Ca", "Ba", "Al", "Ga", "In", "Sn", "Sc", "Y", "La", "Ti", "Zr", "Nb",
    "V", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Tc", "Pa",
]  # fmt: skip
HEUSLER_GROUPS = 216, 225


@dataclass(frozen=True)
class Family:
    """Candidates of one kind.

    Parameters
    ----------
    name : str
        Its name.
    kind : str
        Class of compound of its prototypes.
    anions : tuple of str
        Anions that replace the anion of a prototype; empty to substitute metals alone.
    """

    name: str
    kind: str
    anions: tuple[str, ...]

    def has(self, item: Prototype) -> bool:
        """Return True for a prototype of the family."""
        if len(item.elements) != 3 or len(item.species) > MOST_ATOMS or compound_class(item.species) != self.kind:
            return False
        if not self.anions:
            return item.row["space_group"] in HEUSLER_GROUPS and len(item.species) <= 4
        # One anion, the most electronegative element: N for nitrides, not CN or NH.
        anionic = set().union(*CLASSES.values()) & item.elements
        return len(anionic) == 1 and template_elements(item.structure)[-1] in anionic


FAMILIES = (
    Family("sulfides", "chalcogenides", ("S",)),
    Family("halides", "halides", ("F", "Cl", "Br")),
    Family("nitrides", "pnictides", ("N",)),
    Family("Heuslers", "intermetallics", ()),
)


def draw(family: Family, number: int, seed: int) -> dict[str, Structure]:
    """Return candidates of a family by reduced formula; charge-balanced unless it has no anion."""
    generator = random.Random(f"{family.name} {seed}")
    templates = [item for item in prototypes() if family.has(item)]
    found: dict[str, Structure] = {}
    while len(found) < number:
        item = generator.choice(templates)
        structure = item.structure
        *metals, last = template_elements(structure)
        drawn = generator.sample(METALS, len(metals) if family.anions else len(metals) + 1)
        mapping = dict(zip([*metals, last], [*drawn, generator.choice(family.anions or drawn[-1:])], strict=False))
        candidate = substitute(structure, mapping)
        composition = candidate.composition
        amounts = {symbol: int(count) for symbol, count in composition.get_el_amt_dict().items()}
        if family.anions and not is_charge_balanced(amounts):
            continue
        formula = composition.reduced_formula
        if formula not in known_phases([frozenset(amounts)]):
            found.setdefault(formula, candidate)
    return found


def row_of(family: str, formula: str, translation: Translation) -> dict[str, Any]:
    """Return what the translator predicts for a candidate."""
    return {
        "family": family,
        "formula": formula,
        "predicted": round(translation.formation_energy_per_atom, 4),
        "half_width": round(translation.formation_energy_uncertainty_90, 4),
        "reason": translation.domain_reason,
    }


def measure(folder: Path, number: int, seed: int) -> None:
    """Draw, translate and relax all candidates and the known compounds, and write the rows."""
    translator = Translator.from_pretrained(MODEL)
    drawn = [(family.name, *item) for family in FAMILIES for item in draw(family, number, seed).items()]
    # One by one: a batch of other crystals would change the last digits, and a larger number relax all again.
    translated = {(family, formula): translator.translate(structure) for family, formula, structure in drawn}
    elements = sorted({symbol for _, formula in translated for symbol in Composition(formula).get_el_amt_dict()})
    compounds = reference_compounds(elements)
    print(f"{len(translated)} candidates, {len(compounds)} known compounds", flush=True)
    maker = chgnet_maker()
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):
        known: dict[str, float] = {}
        for item in relax_all(maker, compounds.items()):
            if item.energy_per_atom is not None:
                known[item.name] = item.energy_per_atom
        references = FittedReferences.fit(known)
        print(f"{len(known)} known compounds, error {references.error:.3f} eV/atom", flush=True)
        rows = []
        for key, translation in translated.items():
            (item,) = relax_all(maker, [(key[1], translation.structure)])
            energy = None if item.energy_per_atom is None else references.formation_energy(key[1], item.energy_per_atom)
            relaxed = {"potential": None if energy is None else round(energy, 4), "error": item.error}
            rows.append(row_of(*key, translation) | relaxed | {"converged": item.converged})
    write(rows, {"potential_error": round(references.error, 4), "n_compounds": references.n_compounds, "seed": seed})


def translate_again() -> None:
    """Translate the candidates of the rows with the model as it is now; energies by the potential stay."""
    head, *rows = map(json.loads, (HERE / RESULTS).read_text().splitlines())
    number = max(sum(row["family"] == family.name for row in rows) for family in FAMILIES)
    translator = Translator.from_pretrained(MODEL)
    for family in FAMILIES:
        items = draw(family, number, head["seed"])
        for row in rows:
            if row["family"] == family.name:
                row |= row_of(family.name, row["formula"], translator.translate(items[row["formula"]]))
    write(rows, {name: head[name] for name in ("potential_error", "n_compounds", "seed")})


def write(rows: list[dict[str, Any]], head: dict[str, Any]) -> None:
    """Write `results.jsonl`: first the model with its scores against DFT on the test pairs, then the candidates."""
    model = find_model(MODEL)
    scores = [
        {"class": part["chemistry"], "targets": part["n_energies"], **score["uncertainty"]}
        for part in model.metrics()["test"]
        if part["chemistry"] in ("all", *CLASSES)
        for score in part["scores"]
        if (score["method"], score["input"]) == (MODEL, "unrelaxed")
    ]
    first = {"model": MODEL, "version": model.version(), **head, "dft": scores}
    write_whole(HERE / RESULTS, "".join(json.dumps(row) + "\n" for row in (first, *rows)))


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/domain"), help="folder of the relaxations")
    parser.add_argument("--number", type=int, default=15, help="candidates of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="translate once more, relax nothing")
    arguments = parser.parse_args()
    if arguments.again:
        translate_again()
    else:
        measure(arguments.folder, arguments.number, arguments.seed)


if __name__ == "__main__":
    main()
