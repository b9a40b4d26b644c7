"""Derived seeds."""

import torch

from orchestrator.training.seeds import derived_seed, seeded


def test_seeds_depend_on_every_part_of_the_purpose() -> None:
    seeds = {derived_seed(*parts) for parts in [(0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1)]}
    assert len(seeds) == 4
    assert derived_seed(0, "a", 1) == derived_seed(0, "a", 1)


def test_a_seeded_block_repeats_and_restores_the_generator() -> None:
    draws = []
    for _ in range(2):
        before = torch.get_rng_state()
        with seeded(torch.device("cpu"), "x"):
            draws.append(torch.rand(3))
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(1)  # the state before the block does not matter
    assert torch.equal(*draws)
