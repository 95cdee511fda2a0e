"""Draw substitutions of AFLOW prototypes at random from the whole periodic table."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pymatgen.core import Composition, Element
from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor

from cryslator_flows.crystals.candidate_rows import substituted_formula
from cryslator_flows.crystals.substitution import is_charge_balanced, rescale, substitute, template_elements
from cryslator_flows.crystals.templates import AflowTemplates
from cryslator_flows.documents.candidates import Template
from cryslator_flows.pairs.align import MAX_VOLUME
from cryslator_flows.training.records import read_lines

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from pymatgen.core import Structure

MAX_ATOMS = 20
# Each kind of anion is drawn as often as the others.
ANIONS = (("O",), ("F", "Cl", "Br", "I"), ("S", "Se", "Te"), ("N", "P", "As", "Sb"))
# Metals and metalloids that the potentials know.
CATIONS = [
    element
    for element in map(Element.from_Z, range(1, 95))
    if (element.is_metal or element.is_metalloid) and element.symbol not in ("Po", "At", "Fr", "Ra")
]
TRIES = 200


def held_out_formulas(data: Path) -> set[str]:
    """Reduced formulas of validation and test in all files of a folder: by column ``split``, or by the file's name."""
    formulas = set()
    for path in sorted(data.glob("*.jsonl.gz")):
        by_name = next((part for part in ("val", "test") if path.name.endswith(f"_{part}.jsonl.gz")), None)
        for _, row in read_lines(path):
            if row.get("split", by_name) in ("val", "test") or by_name:
                formulas.add(str(Composition(Counter(row["species"])).reduced_formula))
    return formulas


def prototypes(held_out: set[str]) -> list[Template]:
    """AFLOW prototypes of at least two elements, those of held-out formulas apart."""
    found = []
    for template in AflowTemplates(max_atoms=MAX_ATOMS).load():
        if isinstance(template, Template):
            composition = template.structure.composition
            if len(composition.elements) > 1 and composition.reduced_formula not in held_out:
                found.append(template)
    return found


@dataclass
class Draw:
    """A seeded random draw of charge-balanced substitutions, each one once.

    Parameters
    ----------
    held_out : set of str
        Reduced formulas that no candidate may have.
    generator : Random
        Seeded.
    drawn : set
        What was drawn already.
    predictor : DLSVolumePredictor
        Predicts volumes from bond lengths.
    """

    held_out: set[str]
    generator: random.Random
    drawn: set[tuple[str, ...]] = field(default_factory=set)
    predictor: DLSVolumePredictor = field(default_factory=DLSVolumePredictor)

    def maps(self, template: Template, number: int, any_volume: bool) -> list[dict[str, str]]:
        """Return up to `number` new substitutions for all elements of a template.

        The most electronegative element becomes an anion; the others become metals or metalloids less electronegative
        than it.

        Parameters
        ----------
        template : Template
            The template.
        number : int
            How many to draw.
        any_volume : bool
            Allow substitutions whose predicted volume is too far from the volume of the template to make a pair.
        """
        found = (self._map(template, any_volume) for _ in range(number))
        return [mapping for mapping in found if mapping is not None]

    def _map(self, template: Template, any_volume: bool) -> dict[str, str] | None:
        """Return a new substitution with one kind of anion; None if a number of tries gives none."""
        structure = template.structure
        elements = template_elements(structure)
        amounts = structure.composition.element_composition.get_el_amt_dict()
        anions = self.generator.choice(ANIONS)
        for _ in range(TRIES):
            anion = self.generator.choice(anions)
            pool = [element.symbol for element in CATIONS if element.X < Element(anion).X]
            mapping = dict(zip(elements, [*self.generator.sample(pool, len(elements) - 1), anion], strict=True))
            formula, key = substituted_formula(amounts, mapping), (template.template_id, *mapping.values())
            if formula.text in self.held_out or key in self.drawn or not is_charge_balanced(formula.amounts):
                continue
            if any_volume or self._keeps_volume(substitute(structure, mapping)):
                self.drawn.add(key)
                return mapping
        return None

    def _keeps_volume(self, structure: Structure) -> bool:
        """Check that the predicted volume is near enough for a pair."""
        predicted = rescale(structure, self.predictor).volume
        return abs(math.log(predicted / structure.volume)) < MAX_VOLUME
