"""The networks that entries are checked on."""

from __future__ import annotations

import torch

from prune_search.tasks.network import prunable_weights
from prune_search.testing.networks import CLASSES, NETWORKS, batches, network_named


def test_the_networks_are_small_enough_for_slow_definitions() -> None:
    for name in NETWORKS:
        assert sum(weight.numel() for weight in prunable_weights(network_named(name)).values()) <= 200


def test_networks_and_batches_are_the_same_each_time_and_go_together() -> None:
    for name in NETWORKS:
        first, again = network_named(name), network_named(name)
        assert all(torch.equal(first.state_dict()[key], value) for key, value in again.state_dict().items())
        for inputs, labels in batches():
            assert first(inputs).shape == (len(labels), CLASSES)
    assert torch.equal(batches(2)[1][0], batches(2)[1][0])
    assert not torch.equal(batches(1)[0][0], batches(2)[0][0])
