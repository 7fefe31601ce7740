"""The forward and backward pass of SynFlow, on one copy with absolute weights for all iterations of a search."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.pruning.mask.channels import following_norms
from prune_search.pruning.mask.dependency_groups import TRANSPOSED
from prune_search.pruning.mask.scoring import Scores, Scoring
from prune_search.tasks.network import prunable_weights
from prune_search.tasks.passes import twin_of
from prune_search.tasks.shards import part_of, resharded, sharded_like
from prune_search.tasks.structures import tensors_in

BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True, eq=False)
class FlowPass:
    """The network of absolute values.

    Attributes:
        model: a copy in evaluation mode, everything absolute.
        leaves: its prunable weights, the only parameters that are differentiated; views of `values`, in any layout.
        values: of all leaves, one after the other.
        factors: of the values, where normalizations are folded into the weights before them; like `values`.
        ones: the input.
    """

    model: nn.Module
    leaves: tuple[nn.Parameter, ...]
    values: Tensor
    factors: Tensor | None
    ones: Any

    def scores(self, scoring: Scoring) -> Scores:
        """|w| ⊙ dR/d|w|, shaped like the weights, in the type of the pass."""
        from prune_search.pruning.mask.mask_set import ScoreError

        with torch.no_grad():
            torch._foreach_copy_(self.leaves, list(scoring.weights.values()))
            self.values.abs_()
            if self.factors is not None:
                self.values.mul_(self.factors)
        outputs = [one for one in tensors_in(self.model(self.ones)) if one.requires_grad]
        if not outputs:
            raise ScoreError("synflow takes the gradient of the network's outputs, and they have none")
        flow = outputs[0].sum() if len(outputs) == 1 else torch.stack([one.sum() for one in outputs]).sum()
        slopes = torch.autograd.grad(flow, self.leaves, allow_unused=True)
        found = {}
        parts = torch.split(torch.empty_like(self.values), [leaf.numel() for leaf in self.leaves])
        for name, leaf, slope, part in zip(scoring.weights, self.leaves, slopes, parts, strict=True):
            # A factor that is in the weight is missing in the slope: the score is the same. The slope may be laid out
            # otherwise than the weight.
            score = part.view(leaf.shape)
            found[name] = score.zero_() if slope is None else torch.mul(leaf.detach(), slope, out=score)
        return found


def plain_pass(scoring: Scoring, dtype: torch.dtype) -> FlowPass:
    """The pass as it is written down: every parameter and buffer absolute."""
    model = twin_of(scoring.model).to(dtype).eval().requires_grad_(False)
    _with_first_statistics(model)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.abs_()
    names = {id(parameter): name for name, parameter in scoring.model.named_parameters()}
    ones = scoring.ones(dtype)
    _check_takes(model, ones)
    leaves = tuple(model.get_parameter(names[id(weight)]) for weight in scoring.weights.values())
    values = torch.cat([leaf.reshape(-1) for leaf in leaves])
    for leaf, part in zip(leaves, torch.split(values, [leaf.numel() for leaf in leaves]), strict=True):
        leaf.data = part.view(leaf.shape)
        leaf.requires_grad_()
    return FlowPass(model, leaves, values, None, ones)


@dataclass(frozen=True, eq=False)
class ShardedFlowPass:
    """The network of absolute values, sharded like the one that is scored.

    Attributes:
        model: a copy in evaluation mode.
        ones: the input.
    """

    model: nn.Module
    ones: Any

    @classmethod
    def of(cls, scoring: Scoring, dtype: torch.dtype) -> ShardedFlowPass:
        """Of a sharded network; all workers call this."""
        from prune_search.tasks.sharded_twin import twin_of_shards

        model = twin_of_shards(scoring.model, dtype).eval().requires_grad_(True)
        _with_first_statistics(model)
        # As in the plain pass: buffers that are no part of the state stay as they are.
        kept = set(model.state_dict())
        resharded(model)
        with torch.no_grad():
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                if name in kept:
                    part_of(tensor).abs_()
        ones = scoring.ones(dtype)
        _check_takes(model, ones)
        return cls(model, ones)

    def scores(self, scoring: Scoring) -> Scores:
        """|w| ⊙ dR/d|w|, DTensors like the weights. Every worker makes the same pass; their mean gradient is its."""
        from prune_search.pruning.mask.mask_set import ScoreError

        names = {id(parameter): name for name, parameter in scoring.model.named_parameters()}
        resharded(self.model)
        leaves = {name: self.model.get_parameter(names[id(weight)]) for name, weight in scoring.weights.items()}
        with torch.no_grad():
            for name, leaf in leaves.items():
                part_of(leaf).copy_(part_of(scoring.weights[name])).abs_()
        self.model.zero_grad()
        outputs = [one for one in tensors_in(self.model(self.ones)) if one.requires_grad]
        if not outputs:
            raise ScoreError("synflow takes the gradient of the network's outputs, and they have none")
        torch.stack([one.sum() for one in outputs]).sum().backward()  # type: ignore[no-untyped-call]
        resharded(self.model)
        found = {}
        for name, leaf in leaves.items():
            part = part_of(leaf)
            slope = torch.zeros_like(part) if leaf.grad is None else part_of(leaf.grad)
            found[name] = sharded_like(part * slope, scoring.weights[name])
        return found


def _with_first_statistics(model: nn.Module) -> None:
    """Give batch norms that store no statistics those with which others begin, mean 0 and variance 1, in place.

    Normalized by the statistics of the input of ones itself, the sum of outputs would hardly depend on a weight.
    """
    for norm in model.modules():
        if isinstance(norm, BATCH_NORMS) and norm.running_mean is None:
            like = next((one for one in norm.parameters(recurse=False)), next(model.parameters()))
            norm.running_mean = torch.zeros(norm.num_features, dtype=like.dtype, device=like.device)
            norm.running_var = torch.ones(norm.num_features, dtype=like.dtype, device=like.device)
            norm.track_running_stats = True


def _check_takes(model: nn.Module, ones: Any) -> None:
    """Refuse a network that does not take an input of ones: token ids, say, must be whole numbers."""
    from prune_search.pruning.mask.mask_set import ScoreError

    try:
        with torch.no_grad():
            outputs = tensors_in(model(ones))
    except Exception as error:
        said = (str(error).splitlines() or [""])[0][:120]
        text = f"synflow sends an input of ones through the network, which does not take it ({said})"
        raise ScoreError(text) from error
    if not outputs:
        raise ScoreError("synflow sums the outputs of the network, and it returns no tensor")


def fast_pass(scoring: Scoring) -> FlowPass:
    """The pass in float32, normalizations folded into the layers before them and pictures laid out by pixels.

    It takes about three quarters of the time. Who uses it compares it with the plain one first: folding is wrong in a
    network that also uses a layer's output without the normalization, and that shows at once.
    """
    plain = plain_pass(scoring, torch.float32)
    factors = _fold(plain)
    ones = plain.ones
    if isinstance(ones, Tensor) and ones.dim() == 4:
        ones = ones.contiguous(memory_format=torch.channels_last)
        try:
            with torch.no_grad():
                plain.model(ones)
            _by_pixels(plain)
        except RuntimeError:
            # A network that takes `view`s of pictures needs the layout that it was written for.
            ones = plain.ones
    return FlowPass(plain.model, plain.leaves, plain.values, factors, ones)


def _by_pixels(plain: FlowPass) -> None:
    """Lay the weights of convolutions out like the pictures, so that no pass turns them round."""
    for leaf, part in zip(plain.leaves, torch.split(plain.values, [one.numel() for one in plain.leaves]), strict=True):
        if leaf.dim() == 4:
            first, second, high, wide = leaf.shape
            leaf.data = part.view(first, high, wide, second).permute(0, 3, 1, 2)


def _fold(plain: FlowPass) -> Tensor:
    """Make normalizations the identity, their shifts biases of the layers before them; the factors of the values."""
    modules = dict(plain.model.named_modules())
    layers = {id(module._parameters.get("weight")): module for module in modules.values()}
    weights = prunable_weights(plain.model)
    norms = following_norms(plain.model, plain.ones)
    uses = Counter(name for names in norms.values() for name in names)
    factors = torch.ones_like(plain.values)
    parts = torch.split(factors, [leaf.numel() for leaf in plain.leaves])
    part_of = {id(leaf): part for leaf, part in zip(plain.leaves, parts, strict=True)}
    for name, (norm_name, *others) in norms.items():
        layer, norm, weight = layers[id(weights[name])], modules[norm_name], id(weights[name])
        one_to_one = weight in part_of and not others and uses[norm_name] == 1 and not isinstance(layer, TRANSPOSED)
        if not one_to_one or not isinstance(norm, BATCH_NORMS) or norm.running_var is None:
            continue
        scale, shift = _affine(norm, layer)
        part_of[weight].view(scale.numel(), -1).mul_(scale.unsqueeze(1))
        layer.bias = nn.Parameter(shift, requires_grad=False) if bool(shift.any()) else None
        norm.forward = nn.Identity().forward  # type: ignore[method-assign]
    return factors


def _affine(norm: nn.modules.batchnorm._BatchNorm, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """What a normalization of absolute values multiplies a layer's weights with, and its output's shift."""
    mean, variance = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    scale, bias = (variance + norm.eps).rsqrt(), layer._parameters["bias"]
    shift = -mean if bias is None else bias.double() - mean
    if norm.affine:
        scale = scale * norm.weight.double()
    shift = shift * scale
    if norm.affine:
        shift = shift + norm.bias.double()
    return scale.float(), shift.float()
