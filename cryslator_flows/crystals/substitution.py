"""Substitution spaces: sets of new elements for the elements of a template."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product
from math import inf
from operator import contains
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pymatgen.core import Composition, Element, Structure

from cryslator_flows.config import StrictModel
from cryslator_flows.crystals.moments import carry_moments
from cryslator_flows.errors import StructureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor


def _known(symbol: Any) -> Any:
    if isinstance(symbol, bool):
        raise ValueError("YAML reads No, Yes, On and Off as true or false; put the element symbol in quotes")
    if isinstance(symbol, str) and not Element.is_valid_symbol(symbol):
        raise ValueError(f"{symbol!r} is not an element symbol")
    if isinstance(symbol, str) and Element.from_Z(Element(symbol).Z).symbol != symbol:
        raise ValueError(f"{symbol!r} is an isotope; write 'H', which stands for all isotopes of hydrogen")
    return symbol


def _readable(formula: Any) -> Any:
    if isinstance(formula, str):
        try:
            readable = 0 < Composition(formula, strict=True).num_atoms < inf
        except ValueError:
            readable = False
        if not readable:
            raise ValueError(f"{formula!r} is not a formula of elements; write one as 'CaTiO3'")
    return formula


Symbol = Annotated[str, BeforeValidator(_known)]
Formula = Annotated[str, BeforeValidator(_readable)]
Pool = Annotated[list[Symbol], Field(min_length=1)]
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Substitution:
    """New elements for the elements of a template.

    Parameters
    ----------
    mapping : dict
        Template element to new element, for every element of the template.
    probability : float or None
        Probability by pymatgen's substitution predictor; None from the other spaces.
    """

    mapping: dict[str, str]
    probability: float | None = None


def template_elements(structure: Structure) -> list[str]:
    """Return the element symbols of a template, most electropositive first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [element.symbol for element in sorted(map(Element, set(site_elements(structure))))]


def site_elements(structure: Structure) -> list[str]:
    """Return the element symbol of every site, without oxidation states, spins and isotopes."""
    return [Element.from_Z(specie.Z).symbol for specie in structure.species]


def charges_of(structure: Structure) -> list[str]:
    """Name the kinds of charges that a template has and its candidates do not: their elements have other charges."""
    kinds = {
        "oxidation states": any(getattr(specie, "oxi_state", None) for specie in structure.composition),
        # The property `charge` would add oxidation states up where no charge is set.
        "total charge": bool(structure._charge),
        "site charges": "charge" in structure.site_properties,
    }
    return [name for name, there in kinds.items() if there]


class ExplicitMaps(StrictModel):
    """Substitutions given one by one. Elements left out are kept."""

    kind: Literal["maps"] = Field(description="Substitutions given one by one")
    maps: list[dict[Symbol, Symbol]] = Field(min_length=1, description="Maps of template element to new element")

    def substitutions(self, structure: Structure) -> Iterator[Substitution]:
        """Yield the maps whose elements are all in the template."""
        elements = template_elements(structure)
        for mapping in self.maps:
            if set(mapping) <= set(elements):
                yield Substitution({element: mapping.get(element, element) for element in elements})


class SpeciesPools(StrictModel):
    """A pool of new elements for each named element of the templates. Elements left out are kept."""

    kind: Literal["species"] = Field(description="Pools for named elements")
    pools: dict[Symbol, Pool] = Field(min_length=1, description="Template element to its pool of new elements")

    def substitutions(self, structure: Structure) -> Iterator[Substitution]:
        """Yield all combinations of the pools, if the template has every named element."""
        elements = template_elements(structure)
        if set(self.pools) <= set(elements):
            for choice in product(*(self.pools.get(element, [element]) for element in elements)):
                if len(set(choice)) == len(elements):
                    yield Substitution(dict(zip(elements, choice, strict=True)))


class RolePools(StrictModel):
    """Pools for the cations in any order, and for the anion.

    The anion is the most electronegative element of a template. Every other element takes one pool, in every
    possible assignment. Templates with another number of cations than pools give no substitution.
    """

    kind: Literal["roles"] = Field(description="Pools for cations in any order")
    cations: list[Pool] = Field(min_length=1, description="One pool of new elements for each cation")
    anions: Pool | None = Field(None, description="Pool of new elements for the anion, which is kept without this key")

    def substitutions(self, structure: Structure) -> Iterator[Substitution]:
        """Yield all assignments of pools to cations and all combinations of their elements, each once."""
        *cations, anion = elements = template_elements(structure)
        if len(cations) != len(self.cations):
            return
        anions = dict.fromkeys(self.anions or [anion])
        before: list[tuple[frozenset[str], ...]] = []
        for pools in dict.fromkeys(permutations(tuple(dict.fromkeys(pool)) for pool in self.cations)):
            for choice in product(*pools, anions):
                if len(set(choice)) == len(choice) and not _in_any(choice, before):
                    yield Substitution(dict(zip(elements, choice, strict=True)))
            before.append(tuple(map(frozenset, pools)))


