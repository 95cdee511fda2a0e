"""Training throughput: pairs per second, and the share of the time that drawing the inputs takes.

Example: python -m tests.benchmarks.train

The network and the fit are those of the released model's recipe. Pairs are mixed oxides of 5 to 20 atoms and the same
cells strained and their atoms moved at random, which costs what real pairs cost. A second epoch is timed, without its
validation.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from cryslator_flows.training.fit import Fit
from cryslator_flows.training.fit_settings import FitConfig
from cryslator_flows.training.tensors import Pairs, to_arrays
from cryslator_flows.translator.equivalents import find_symmetry
from cryslator_flows.translator.loaded import to_crystals
from cryslator_flows.translator.network import NetworkConfig
from tests.benchmarks.translate import oxides


def make_pairs(number: int) -> Pairs:
    """Pairs whose relaxed crystals differ at random from the unrelaxed ones."""
    crystals = find_symmetry(to_crystals(oxides(number))).in_precision(torch.float32)
    generator = torch.Generator().manual_seed(0)
    return Pairs(
        unrelaxed_lattices=crystals.lattices,
        unrelaxed_frac=crystals.frac,
        relaxed_lattices=(crystals.lattices * (1 + 0.04 * torch.randn(number, 1, 1, generator=generator))).float(),
        relaxed_frac=(crystals.frac + 0.01 * torch.randn(crystals.frac.shape, generator=generator)).float(),
        numbers=crystals.numbers,
        n_atoms=crystals.n_atoms,
        energy=torch.randn(number, generator=generator),
        settled=torch.ones(number, dtype=torch.bool),
        symmetry=crystals.symmetry,
    )


def measure(pairs: Pairs, network: NetworkConfig, device: str) -> tuple[float, float]:
    """Seconds for each pair of an epoch, and of drawing its inputs alone."""
    arrays = {
        "elements/table": torch.zeros(119, network.element_properties),
        "elements/radii": torch.ones(119),
        "elements/volumes": torch.full((119,), 15.0),
    }
    few = pairs.take(torch.arange(64))
    for prefix, part in (("train", pairs), ("val", few), ("relaxed", few)):
        arrays |= {name: torch.from_numpy(np.asarray(value)) for name, value in to_arrays(part, prefix).items()}
    state = Fit(arrays, network, FitConfig(epochs=1000), device)
    state.validate = lambda: {"score": 0.0}  # type: ignore[method-assign]
    state.run_epoch()
    examples = state.steps_per_epoch * state.config.batch_size
    generator = torch.Generator().manual_seed(0)
    began = perf_counter()
    for rows in state.plan(generator):
        batch, denoise = state.compose(rows, generator)
        state.config.augmentation.draw(batch, denoise, generator).to(device)
    drawn = perf_counter()
    state.run_epoch()
    return (perf_counter() - drawn) / examples, (drawn - began) / examples


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    arguments = parser.parse_args()
    pairs = make_pairs(arguments.pairs)
    cores = torch.get_num_threads()
    table = Table("where", "ms a pair", "pairs/s", "of it drawing inputs")
    places = [("cpu", threads) for threads in sorted({1, cores})]
    if torch.cuda.is_available():
        places.append(("cuda", cores))
    for device, threads in places:
        torch.set_num_threads(threads)
        whole, drawing = measure(pairs, NetworkConfig(), device)
        name = torch.cuda.get_device_name() if device == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
        table.add_row(name, f"{1000 * whole:.2f}", f"{1 / whole:.0f}", f"{drawing / whole:.1%}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
