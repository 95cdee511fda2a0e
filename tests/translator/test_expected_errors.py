import pytest
import torch

from cryslator_flows.training.fit_errors import fit_expected_errors
from cryslator_flows.translator.expected_errors import free
from cryslator_flows.translator.settling import Moves, deviator

CRYSTALS, ATOMS = 4000, 3


def moves_of(seed):
    """Translations whose errors grow with the change of shape, with the displacement, and with the distance."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    numbers = torch.cat([-3 + normal(CRYSTALS, 5), torch.zeros(CRYSTALS, 2)], dim=1)
    # In a quarter of the crystals symmetry fixes shape and positions.
    numbers[::4, 1], numbers[::4, 2] = -9.0, -11.0
    distance = (0.3 * normal(CRYSTALS)).exp()
    laplace = -torch.rand(3, CRYSTALS, generator=generator).log() * distance
    direction = deviator(torch.diag(torch.tensor([1.0, -0.5, -0.5]))[None])[0]
    shape = laplace[1] * 0.2 * numbers[:, 2].exp() * free(numbers)[:, 1]
    strain = (laplace[0] * 0.01 / 3)[:, None, None] * torch.eye(3)
    strain = strain + shape[:, None, None] * direction / direction.norm()
    shift = (laplace[2] * 0.5 * numbers[:, 1].exp() * free(numbers)[:, 2])[:, None].expand(-1, ATOMS).flatten()
    along = shift[:, None] * torch.tensor([1.0, 0, 0])
    zero = torch.zeros_like(strain), torch.zeros_like(along)
    owner = torch.arange(CRYSTALS).repeat_interleave(ATOMS)
    return Moves(numbers, zero[0], strain, zero[1], along, owner), distance


def test_intervals_of_structures_hold_and_widths_tell_large_errors():
    moves, distance = moves_of(0)
    classes = torch.arange(CRYSTALS) % 6
    fitted = fit_expected_errors(moves, None, distance, torch.ones(CRYSTALS), classes)
    unseen, there = moves_of(1)
    widths = fitted.widths(unseen.numbers, there, classes)
    errors = unseen.errors(torch.ones(CRYSTALS, 2))
    variable = free(unseen.numbers)
    for kind in range(3):
        own, width = errors[variable[:, kind], kind], widths[variable[:, kind], kind]
        assert float((own <= width).float().mean()) == pytest.approx(0.9, abs=0.02)
        assert own[width > width.median()].mean() > 1.3 * own[width < width.median()].mean()
    assert (widths[~variable] == 0).all()
    # The size follows the change and the distance, each with a power of one.
    assert fitted.coefficients[1, 3] == pytest.approx(1, abs=0.1)
    assert fitted.coefficients[2, 2] == pytest.approx(1, abs=0.1)
    assert fitted.coefficients[:, 6].tolist() == pytest.approx([1, 1, 1], abs=0.15)


def test_few_pairs_give_no_intervals():
    moves, distance = moves_of(0)
    few = Moves(*(value[:20] for value in (moves.numbers, moves.strain, moves.true_strain)), *(
        value[:60] for value in (moves.shift, moves.true_shift, moves.owner)
    ))  # fmt: skip
    assert fit_expected_errors(few, None, distance[:20], torch.ones(20), torch.zeros(20).long()) is None


def test_pairs_without_freedom_still_give_intervals_of_the_volume():
    moves, distance = moves_of(0)
    moves.numbers[:, 1], moves.numbers[:, 2] = -9.0, -11.0
    fitted = fit_expected_errors(moves, None, distance, torch.ones(CRYSTALS), torch.zeros(CRYSTALS).long())
    widths = fitted.widths(moves.numbers, distance, torch.zeros(CRYSTALS).long())
    assert widths.isfinite().all()
    assert (widths[:, 0] > 0).all()
    assert (widths[:, 1:] == 0).all()