def _in_any(choice: tuple[str, ...], assignments: list[tuple[frozenset[str], ...]]) -> bool:
    """Return True if one of these assignments of pools also gives a choice of cations and anion."""
    return any(all(map(contains, pools, choice)) for pools in assignments)


class PredictedSubstitutions(StrictModel):
    """Likely substitutions by pymatgen's substitution predictor, most likely first.

    G. Hautier, C. Fischer, V. Ehrlacher, A. Jain and G. Ceder, "Data mined ionic substitutions for the discovery of
    new compounds", Inorg. Chem. 50, 656 (2011). Oxidation states of the template are guessed by pymatgen.
    """

    kind: Literal["predicted"] = Field(description="Substitutions predicted by pymatgen")
    threshold: float = Field(0.001, gt=0, le=1, description="Least probability of a substitution")
    elements: list[Symbol] | None = Field(None, description="Allowed new elements; all if left out")
    max_per_template: int = Field(100, ge=1, description="Largest number of substitutions for each template")

    def substitutions(self, structure: Structure) -> Iterator[Substitution]:
        """Yield the most probable substitutions that change the template and keep its elements distinct."""
        from pymatgen.core.structure_prediction.substitution_probability import SubstitutionPredictor

        composition = structure.composition.element_composition
        guesses = composition.oxi_state_guesses(max_sites=-1)
        if not guesses:
            return
        species = Composition({
            f"{symbol}{abs(state):g}{'+' if state >= 0 else '-'}": composition[symbol]
            for symbol, state in guesses[0].items()
        })  # fmt: skip
        try:
            found = SubstitutionPredictor(threshold=self.threshold).composition_prediction(
                species, to_this_composition=False
            )
        except ValueError:
            return
        kept = 0
        for row in sorted(found, key=lambda row: -row["probability"]):
            mapping = {old.symbol: new.symbol for old, new in row["substitutions"].items()}
            allowed = self.elements is None or set(self.elements).issuperset(mapping.values())
            changed = any(old != new for old, new in mapping.items())
            if allowed and changed and len(set(mapping.values())) == len(mapping):
                yield Substitution(mapping, row["probability"])
                kept += 1
                if kept == self.max_per_template:
                    return


