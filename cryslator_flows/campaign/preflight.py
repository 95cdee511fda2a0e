"""Checks before a campaign starts: everything that would fail later is found at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pymatgen.core import Composition

from cryslator_flows.crystals.orderings import NO_ICET
from cryslator_flows.crystals.substitution import PartialSubstitution
from cryslator_flows.errors import CampaignError, ModelError, NotInstalledError, PreflightError, StoreError
from cryslator_flows.screening.known_phases import known_phases, symbols_of
from cryslator_flows.settings import PREFIX, SETTINGS
from cryslator_flows.system.whole_files import is_full, unwritable
from cryslator_flows.translator.model_folder import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from jobflow import Maker

    from cryslator_flows.campaign.file import CampaignSettings
    from cryslator_flows.campaign.survey import Survey

# Larger differences to the same known compound are no errors of a functional or a measurement, in eV/atom.
OTHER_SCALE = 0.5


@dataclass(frozen=True)
class Finding:
    """A problem of a campaign.

    Parameters
    ----------
    message : str
        Problem, place and fix.
    is_error : bool
        True if the campaign must not start with it.
    """

    message: str
    is_error: bool = True


def refuse(findings: Iterable[Finding]) -> list[str]:
    """Return the messages of findings that are no errors.

    Raises
    ------
    PreflightError
        Some are errors.
    """
    findings = list(findings)
    if errors := [finding.message for finding in findings if finding.is_error]:
        raise PreflightError(errors)
    return [finding.message for finding in findings]


def check_campaign(
    campaign: CampaignSettings, elements: Callable[[], Collection[str]], here: bool = True, load: bool = True
) -> list[Finding]:
    """Check the model, the packages of filters, the potentials and VASP.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    elements : callable
        Returns the elements that its candidates have; called only where they matter.
    here : bool
        True if it runs on this machine. Workers elsewhere have other potentials, VASP and POTCARs.
    load : bool
        True to load the weights of potentials, which takes seconds.

    Returns
    -------
    list of Finding
        All problems; each names file and key if the campaign comes from a file.
    """
    found = [*_check_model(campaign), *_check_icet(campaign, here)]
    if here:
        try:
            campaign.enumeration.filters.check_installed()
        except NotInstalledError as error:
            found.append(Finding(str(error)))
    for make in (_potential_makers, _relax_makers):
        try:
            makers = make(campaign)
        except CampaignError as error:
            found.append(Finding(str(error)))
            continue
        for key, maker in makers.items():
            found += [*_check_potential(maker, key, load)] if here else []
            found += _check_vasp(maker, elements, here)
    return [Finding(campaign.located(finding.message), finding.is_error) for finding in found]


def check_candidates(campaign: CampaignSettings, survey: Survey) -> list[Finding]:
    """Note the numbers of a campaign file that do not fit its candidates or the known compounds.

    Parameters
    ----------
    campaign : CampaignSettings
        The campaign.
    survey : Survey
        Its candidates; without all of them only the energies are checked.
    """
    references = campaign.selection.references
    given = references if isinstance(references, dict) else {}
    found = [*_other_scale(given)] if campaign.selection.known_phases else []
    if survey.is_complete and survey.counts.unique:
        found += _never_used("selection.references", given, survey.elements)
        found += _never_used("relaxation.element_energies", campaign.element_energies, survey.elements)
        found += _small_space(campaign, survey.counts.unique)
    return [Finding(campaign.located(message), is_error=False) for message in found]


def check_folder(folder: Path) -> list[Finding]:
    """Check that a folder, and the ledger of its campaign, can be written; nothing is written.

    Parameters
    ----------
    folder : Path
        The folder, which may not exist yet.
    """
    found = []
    for path, name in ((folder, ""), (SETTINGS.ledger, f"{PREFIX}LEDGER: ")):
        error = None if path is None else _why_unwritable(path.absolute())
        if error is not None:
            found.append(Finding(f"{name}{error}"))
    return found


def _why_unwritable(path: Path) -> StoreError | None:
    exists = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
    if not exists.is_dir():
        return unwritable(path, NotADirectoryError(20, "Not a directory"))
    if not os.access(exists, os.W_OK | os.X_OK):
        return unwritable(path, PermissionError(13, "Permission denied"))
    return unwritable(path, OSError(), full=True) if is_full(path) else None


def _other_scale(references: dict[str, float]) -> Iterator[str]:
    """Find references far from the same known compound: other units, or total energies."""
    known = known_phases(symbols_of(formula) for formula in references)
    far = []
    for formula, energy in references.items():
        other = known.get(Composition(formula).reduced_formula)
        if other is not None and abs(energy - other) > OTHER_SCALE:
            far.append(f"{formula} {energy:g}, known {other:.2f}")
    if far:
        yield (
            f"selection.references: {_some(far)}: on another scale; give formation energies in eV/atom on the "
            "scale of the known compounds, or set known_phases: false"
        )


def _never_used(key: str, given: dict[str, float], elements: Collection[str]) -> Iterator[str]:
    """Find formulas with an element that no candidate has."""
    if unused := [formula for formula in given if not symbols_of(formula).issubset(elements)]:
        yield f"{key}: {_some(unused)}: no candidate has these elements; remove what changes nothing"


def _small_space(campaign: CampaignSettings, candidates: int) -> Iterator[str]:
    size = None if campaign.potential is None else campaign.potential.adapt
    if size is not None and size > candidates:
        yield (
            f"potential.adapt: {size} candidates for the sample, but there are {candidates}, and all are taken; give a "
            "smaller number, or remove the key: a potential that relaxes all needs no translator"
        )


def _some(names: Collection[str]) -> str:
    """Name the first three."""
    first = ", ".join(list(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def _potential_makers(campaign: CampaignSettings) -> dict[str, Maker]:
    return {} if campaign.potential is None else {"potential": campaign.potential.relax_maker()}


def _relax_makers(campaign: CampaignSettings) -> dict[str, Maker]:
    """Return the makers of the relaxations by their keys."""
    if campaign.relaxation is None:
        return {}
    comparison_maker = campaign.relaxation.comparison_maker()
    makers = {"relaxation": comparison_maker.relax_maker}
    if campaign.potential is None and campaign.relaxation.needs_potential:
        makers["relaxation.mlip"] = comparison_maker.mlip_maker
    return makers


def _check_model(campaign: CampaignSettings) -> Iterator[Finding]:
    try:
        find_model(campaign.model).config()
    except ModelError as error:
        yield Finding(str(error))


def _check_icet(campaign: CampaignSettings, here: bool) -> Iterator[Finding]:
    needs = [number for number, space in enumerate(campaign.substitutions) if isinstance(space, PartialSubstitution)]
    if needs and here and find_spec("icet") is None:
        yield Finding(f"substitutions.{needs[0]}.kind: {NO_ICET}")


def _check_potential(maker: Maker, key: str, load: bool) -> Iterator[Finding]:
    from cryslator_flows.engines.by_name import check_installed, check_weights

    try:
        check_installed(maker, key)
        if load:
            check_weights(maker, key)
    except CampaignError as error:
        yield Finding(str(error))


def _check_vasp(maker: Maker, elements: Callable[[], Collection[str]], here: bool) -> Iterator[Finding]:
    from cryslator_flows.engines.handlers import vasp_makers
    from cryslator_flows.engines.vasp_checks import missing_commands, missing_potcars, potcar_place, unknown_tags

    makers = vasp_makers(maker)
    if not makers:
        return
    for command in missing_commands(makers) if here else ():
        yield Finding(
            f"relaxation: VASP does not start here: no program {command!r}; load its module, or set VASP_CMD in "
            "~/.atomate2.yaml or vasp.run_vasp_kwargs.vasp_cmd"
        )
    if missing := missing_potcars(makers, elements()):
        names, reason = ", ".join(missing), next(iter(missing.values()))
        advice = f"{potcar_place()}; add them, see `pmg config`, or set vasp.input_set.user_potcar_settings"
        if here:
            yield Finding(f"relaxation: POTCARs are missing: {names} (the first: {reason}); {advice}")
        else:
            words = f"relaxation: the worker of the stage relax needs POTCARs that this machine lacks: {names}"
            yield Finding(words, is_error=False)
    for tag, near in unknown_tags(makers).items():
        key = f"relaxation.vasp.input_set.user_incar_settings.{tag}"
        remedy = "check its name" if near is None else f"did you mean {near!r}?"
        yield Finding(f"{key}: not among the INCAR tags that pymatgen knows; {remedy}", is_error=near is not None)
