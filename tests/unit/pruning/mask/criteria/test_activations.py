"""What comes into a layer, of weights that a layer shares with an embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import prune_search


class Tied(nn.Module):
    """Tokens, a layer, and a head that has the embedding's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.middle, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(self.embedding(tokens))))  # type: ignore[no-any-return]


def test_an_embedding_is_looked_up_and_its_layers_inputs_count() -> None:
    torch.manual_seed(0)
    model, tokens = Tied(), torch.randint(7, (3, 5))
    with torch.no_grad():
        seen = torch.tanh(model.middle(model.embedding(tokens))).double().reshape(-1, 4)
    found = prune_search.score("activation", model, [(tokens, None)])["embedding.weight"]
    # Of each row the mean over what reads it.
    assert torch.allclose(found, seen.square().sum(0).sqrt().mean().expand(7))
