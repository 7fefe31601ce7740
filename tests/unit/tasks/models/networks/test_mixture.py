"""A mixture adds to each token what its chosen experts make of it, weighed by a softmax over their logits."""

from __future__ import annotations

import torch

from prune_search.tasks.models.networks.mixture import Mixture


def test_the_chosen_experts_are_added_and_the_others_are_not() -> None:
    torch.manual_seed(0)
    block, token = Mixture(4, 3, 5, 2), torch.randn(1, 4)
    seen = block.norm(token)
    logits = block.router(seen)[0].tolist()
    first, second = sorted(range(5), key=lambda at: -logits[at])[:2]
    share = torch.tensor([logits[first], logits[second]]).softmax(0)
    wanted = token + share[0] * block.experts[first](seen) + share[1] * block.experts[second](seen)
    assert torch.allclose(block(token), wanted, atol=1e-6)
