"""What is said of odd labels and outputs."""

from __future__ import annotations

import torch

from prune_search.tasks.remarks import are_probabilities, label_remarks


def test_labels_of_one_class_from_one_or_with_gaps_are_remarked() -> None:
    assert not list(label_remarks(torch.tensor([2, 0, 1]), 3))
    assert "only one class" in next(label_remarks(torch.tensor([0, 0]), 1))
    assert "begin at 1" in next(label_remarks(torch.tensor([1, 2]), 3))
    assert next(label_remarks(torch.tensor([0, 3]), 4)).endswith("2 never occur in the training labels: 1, 2")
    assert next(label_remarks(torch.tensor([0]), 40)).endswith("8, 9, 10 …")


def test_only_distributions_over_several_classes_are_probabilities() -> None:
    scores = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert are_probabilities(scores.softmax(1))
    assert are_probabilities(scores.softmax(2), 2)
    assert not are_probabilities(scores.softmax(2))
    assert not are_probabilities(scores)
    assert not are_probabilities(torch.ones(3, 1))
    assert not are_probabilities(torch.ones(3))
    assert not are_probabilities(torch.tensor([[1, 0], [0, 1]]))
