"""Low-rank retraining: what autograd says of B·A, the mask that the merged update keeps, and stops that do not show."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prune_search.pruning.mask.mask_set import MaskSet
from prune_search.pruning.retrain.low_rank import LowRank, linear_weights
from prune_search.pruning.retrain.mask_keeper import MaskKeeper
from prune_search.recipe.problems import UserError


class Conv1D(nn.Module):
    """A linear layer with its weight as [inputs, outputs], as transformers has it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Conv1D(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


X, Y = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


class Training:
    """Steps of a low-rank retraining under a mask of half of the weights, as the loop takes them."""

    def __init__(self, state: dict[str, Tensor] | None = None, model: nn.Module | None = None) -> None:
        self.model = model or network()
        draw = torch.Generator().manual_seed(2)
        weights = {name: one for name, one in self.model.named_parameters() if one.dim() == 2}
        masks = MaskSet({name: torch.rand(one.shape, generator=draw) < 0.5 for name, one in weights.items()})
        self.low = LowRank(self.model, linear_weights(self.model, ["all"], "4.weight"), 2, 8.0, lambda: masks, (0, 1))
        self.optimizer = torch.optim.SGD(self.low.owners(), lr=0.1)
        self.masks, self.hooks = masks, [MaskKeeper(self.model, masks, self.optimizer).hook(), self.low.hook()]
        for hook in self.hooks:
            if state is not None and hook.name == "low-rank" and hook.load is not None:
                hook.load(state)
        for hook in self.hooks:
            if hook.at_start is not None:
                hook.at_start()

    def steps(self, count: int) -> None:
        for step in range(count):
            for hook in self.hooks:
                if hook.before_step is not None:
                    hook.before_step(step)
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(X), Y).backward()  # type: ignore[no-untyped-call]
            for hook in self.hooks:
                if hook.after_backward is not None:
                    hook.after_backward(step)
            self.optimizer.step()
            for hook in self.hooks:
                if hook.after_step is not None:
                    hook.after_step(step)

    def kept(self) -> dict[str, Tensor]:
        hook = self.hooks[1]
        assert hook.state is not None
        return {name: tensor.detach().clone() for name, tensor in hook.state().items()}


def test_it_trains_as_autograd_does_the_masked_sum_and_moves_nothing_else() -> None:
    training, reference = Training(), network()
    training.masks.apply(reference)
    factors = {name: (one.a.detach().clone(), one.b.detach().clone()) for name, one in training.low.factors.items()}
    frozen = {name: one.detach().clone() for name, one in reference.named_parameters()}
    leaves = [tensor.requires_grad_() for pair in factors.values() for tensor in pair]
    optimizer = torch.optim.SGD(leaves, lr=0.1)
    assert set(factors) == {"0.weight", "2.weight"}
    for _ in range(3):
        given = dict(frozen)
        for name, (a, b) in factors.items():
            update = 4.0 * (b @ a)
            given[name] = training.masks[name] * (frozen[name] + (update.t() if name == "2.weight" else update))
        optimizer.zero_grad()
        nn.functional.cross_entropy(torch.func.functional_call(reference, given, (X,)), Y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    training.steps(3)
    for name, parameter in training.model.named_parameters():
        if name not in factors:
            assert torch.equal(parameter, frozen[name])
            continue
        a, b = factors[name]
        update = 4.0 * (b @ a)
        expected = training.masks[name] * (frozen[name] + (update.t() if name == "2.weight" else update))
        assert not torch.allclose(expected, frozen[name])
        assert torch.allclose(parameter, expected, atol=1e-6)
        assert not bool(parameter[~training.masks[name]].any())


def test_a_stop_on_the_way_does_not_show_and_nothing_of_it_is_kept_at_the_end() -> None:
    whole, half = Training(), Training()
    whole.steps(4)
    half.steps(2)
    other = network()
    other.load_state_dict(half.model.state_dict())
    again = Training(half.kept(), other)
    again.steps(2)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    end = again.hooks[1].at_end
    assert end is not None
    end()
    assert again.kept() == {}
    assert list(again.model.state_dict()) == list(network().state_dict())


def test_targets_are_last_parts_of_names_and_one_that_is_not_there_is_told() -> None:
    model = nn.ModuleDict({"block": nn.ModuleDict({"q_proj": nn.Linear(4, 4), "up": nn.Linear(4, 4)})})
    assert linear_weights(model, ["q_proj"], None) == {"block.q_proj.weight": False}
    with pytest.raises(UserError, match=r"retrain\.lora\.targets: no linear layer is called q_pro.*q_proj"):
        linear_weights(model, ["q_pro", "up"], None)
    with pytest.raises(UserError, match="no linear layer besides its output"):
        linear_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2)), ["all"], "1.weight")