class PartialSubstitution(StrictModel):
    """Shares of elements replaced by others. Every distinct ordering is a candidate; elements left out are kept.

    The settings of `enumeration.orderings` limit their cells and their number. Needs ``cryslator-flows[orderings]``.

    Examples
    --------
    >>> from pymatgen.core import Lattice
    >>> rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> space = PartialSubstitution(kind="partial", shares={"Mg": {"Ni": 0.25}})
    >>> space.disordered(rocksalt).reduced_formula
    'Mg3NiO4'
    """

    kind: Literal["partial"] = Field(description="Shares of elements, in all orderings")
    shares: dict[Symbol, dict[Symbol, Share]] = Field(
        min_length=1, description="Template element to the share of each new element, as in {Co: {Ni: 0.5}}"
    )

    @field_validator("shares")
    @classmethod
    def _at_most_all(cls, shares: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for old, new in shares.items():
            if not new:
                raise ValueError(f"{old}: no new element; give its share, as in {{{old}: {{Ni: 0.5}}}}")
            if old in new:
                raise ValueError(f"{old}: replaces itself; give the shares of new elements alone")
            if (total := sum(new.values())) > 1.005:
                raise ValueError(f"{old}: the shares add up to {total:g}; they are parts of 1")
        return shares

    @property
    def label(self) -> str:
        """Return the shares in short, as in 'Co->Mn0.5Ni0.5'."""
        return " ".join(
            f"{old}->{''.join(f'{symbol}{share:g}' for symbol, share in new.items())}"
            for old, new in self.shares.items()
        )

    def disordered(self, structure: Structure) -> Structure | None:
        """Return the crystal with partial occupancies, or None if it lacks an element that is to be replaced."""
        elements = structure.composition.element_composition
        if not set(self.shares) <= {element.symbol for element in elements}:
            return None
        species = []
        for site in structure:
            amounts: dict[str, float] = {}
            for specie, amount in site.species.items():
                symbol = Element.from_Z(specie.Z).symbol
                new = self.shares.get(symbol, {})
                for other, share in {**new, symbol: max(0.0, 1 - sum(new.values()))}.items():
                    amounts[other] = amounts.get(other, 0.0) + amount * share
            # Rounded shares may add up to a little over 1.
            over = max(1.0, sum(amounts.values()))
            species.append({symbol: amount / over for symbol, amount in amounts.items() if amount > 1e-8})
        return Structure(structure.lattice, species, structure.frac_coords)


class AsGiven(StrictModel):
    """Structures as they are: the output of a generative model, a dump of a database."""

    kind: Literal["as-given"] = Field(description="The structures themselves, without a substitution")

    def substitutions(self, structure: Structure) -> Iterator[Substitution]:
        """Yield the structure itself: every element is kept."""
        yield Substitution({element: element for element in template_elements(structure)})


AnySubstitutionSpace = Annotated[
    ExplicitMaps | SpeciesPools | RolePools | PredictedSubstitutions | PartialSubstitution | AsGiven,
    Field(discriminator="kind"),
]


def substitute(structure: Structure, mapping: dict[str, str]) -> Structure:
    """Replace the elements of a template. Cell and positions are kept.

    Parameters
    ----------
    structure : Structure
        The template. Magnetic moments are all that is kept besides cell and positions, see `carry_moments`.
    mapping : dict
        Template element to new element.

    Returns
    -------
    Structure
        The unrelaxed structure, sites in the order of the template.

    Raises
    ------
    StructureError
        An element of the template is not in `mapping`.
    """
    symbols = site_elements(structure)
    if missing := set(symbols) - set(mapping):
        raise StructureError(f"substitution, mapping: no new element for {sorted(missing)}; name every element")
    new = [mapping[symbol] for symbol in symbols]
    moments = carry_moments(structure, new)
    properties = {} if moments is None else {"magmom": moments}
    return Structure(structure.lattice, new, structure.frac_coords, site_properties=properties)


@lru_cache(maxsize=50_000)
def _possible_charges(*atoms: tuple[str, int]) -> tuple[int, int]:
    """Return all total charges of some atoms, in elementary charges.

    Parameters
    ----------
    *atoms : (str, int)
        Symbols and numbers of atoms.

    Returns
    -------
    int
        The lowest.
    int
        Bits of possible charges: bit n is set if the lowest charge plus n is possible. 0 without any charge.
    """
    (symbol, amount), *others = atoms
    if others:
        (lowest, charges), (more, added) = _possible_charges((symbol, amount)), _possible_charges(*others)
        return lowest + more, _sums(charges, added)
    element = Element(symbol)
    states = element.icsd_oxidation_states or element.common_oxidation_states
    if not states:
        return 0, 0
    single = sum(1 << state - min(states) for state in set(states))
    charges = 1
    for _ in range(amount):
        charges = _sums(charges, single)
    return amount * min(states), charges


def _sums(first: int, second: int) -> int:
    """Return a number whose bits are at all sums of a bit position of one number and one of the other."""
    sums = 0
    for position in range(second.bit_length()):
        if second >> position & 1:
            sums |= first << position
    return sums


@lru_cache(maxsize=50_000)
def _balancing_charges(*atoms: tuple[str, int]) -> tuple[int, int]:
    """Return the charges that these atoms balance, in the form of `_possible_charges`."""
    lowest, charges = _possible_charges(*atoms)
    return 1 - lowest - charges.bit_length(), int(f"{charges:b}"[::-1], 2)


def is_charge_balanced(amounts: dict[str, int]) -> bool:
    """Return True if oxidation states that occur in the ICSD (pymatgen's table) can balance a formula.

    Atoms of one element may have different oxidation states. Crystals of one element are neutral. The result is
    equal to a search by pymatgen's `Composition.oxi_state_guesses`, without its ranking.

    Parameters
    ----------
    amounts : dict
        Symbol to number of atoms in the formula.
    """
    if len(amounts) == 1:
        return True
    # In two halves: the same pairs of elements recur, and their charges are cached.
    atoms = tuple(amounts.items())
    lowest, charges = _possible_charges(*atoms[: len(atoms) // 2])
    other, balancing = _balancing_charges(*atoms[len(atoms) // 2 :])
    shift = other - lowest
    return bool(charges >> shift & balancing if shift >= 0 else charges & balancing >> -shift)


def rescale(structure: Structure, predictor: DLSVolumePredictor) -> Structure:
    """Scale a structure isotropically to the volume that its bond lengths suggest.

    Data-mined lattice scaling of I.-H. Chu, S. Roychowdhury, D. Han, A. Jain and S. P. Ong, Comput. Mater. Sci. 146,
    184 (2018), as in pymatgen. A structure without bond data keeps its volume.

    Parameters
    ----------
    structure : Structure
        The unrelaxed structure.
    predictor : DLSVolumePredictor
        pymatgen's predictor.

    Returns
    -------
    Structure
        A scaled copy.
    """
    try:
        return predictor.get_predicted_structure(structure)
    except (ValueError, RuntimeError):
        return structure
