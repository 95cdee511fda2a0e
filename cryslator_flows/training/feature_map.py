"""Map of the crystal features before and after translation, as in the paper's Figure 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cryslator_flows.errors import DataError
from cryslator_flows.system.look import BLUE, VERMILION
from cryslator_flows.system.whole_files import whole_file, write_whole
from cryslator_flows.training.evaluate import first_of_each_target, make_inputs, split
from cryslator_flows.training.prepare import pair_row, to_pairs
from cryslator_flows.translator.model_folder import FEATURE_MAP, FEATURE_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cryslator_flows.training.evaluate import Input
    from cryslator_flows.training.records import PairRecord
    from cryslator_flows.training.tensors import Pairs
    from cryslator_flows.translator.loaded import LoadedModel

COLORS = {"unrelaxed": VERMILION, "relaxed": BLUE}
# More points would take minutes to lay out and would hide each other.
MOST_TARGETS = 1000


@torch.inference_mode()
def crystal_features(model: LoadedModel, pairs: Pairs, kind: Input) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return encoded and translated features of the inputs of one kind, [crystals, F] each."""
    parts = []
    for batch in split(make_inputs(pairs, kind)):
        crystals = model.to_single(batch)
        features = model.network.crystal_features(model.network.translate(crystals), crystals)
        parts.append([part.cpu() for part in features])
    encoded, translated = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return encoded, translated


def draw_feature_map(model: LoadedModel, records: Iterable[PairRecord], folder: Path | str) -> dict[str, Any]:
    """Lay the features of unrelaxed and relaxed crystals out by t-SNE, before and after translation, and draw them.

    The method is from L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2579 (2008), by
    scikit-learn. All features are in one map.

    Parameters
    ----------
    model : LoadedModel
        The model.
    records : iterable of PairRecord
        Pairs; the first of each target is drawn, at most `MOST_TARGETS` of them, at random.
    folder : Path or str
        Gets ``feature-map.png`` and ``feature-map.json``.

    Returns
    -------
    dict
        Number of ``targets``. Mean distances between unrelaxed and relaxed features, between translated and relaxed
        features, and with both translated. Share of crystals whose nearest relaxed crystal is the true one, for the
        same three pairs of features.

    Raises
    ------
    DataError
        The pairs have fewer than two targets.
    """
    folder = Path(folder)
    from matplotlib.figure import Figure
    from scipy.spatial.distance import cdist
    from sklearn.manifold import TSNE

    first = first_of_each_target(records)
    if len(first) < 2:
        raise DataError(f"{len(first)} target: no map of a single one; give pairs of at least two targets")
    few = np.random.default_rng(0).permutation(len(first))[:MOST_TARGETS]
    pairs = to_pairs((pair_row(first[row], model.config.target) for row in sorted(few)), np.float64)
    unrelaxed, translated = crystal_features(model, pairs, "unrelaxed")
    relaxed, relaxed_translated = crystal_features(model, pairs, "relaxed")
    apart = {
        "unrelaxed": cdist(unrelaxed, relaxed),
        "translated": cdist(translated, relaxed),
        "both_translated": cdist(translated, relaxed_translated),
    }
    own = {name: float(np.diagonal(matrix).mean()) for name, matrix in apart.items()}
    numbers = {
        "model_version": model.version,
        "targets": len(pairs),
        **{f"{name}_distance": distance for name, distance in own.items()},
        **{
            f"{name}_nearest_is_own": float(np.mean(matrix.argmin(axis=1) == np.arange(len(matrix))))
            for name, matrix in apart.items()
        },
    }

    everything = np.concatenate([unrelaxed, relaxed, translated, relaxed_translated])
    points = TSNE(perplexity=min(30, len(everything) // 5), random_state=0).fit_transform(everything)
    before, after = np.split(points.reshape(4, len(pairs), 2), 2)
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    panels = (("encoded", before, own["unrelaxed"]), ("translated", after, own["both_translated"]))
    for axis, (title, places, distance) in zip(axes, panels, strict=True):
        axis.plot(places[:, :, 0], places[:, :, 1], color="0.8", lw=0.5)
        for kind, place in zip(COLORS, places, strict=True):
            axis.scatter(*place.T, s=9, color=COLORS[kind], label=kind, linewidths=0)
        axis.set_title(f"{title}: mean distance from unrelaxed to relaxed {distance:.2f}", fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.legend(loc="lower right", fontsize=9)
    figure.suptitle(f"Crystal features of {len(pairs)} targets by t-SNE, {model.config.name}")
    with whole_file(folder / FEATURE_MAP) as file:
        figure.savefig(file, dpi=110)
    write_whole(folder / FEATURE_NUMBERS, json.dumps(numbers, indent=2) + "\n")
    return numbers
