"""Train the paper's system and today's network on the paper's X-Mn-O pairs, and set the scores beside the paper's.

    cryslator pairs xmno ARCHIVE -o xmno/ --split given
    python workflows/paper-xmno/reproduce.py xmno/

Writes models, checkpoints and RESULTS.md into the folder of the pairs. Stop it at any time: the same command goes on
from the last epoch, and finished models are not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cryslator_flows.errors import CryslatorError, DataError
from cryslator_flows.system.console import err, markdown_table, progress_bars, quiet
from cryslator_flows.training.evaluate import INPUTS, Evaluation, Input
from cryslator_flows.training.recipe import Recipe
from cryslator_flows.training.train import train
from cryslator_flows.translator.model_folder import CARD, METRICS, RECIPE

if TYPE_CHECKING:
    from cryslator_flows.training.fit_settings import Progress
    from cryslator_flows.training.reference_stages import StageProgress

HERE = Path(__file__).parent
PAPER = "cryslator-2023-xmno"
BASELINES = ("GCN_R", "GCN_U", "GCN_R+U")
# npj Comput. Mater. 9, 142 (2023): MAE of the formation energy in eV/atom (text and Figure 2), share of structures that
# match (text and Figure 4). Other bars of these figures have no number in the paper.
MAE: dict[tuple[str, Input], str] = {
    ("GCN_R", "relaxed"): "0.014",
    ("GCN_R", "unrelaxed"): "0.84",
    ("GCN_U", "unrelaxed"): "0.057",
}
MATCH: dict[tuple[str, Input], str] = {
    (PAPER, "unrelaxed"): "84 %",
    (PAPER, "intermediate"): "about 87 %",
    (PAPER, "relaxed"): "about 99 %",
}
FILES = ("pairs-train.jsonl.gz", "pairs-val.jsonl.gz", "pairs-test.jsonl.gz")
NOT_PUBLISHED = "not published as a number"


def train_model(recipe_file: Path, data: Path) -> Path:
    """Train the model of a recipe, or go on with it; one that is finished is left as it is.

    Returns
    -------
    Path
        The model folder.

    Raises
    ------
    DataError
        The recipe or a file of pairs is wrong.
    """
    recipe = Recipe.from_file(recipe_file, data)
    folder = data / "models" / recipe.name
    # The card is written last.
    if (folder / CARD).exists() and (folder / RECIPE).read_text() == recipe_file.read_text():
        err.print(f"{recipe.name} is trained already")
        return folder
    if not recipe.test:
        raise DataError(f"{recipe_file}, test: not there; name the pairs that models are scored on")
    with progress_bars() as progress:
        fitting = progress.add_task(recipe.name, total=100, note="")
        scoring = progress.add_task("scoring", total=None, visible=False, note="")

        def report(epoch: Progress | StageProgress) -> None:
            progress.console.print(epoch.describe(), highlight=False, markup=False)
            report_step(epoch.done)

        def report_step(done: float) -> None:
            progress.update(fitting, completed=round(100 * done))

        def report_scoring(name: str, done: int, total: int) -> None:
            progress.update(scoring, completed=done, total=total, visible=True, note=name)

        train(recipe, recipe_file, folder, data / "runs" / recipe.name, report, report_step, report_scoring)
    return folder


def results(models: list[Path]) -> str:
    """Return a Markdown table: rows of each model's scores on the test pairs, as in the paper's Figures 2 and 4."""
    evaluations = [Evaluation.model_validate(json.loads((model / METRICS).read_text())["test"][0]) for model in models]
    scores = {(score.method, score.input): score for evaluation in evaluations for score in evaluation.scores}
    counts = f"{evaluations[0].n_targets} test crystals, {evaluations[0].n_energies} with a formation energy."
    rows = []
    for kind in INPUTS:
        for method in dict.fromkeys(method for method, _ in scores):
            score = scores[method, kind]
            cells = ["", "", "", ""]
            if score.energy_mae is not None:
                cells[0] = f"{score.energy_mae:.4f}"
                if method == PAPER or method in BASELINES:
                    cells[1] = MAE.get((method, kind), NOT_PUBLISHED)
            if score.structure is not None:
                cells[2] = f"{score.structure.loose_match:.1%}"
                if method == PAPER:
                    cells[3] = MATCH[method, kind]
            rows.append([kind, method, *cells])
    versions = {name: version for evaluation in evaluations for name, version in evaluation.models.items()}
    table = markdown_table(["input", "method", "MAE (eV/atom)", "in the paper", "match", "in the paper"], rows)
    models = ", ".join(f"{name} {version}" for name, version in versions.items())
    words = f"{counts} Match: StructureMatcher with 0.2/0.3/5, scaled, as in the paper."
    return f"# The paper's X-Mn-O pairs\n\n{words}\n\n{table}\n\nModels: {models}.\n"


def main(data: Path, recipes: Path) -> None:
    """Train all recipes, one after the other, then print and write the table.

    Raises
    ------
    DataError
        Files of pairs are missing, or something in them or in a recipe is wrong.
    """
    if missing := [name for name in FILES if not (data / name).is_file()]:
        raise DataError(
            f"{data}: no {missing[0]} in it; make it with `cryslator pairs xmno ARCHIVE -o {data} --split given`"
        )
    models = [train_model(path, data) for path in sorted(recipes.glob("*.yaml"))]
    table = results(models)
    (data / "RESULTS.md").write_text(table)
    print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that `cryslator pairs xmno` wrote")
    parser.add_argument("--recipes", type=Path, default=HERE, help="folder of recipes to train in place of those here")
    arguments = parser.parse_args()
    quiet()
    try:
        main(arguments.data, arguments.recipes)
    except CryslatorError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from the last epoch.", file=sys.stderr)
        sys.exit(130)
