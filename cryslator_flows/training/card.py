"""Model cards in Markdown. All their numbers come from measured files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from cryslator_flows.crystals.compound_classes import CLASSES
from cryslator_flows.errors import ModelError
from cryslator_flows.system.console import main_reasons, markdown_table
from cryslator_flows.training.evaluate import ELEMENT_COUNTS, Evaluation, StructureCoverage
from cryslator_flows.translator.model_folder import (
    CURVE,
    FEATURE_MAP,
    FEATURE_NUMBERS,
    FORMATION_ENERGY,
    METRICS,
    ModelFolder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cryslator_flows.training.recipe import CardText


def model_card(folder: Path, text: CardText) -> str:
    """Return the card of a model from ``metrics.json`` and, if present, its feature map.

    Parameters
    ----------
    folder : Path
        The model's folder.
    text : CardText
        Parts of the recipe for the card.

    Returns
    -------
    str
        The card.

    Raises
    ------
    ModelError
        Configuration or metrics are missing or damaged.
    """
    config, metrics = ModelFolder(folder).config(), ModelFolder(folder).metrics()
    if not metrics:
        raise ModelError(f"{folder / METRICS}: missing, so a card has no numbers; train the model first")
    front = yaml.safe_dump(
        {"model_name": config.name, "library_name": "cryslator-flows", "license": text.licence.split(";")[0]},
        sort_keys=False,
    )
    parts = [
        f"---\n{front}---",
        f"# {config.name}",
        (
            f"Version `{metrics['model_version']}`, {metrics['parameters']:,} parameters. The commands that measure "
            "the numbers on this page also write them."
        ),
        f"## Aim\n\n{text.aim.strip()}",
        f"## Data\n\n{text.data.strip()}",
        _tuning(metrics, config.unit) if "tuning" in metrics else _training(metrics["training"], config.unit),
    ]
    if (folder / CURVE).is_file():
        parts.append(f"![Errors on the validation pairs against steps]({CURVE})")
    if text.deviations:
        parts.append("## Deviations from the paper\n\n" + "\n".join(f"- {line.strip()}" for line in text.deviations))
    if "test" in metrics:
        evaluations = [Evaluation.model_validate(part) for part in metrics["test"]]
        what = "formation energy" if config.target == FORMATION_ENERGY else config.target
        parts.append(
            "## Test\n\n`cryslator evaluate` scores the first pair of each target and explains each column. "
            "Intermediate inputs lie at a random point between unrelaxed and relaxed structure, with noise."
        )
        classes = [evaluation for evaluation in evaluations if evaluation.chemistry in CLASSES]
        counts = [evaluation for evaluation in evaluations if evaluation.chemistry in ELEMENT_COUNTS.values()]
        parts += [
            _scores(evaluation, what, config.unit)
            for evaluation in evaluations
            if evaluation not in classes and evaluation.chemistry.split(", ")[-1] not in ELEMENT_COUNTS.values()
        ]
        parts += _fractional(evaluations[0], config.name)
        parts += [
            _by_kind(kind, group, config.name, config.unit)
            for kind, group in (("class of compound", classes), ("number of elements", counts))
            if group
        ]
        parts.append(_uncertainty(evaluations[0], config.name, config.unit))
    if "old_test" in metrics:
        evaluations = [Evaluation.model_validate(part) for part in metrics["old_test"]]
        what = "formation energy" if config.target == FORMATION_ENERGY else config.target
        parts.append("## Old test pairs\n\nThe effect of fine-tuning on old knowledge, in the same columns.")
        parts += [_scores(evaluation, what, config.unit) for evaluation in evaluations]
    if (folder / FEATURE_NUMBERS).is_file():
        parts.append(_feature_map(json.loads((folder / FEATURE_NUMBERS).read_text())))
    parts += [f"## Limits\n\n{text.limits.strip()}", f"## Licence\n\n{text.licence.strip()}"]
    return "\n\n".join(parts) + "\n"


def _training(training: dict[str, Any], unit: str) -> str:
    words = (
        f"## Training\n\n{training['pairs']:,} pairs and {training['relaxed_crystals']:,} relaxed crystals, "
        f"{training['minutes']:.0f} minutes in all. `recipe.yaml` retrains it. "
    )
    if "split_by" in training:
        words += f"Split by {training['split_by']}: formulas of test pairs also occur among training pairs. "
    if "left_out" in training:
        words += f"{training['left_out']:,} pairs that leak validation or test pairs were left out. "
    if "stages" in training:
        table = markdown_table(
            ["stage", "epochs", "minutes", "best error on the validation pairs"],
            ([r["stage"], f"{r['epochs']}", f"{r['minutes']}", f"{r['best']:.4f}"] for r in training["stages"]),
        )
        return f"{words}Every stage keeps the weights of its best epoch.\n\n{table}"
    best = training["best"]["validation"]
    return words + (
        f"Of {training['epochs']} epochs, epoch {training['best']['epoch']} has the best score on the validation pairs "
        "and gives the weights. On all validation pairs, from the unrelaxed structure: energy MAE "
        f"{best['energy_mae']:.3f} {unit}, "
        f"volume error {best['volume_error']:.1%}, displacement {best['displacement']:.3f} A."
    )


def _tuning(metrics: dict[str, Any], unit: str) -> str:
    """Return the section about the fine-tuning of a model and its errors on the validation pairs."""
    training, tuning = metrics["training"], metrics["tuning"]
    pairs, formulas, replay = tuning["new_pairs"], tuning["new_formulas"], tuning["replay"]
    sources = [f"{replay['pairs']:,} old pairs"] * bool(replay["pairs"])
    sources += [f"{replay['own_translations']:,} of the base's own translations"] * bool(replay["own_translations"])
    source = f"{tuning['base']}, version `{tuning['base_version']}`"
    words = [
        f"Fine-tuned from {source}, on {pairs['train']:,} new pairs of {formulas['train']:,} formulas.",
        f"{training['minutes']:.1f} minutes; `cryslator train recipe.yaml --from {tuning['base']}` makes it again.",
        f"Replay: {' and '.join(sources)}, {replay['share']:.0%} of every batch."
        if sources
        else "No old pairs were replayed: the base's knowledge of other crystals may be lost.",
    ]
    if tuning["left_out"]:
        words.append(f"{tuning['left_out']:,} pairs that leak validation or test pairs were left out.")
    best = training["best"]
    found = best["validation"]
    words.append(
        f"Selection and calibration: {pairs['val']:,} new pairs of {formulas['val']:,} formulas and "
        f"{replay['val']:,} old ones."
    )
    kept = f"the weights are those of epoch {best['epoch']}" if best["epoch"] else "no epoch was better than the base"
    words.append(
        f"Errors over errors of the base, mean: {found['score']:.3f}; {kept}. On the new validation pairs: energy "
        f"MAE {found['energy_mae']:.3f} {unit}, volume error {found['volume_error']:.1%}, displacement "
        f"{found['displacement']:.3f} A."
    )
    return "## Training\n\n" + " ".join(words)


def _scores(evaluation: Evaluation, what: str, unit: str) -> str:
    structures = any(score.structure is not None for score in evaluation.scores)
    header = ["input", "method", f"MAE ({unit})"]
    if structures:
        header += ["volume error", "displacement (A)", "loose", "strict", "symmetry kept"]
    rows = []
    for score in evaluation.scores:
        if score.energy_mae is None and score.structure is None:
            continue
        cells = [score.input, score.method, "" if score.energy_mae is None else f"{score.energy_mae:.3f}"]
        row = score.structure
        if row is None:
            cells += [""] * (len(header) - len(cells))
        else:
            shares = (row.loose_match, row.strict_match, row.symmetry_kept)
            cells += [f"{row.volume_error:.2%}", f"{row.displacement:.3f}", *(f"{share:.1%}" for share in shares)]
        rows.append(cells)
    words = f"{evaluation.n_targets} targets, {evaluation.n_energies} with a known {what}."
    if evaluation.deviation:
        words += f" A constant, their mean, has an MAE of {evaluation.deviation:.3f} {unit}."
    return f"**{evaluation.chemistry}**: {words}\n\n{markdown_table(header, rows)}"


def _fractional(evaluation: Evaluation, name: str) -> list[str]:
    """Return a sentence about fractional coordinates, in a list that is empty if their error is unknown."""
    own, copied = (evaluation.score(method).structure for method in (name, "input copied"))
    if own is None or copied is None or own.fractional_error is None or copied.fractional_error is None:
        return []
    return [
        (
            f"Fractional coordinates, from the unrelaxed structure of {evaluation.chemistry} targets: mean absolute "
            f"error {own.fractional_error:.4f}, {copied.fractional_error:.4f} for the copied input."
        )
    ]


def _by_kind(kind: str, evaluations: list[Evaluation], name: str, unit: str) -> str:
    """Return scores of a model from unrelaxed structures for each kind of target, beside the copied input."""
    structures = all(evaluation.score(name).structure is not None for evaluation in evaluations)
    header = [kind, "targets", f"MAE ({unit})", "90 % intervals hold"]
    if structures:
        header += ["volume error", "displacement, median (A)", "strict"]
    rows = []
    for evaluation in evaluations:
        score, copied = evaluation.score(name), evaluation.score("input copied").structure
        known = f"{score.energy_mae:.3f}" if score.energy_mae is not None else ""
        held = "" if score.uncertainty is None else f"{score.uncertainty.coverage_90:.1%}"
        number = evaluation.n_targets if structures else evaluation.n_energies
        cells = [evaluation.chemistry, str(number), known, held]
        if (own := score.structure) is not None and copied is not None:
            cells += [
                f"{own.volume_error:.2%} ({copied.volume_error:.1%})",
                f"{own.displacement_median:.3f} ({copied.displacement_median:.3f})",
                f"{own.strict_match:.1%} ({copied.strict_match:.1%})",
            ]
        rows.append(cells)
    words = f"From the unrelaxed structure, by {kind}." + (" The copied input is in brackets." if structures else "")
    return f"{words}\n\n{markdown_table(header, rows)}"


def _uncertainty(evaluation: Evaluation, name: str, unit: str) -> str:
    own = evaluation.score(name)
    score, coverage = own.uncertainty, None if own.structure is None else own.structure_coverage
    if score is None:
        return ""
    risk = ", ".join(f"{value:.3f} for {share}" for share, value in score.risk.items())
    outside = f"Out of domain: {score.out_of_domain:.1%}."
    if score.mae_in_domain is not None and score.mae_out_of_domain is not None:
        outside = (
            f"Out of domain: {score.out_of_domain:.1%} ({main_reasons(score.reasons, '{:.2%}')}). "
            f"Their MAE is {score.mae_out_of_domain:.3f} {unit}, and the 90 % interval holds "
            f"{score.coverage_90_out_of_domain:.1%}; inside the domain it is {score.mae_in_domain:.3f} {unit} and "
            f"{score.coverage_90_in_domain:.1%}."
        )
    return (
        "## Uncertainty\n\nFrom the unrelaxed structure, on the test targets. Fitted on the validation pairs "
        "(conformal quantiles of error over predicted size, for each class of compound).\n\n"
        f"- The 68 % interval holds {score.coverage_68:.1%}, the 90 % interval {score.coverage_90:.1%}. "
        f"The mean half width of the 90 % interval is {score.mean_width_90:.3f} {unit}.\n"
        f"- MAE in {unit} of the most certain crystals: {risk}.\n"
        f"- {outside}" + ("" if coverage is None else f"\n- {_structure_intervals(coverage)}")
    )


def _structure_intervals(coverage: StructureCoverage) -> str:
    """Return a sentence about the intervals of translated structures."""
    shares = [f"{coverage.volume:.1%} of the volumes"]
    if coverage.shape is not None:
        shares.append(f"{coverage.shape:.1%} of the shapes of cells that are free")
    if coverage.displacement is not None:
        shares.append(f"{coverage.displacement:.1%} of the displacements that are free")
    volume, shape, shift = coverage.mean_widths
    return (
        f"The 90 % intervals of the structure hold {', '.join(shares)}. Their mean half widths are {volume:.1%} of the "
        f"volume, {shape:.1%} of strain in shape, and {shift:.3f} A."
    )


def _feature_map(numbers: dict[str, Any]) -> str:
    distance = {name: numbers[f"{name}_distance"] for name in ("unrelaxed", "translated", "both_translated")}
    return (
        f"## Feature map\n\n![t-SNE of crystal features]({FEATURE_MAP})\n\n"
        f"t-SNE of the crystal features of {numbers['targets']} test targets, drawn by `cryslator map`. Lines join the "
        "unrelaxed and the relaxed structure of one target. Mean distances in the features themselves are "
        f"{distance['unrelaxed']:.2f} between unrelaxed and relaxed, and {distance['translated']:.2f} between "
        "translated and relaxed. If the relaxed structure is translated too, the distance is "
        f"{distance['both_translated']:.2f}; energies are read there."
    )
