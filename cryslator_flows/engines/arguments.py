"""Checks of the arguments that a campaign file gives to a relax maker, before any relaxation starts."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING, Any

from jobflow import Maker

from cryslator_flows.errors import CampaignError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "float": (int, float), "str": (str,), "dict": (dict,), "list": (list,),
    "Sequence": (list, tuple), "None": (type(None),),
}  # fmt: skip
WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text", "dict": "a map",
         "list": "a list", "Sequence": "a list"}  # fmt: skip
# With fewer steps atomate2 calculates a single point and calls it converged.
LEAST_STEPS = 2


def check_argument_kinds(maker_class: type, kwargs: dict[str, Any], key: str) -> None:
    """Refuse arguments of another kind than the field of a class, and numbers of steps that relax nothing.

    Parameters
    ----------
    maker_class : type
        A maker, or another dataclass. Fields with an annotation beyond Python's plain types are left to it.
    kwargs : dict
        Its arguments.
    key : str
        Their key in the campaign file.

    Raises
    ------
    CampaignError
        An argument does not fit.
    """
    annotations = {
        field.name: field.type.__name__ if isinstance(field.type, type) else str(field.type)
        for field in fields(maker_class)
    }
    check_kinds(annotations, kwargs, key)
    for name in ("steps", "max_steps"):
        if isinstance(steps := kwargs.get(name), int) and steps < LEAST_STEPS:
            raise CampaignError(f"{key}.{name}: {steps} steps relax nothing; give {LEAST_STEPS} or more")


def check_kinds(annotations: Mapping[str, str], given: Mapping[str, Any], key: str) -> None:
    """Refuse arguments of another kind than their annotation.

    Parameters
    ----------
    annotations : dict
        Annotation of each argument as text; annotations beyond Python's plain types and makers pass.
    given : dict
        The arguments.
    key : str
        Their key in the campaign file.

    Raises
    ------
    CampaignError
        An argument does not fit.
    """
    for name, annotation in annotations.items():
        kinds = [part.strip().partition("[")[0] for part in annotation.split("|")]
        if name not in given or not all(kind in KINDS or kind.endswith("Maker") for kind in kinds):
            continue
        value = given[name]
        # A bool is an int to Python.
        if not isinstance(value, tuple(kind for word in kinds for kind in KINDS.get(word, (Maker,)))) or (
            isinstance(value, bool) and "bool" not in kinds
        ):
            wanted = " or ".join(WORDS[word] for word in kinds if word in WORDS) or "the maker's own choice"
            raise CampaignError(f"{key}.{name}: expected {wanted}, not {value!r}")


def check_ase_arguments(maker: Maker, key: str) -> None:
    """Refuse arguments of the optimizer that make every relaxation of an ASE maker fail.

    Parameters
    ----------
    maker : Maker
        Any relax maker; makers of other codes pass.
    key : str
        The key of its arguments in the campaign file.

    Raises
    ------
    CampaignError
        The optimizer or an argument is unknown, or the force tolerance is not above zero.
    """
    from atomate2.ase.jobs import AseRelaxMaker
    from atomate2.ase.utils import OPTIMIZERS, AseRelaxer

    if not isinstance(maker, AseRelaxMaker):
        return
    _check_known(maker.optimizer_kwargs, signature(AseRelaxer).parameters, f"{key}.optimizer_kwargs")
    optimizer = maker.optimizer_kwargs.get("optimizer", "FIRE")
    if not isinstance(optimizer, type):
        if str(optimizer) not in OPTIMIZERS:
            raise CampaignError(
                f"{key}.optimizer_kwargs.optimizer: {optimizer!r} is unknown; {nearest(str(optimizer), OPTIMIZERS)}"
            )
        optimizer = OPTIMIZERS[optimizer]
    # The relaxer passes unknown arguments on to the optimizer.
    known = {name for base in optimizer.__mro__[:-1] for name in signature(base).parameters}
    known |= signature(AseRelaxer.relax).parameters.keys() - {"self", "atoms", "steps"}
    _check_known(maker.relax_kwargs, known, f"{key}.relax_kwargs")
    fmax = maker.relax_kwargs.get("fmax", 0.1)
    if isinstance(fmax, bool) or not isinstance(fmax, int | float) or fmax <= 0:
        raise CampaignError(f"{key}.relax_kwargs.fmax: expected a number above 0, in eV/angstrom, not {fmax!r}")


def _check_known(given: Iterable[str], known: Iterable[str], key: str) -> None:
    if unknown := [name for name in given if name not in known]:
        raise CampaignError(f"{key}.{unknown[0]}: unknown; {nearest(unknown[0], known)}")
