"""Uncertainty of a model that is fine-tuned on some candidates of a campaign, from others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cryslator_flows.documents.adaptation import HeldOutScores
from cryslator_flows.training.tracking import extend_known, with_calibration
from cryslator_flows.translator.calibration import LEVELS, weighted_quantile
from cryslator_flows.translator.translator import Translator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from cryslator_flows.documents.candidates import Translation
    from cryslator_flows.translator.model_folder import ModelFolder

# Parts of the held-out candidates; the interval of a candidate comes from the other parts.
FOLDS = 5
# Smallest ratio of error to half width, so that a quantile of exact predictions is not zero.
SMALLEST_RATIO = 0.01


def recalibrate(
    tuned: ModelFolder,
    base: ModelFolder,
    seen: Sequence[Structure],
    held_out: Sequence[Structure],
    energies: NDArray[np.floating],
) -> tuple[list[Translation], NDArray[np.floating]]:
    """Scale the intervals of a fine-tuned model by its errors on candidates that it was not trained on.

    The shape of the uncertainty is the base's: a function of the network's scale and of the distance from the training
    data, which the structures of the tuning join. The two widths are multiplied by the conformal quantiles of error
    over stated half width on all held-out candidates. Candidates of the same space then fall into the intervals as
    often as stated.

    The candidates that set a width cannot test it. For the test each candidate has another interval: its width is set
    by four of five parts, and the candidate is in the fifth.

    Parameters
    ----------
    tuned : ModelFolder
        The fine-tuned model. Its calibration is replaced.
    base : ModelFolder
        The base of the fine-tuning.
    seen : sequence of Structure
        Unrelaxed structures of the tuning.
    held_out : sequence of Structure
        Unrelaxed structures that the model was not trained on, in random order.
    energies : array
        Formation energies of these, [held out] in eV/atom.

    Returns
    -------
    tuple
        Translations of the held-out structures, then the half widths of their 90 % intervals for the test, [held out]
        in eV/atom.

    Raises
    ------
    ModelError
        A file of a model is damaged.
    StructureError
        A structure is unphysical.
    StoreError
        The model cannot be written.
    """
    calibration = extend_known(tuned, base, seen)
    translations = Translator(with_calibration(tuned, calibration)).translate_many(held_out)
    predicted = np.array([item.formation_energy_per_atom for item in translations])
    stated = np.array([
        [item.formation_energy_uncertainty, item.formation_energy_uncertainty_90] for item in translations
    ])  # fmt: skip
    ratios = np.maximum(np.abs(predicted - energies)[:, None] / stated, SMALLEST_RATIO)
    factors = [_quantile(ratios[:, column], level) for column, level in enumerate(LEVELS)]
    with_calibration(tuned, replace(calibration, quantiles=calibration.quantiles * torch.tensor(factors)))
    fold = np.arange(len(ratios)) % FOLDS
    others = [_quantile(ratios[fold != part, 1], LEVELS[1]) for part in range(FOLDS)]
    return translations, stated[:, 1] * np.array(others)[fold]


def _quantile(ratios: NDArray[np.floating], level: float) -> float:
    values = torch.from_numpy(ratios)
    return weighted_quantile(values, torch.ones_like(values), level)


def score_held_out(
    translations: Sequence[Translation],
    half_widths: NDArray[np.floating],
    energies: NDArray[np.floating],
    volumes: NDArray[np.floating],
) -> HeldOutScores:
    """Score translations of candidates against relaxations.

    Parameters
    ----------
    translations : sequence of Translation
        Translations of the candidates.
    half_widths : array
        Half widths of their 90 % intervals, [candidates] in eV/atom.
    energies, volumes : array
        Formation energies in eV/atom and volumes of the cells in cubic angstrom after relaxation, [candidates].
    """
    predicted = np.array([item.formation_energy_per_atom for item in translations])
    found = np.array([item.structure.volume for item in translations])
    errors = np.abs(predicted - energies)
    tenth = -(-len(errors) // 10)
    lowest, chosen = (set(np.argsort(values, kind="stable")[:tenth].tolist()) for values in (energies, predicted))
    return HeldOutScores(
        energy_error=float(errors.mean()),
        coverage=float((errors <= half_widths).mean()),
        half_width=float(half_widths.mean()),
        volume_error=float(np.abs(found / volumes - 1).mean()),
        recall=len(lowest & chosen) / tenth,
    )
