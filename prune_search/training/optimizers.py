"""Optimizers, with buffers as named tensors that can be stored, restored and masked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prune_search.recipe.axes import OPTIMIZERS
from prune_search.recipe.facts import OptimizerFacts
from prune_search.recipe.fields import Either, Flag, Integer, Number, Word
from prune_search.recipe.problems import Problem, UserError
from prune_search.recipe.registry import Field, Option
from prune_search.tasks.shards import is_shard

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from prune_search.training.sghmc import Posterior

    # The parameters, or groups of them as torch takes them.
    Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
else:
    from prune_search.lazy import torch

# The factor of a group's learning rate, beside torch's own keys of a parameter group.
SCALE = "scale"
_FRACTION = Number(0.0, 1.0, below=True)
_RATE = Number(0.0, above=True)
# A weight decay that is made of the prior that the initializer found (`parameter_groups.with_strengths`).
FROM_PRIOR = "from-prior"
_DECAY = Either(((str, Word((FROM_PRIOR,))), ((int, float), Number(0.0))))
MUON_SINCE = (2, 9)


def _adam_options(weight_decay: float, decay_doc: str, decay: Field) -> dict[str, Option]:
    return {
        "lr": Option(_RATE, 0.001, "learning rate before the schedule"),
        "beta1": Option(_FRACTION, 0.9, "decay of the mean of the gradient, per step"),
        "beta2": Option(_FRACTION, 0.999, "decay of the mean of the squared gradient, per step"),
        # Above 0: with 0 a masked weight, whose buffers are 0, would become 0 / 0.
        "eps": Option(Number(0.0, above=True), 1e-8, "added to the root of the mean squared gradient"),
        "weight_decay": Option(decay, weight_decay, decay_doc),
    }


def _nesterov_needs_momentum(momentum: float, nesterov: bool, **others: float) -> str:
    return "nesterov: true needs a momentum above 0 (got momentum 0.0)" if nesterov and momentum == 0.0 else ""


@OPTIMIZERS.register(
    "sgd",
    summary="stochastic gradient descent with momentum",
    source="Sutskever, Martens, Dahl, Hinton 2013, ICML, in torch's form",
    options={
        "lr": Option(_RATE, 0.1, "learning rate before the schedule"),
        "momentum": Option(_FRACTION, 0.9, "decay of the momentum buffer, per step"),
        "weight_decay": Option(
            _DECAY, 5e-4, "coefficient of the weight that is added to the gradient; from-prior: 1 / (variance · N)"
        ),
        "nesterov": Option(Flag(), False, "use Nesterov momentum; needs momentum above 0"),
    },
    facts=OptimizerFacts(check=_nesterov_needs_momentum, sharded=True),
)
def sgd(
    parameters: Parameters,
    lr: float = 0.1,
    *,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """``v = momentum * v + g + weight_decay * w``, then ``w = w - lr * v``. The buffer v starts at zero.

    Raises:
        UserError: Nesterov's form is asked for without a momentum.
    """
    if nesterov and momentum == 0.0:
        raise UserError([Problem("nesterov", "true needs a momentum above 0 (got momentum 0.0)", form=False)])
    given: list[Any] = list(parameters)
    optimizer = torch.optim.SGD(
        given, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, **_implementation(given)
    )
    return _guarded(optimizer)


@OPTIMIZERS.register(
    "adam",
    summary="Adam; weight decay is part of the gradient",
    source="Kingma, Ba 2014, arXiv 1412.6980",
    options=_adam_options(
        0.0, "coefficient of the weight that is added to the gradient; from-prior: 1 / (variance · N)", _DECAY
    ),
    facts=OptimizerFacts(sharded=True),
)
def adam(
    parameters: Parameters,
    lr: float = 0.001,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Adam, algorithm 1 of the paper."""
    given: list[Any] = list(parameters)
    return _guarded(
        torch.optim.Adam(
            given, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, **_implementation(given)
        )
    )


@OPTIMIZERS.register(
    "adamw",
    summary="Adam with decoupled weight decay",
    source="Loshchilov, Hutter 2017, arXiv 1711.05101",
    options=_adam_options(
        0.01, "coefficient of weight times learning rate that is subtracted from the weight", Number(0.0)
    ),
    facts=OptimizerFacts(sharded=True),
)
def adamw(
    parameters: Parameters,
    lr: float = 0.001,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay, algorithm 2 of the paper, in torch's form (the decay is times the rate)."""
    given: list[Any] = list(parameters)
    return _guarded(
        torch.optim.AdamW(
            given, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, **_implementation(given)
        )
    )


@OPTIMIZERS.register(
    "rmsprop",
    summary="the gradient divided by a running root mean square; weight decay is part of the gradient",
    source="Tieleman, Hinton 2012, COURSERA Lecture 6.5, in torch's form without momentum",
    options={
        "lr": Option(_RATE, 0.001, "learning rate before the schedule"),
        "decay": Option(_FRACTION, 0.9, "decay of the mean square, per step"),
        "eps": Option(Number(0.0, above=True), 1e-7, "added to the root"),
        "weight_decay": Option(Number(0.0), 0.0, "coefficient of the weight that is added to the gradient"),
    },
    facts=OptimizerFacts(sharded=True),
)
def rmsprop(
    parameters: Parameters, lr: float = 0.001, *, decay: float = 0.9, eps: float = 1e-7, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """``v = decay * v + (1 - decay) * g²``, then ``w = w - lr * g / (√v + eps)``; v starts at zero."""
    given: list[Any] = list(parameters)
    optimizer = torch.optim.RMSprop(given, lr=lr, alpha=decay, eps=eps, weight_decay=weight_decay)
    return _guarded(optimizer)


def _has_muon(**options: object) -> str:
    """Empty where torch has the optimizer; said without importing torch."""
    has = tuple(int(part) for part in version("torch").split("+")[0].split(".")[:2])
    return (
        ""
        if has >= MUON_SINCE
        else f"muon needs torch {MUON_SINCE[0]}.{MUON_SINCE[1]} or later (this is {has[0]}.{has[1]})"
    )


@OPTIMIZERS.register(
    "muon",
    summary="momentum made orthogonal for weights of two dimensions; AdamW for all others",
    source="Jordan et al. 2024, Muon, kellerjordan.github.io/posts/muon; Liu et al. 2025, 2502.16982",
    options={
        "lr": Option(_RATE, 0.02, "learning rate of weights of two dimensions before the schedule"),
        "momentum": Option(_FRACTION, 0.95, "decay of the momentum buffer, per step"),
        "nesterov": Option(Flag(), True, "use Nesterov momentum"),
        "weight_decay": Option(Number(0.0), 0.1, "coefficient of weight times learning rate that is subtracted"),
        "iterations": Option(Integer(1, 20), 5, "Newton-Schulz iterations per step"),
        "adamw_lr": Option(_RATE, 0.001, "learning rate of all other parameters before the schedule"),
        "beta1": Option(_FRACTION, 0.9, "for AdamW: decay of the mean of the gradient, per step"),
        "beta2": Option(_FRACTION, 0.999, "for AdamW: decay of the mean of the squared gradient, per step"),
        "eps": Option(Number(0.0, above=True), 1e-8, "for AdamW: added to the root of the mean squared gradient"),
    },
    facts=OptimizerFacts(check=_has_muon),
)
def muon(
    parameters: Parameters,
    lr: float = 0.02,
    *,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.1,
    iterations: int = 5,
    adamw_lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> torch.optim.Optimizer:
    """torch's Muon for parameters of two dimensions and its AdamW for the others, as one optimizer.

    Both take the same weight decay. A schedule changes both rates by the same factor, and so does a rate that is held:
    AdamW's is always adamw_lr / lr times Muon's.

    Raises:
        UserError: this torch has no Muon.
    """
    from prune_search.training.muon import MuonWithAdamW

    if wrong := _has_muon():
        raise UserError([Problem("", wrong, form=False)])
    groups: list[dict[str, Any]] = [item if isinstance(item, dict) else {"params": [item]} for item in parameters]
    if groups and all(set(group) == {"params"} for group in groups):
        groups = [{"params": [parameter for group in groups for parameter in group["params"]]}]
    flat: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for group in groups:
        for part, fits, scale in ((flat, True, 1.0), (others, False, adamw_lr / lr)):
            chosen = [parameter for parameter in group["params"] if (parameter.ndim == 2) == fits]
            if chosen:
                part.append({**group, "params": chosen, SCALE: group.get(SCALE, 1.0) * scale})
    inner: list[torch.optim.Optimizer] = []
    if flat:
        settings: dict[str, Any] = {"momentum": momentum, "nesterov": nesterov, "ns_steps": iterations}
        inner.append(torch.optim.Muon(flat, lr=lr, weight_decay=weight_decay, **settings))
    if others:
        inner.append(adamw(others, lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay))
    return MuonWithAdamW(inner)


@OPTIMIZERS.register(
    "sghmc",
    summary="stochastic-gradient Hamiltonian Monte Carlo: draws weights from their posterior, scale-adapted",
    source="Chen, Fox & Guestrin 2014, 1402.4102; Springenberg et al. 2016, NeurIPS, eqs. 8-10",
    options={
        "lr": Option(_RATE, 0.01, "step size before the schedule, which has to hold for exact samples"),
        "friction": Option(Number(0.0, 1.0, above=True), 0.05, "share of the velocity that is lost per step"),
        "burn_in": Option(Integer(1, 10**9), 2000, "steps in which the scale of the gradients is estimated"),
        "weight_decay": Option(_DECAY, 5e-4, "precision of the prior over N; from-prior: 1 / (variance · N)"),
    },
    facts=OptimizerFacts(samples=True),
)
def sghmc(
    parameters: Parameters,
    lr: float = 0.01,
    *,
    friction: float = 0.05,
    burn_in: int = 2000,
    weight_decay: float = 5e-4,
    posterior: Posterior | None = None,
) -> torch.optim.Optimizer:
    """See `sghmc.SGHMC`. The posterior is exp(-N (mean loss + weight_decay ‖w‖² / 2)), N examples.

    Without a `posterior`, N is 1 and the noise is that of seed 0.
    """
    from prune_search.training.sghmc import SGHMC, Posterior

    return SGHMC(list(parameters), lr, friction, burn_in, weight_decay, posterior or Posterior())


def _implementation(given: list[Any]) -> dict[str, Any]:
    # Fused: on one CPU thread 2 to 5 times as fast as torch's foreach and plain loops (torch 2.13, 5 thousand to 5
    # million weights), with the same bits whatever the alignment and the number of threads; on CUDA one kernel a step.
    # Sharded weights have no fused kernel.
    parameters = [p for item in given for p in (item["params"] if isinstance(item, Mapping) else (item,))]
    fits = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() and not is_shard(p) for p in parameters)
    return {"fused": True} if fits else {}


def _guarded(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.register_step_pre_hook(_make_ready)
    return optimizer


def _make_ready(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """What torch's fused kernels take for granted: strides that agree, and momentum for all parameters or for none.

    They walk through memory and would update the wrong weights where a gradient lies differently from its parameter,
    without a word; and they fail where a parameter has its first gradient later than the others.
    """
    state = optimizer.state
    for group in optimizer.param_groups:
        momentum = group.get("momentum")
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
            if momentum and "momentum_buffer" not in state[parameter]:
                state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its learning rate: `rate` times the group's ``scale``, which is 1 where it has none."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[SCALE] if SCALE in group else rate


def state_tensors(optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]) -> dict[str, Tensor]:
    """The optimizer's buffers as flat named tensors: ``layer1.weight/exp_avg``, ``layer1.weight/step``.

    Args:
        optimizer: any whose buffers are tensors.
        names: the name of each of its parameters.

    Returns:
        Contiguous copies, on the parameters' device. Empty before the first step.

    Raises:
        ValueError: a buffer is no tensor, or a parameter has no name.
    """
    found: dict[str, Tensor] = {}
    held = [p for group in optimizer.param_groups for p in group["params"] if p in optimizer.state]
    for parameter in held:
        if parameter not in names:
            raise ValueError(f"a parameter of shape {tuple(parameter.shape)} has optimizer buffers and no name")
        for buffer, value in optimizer.state[parameter].items():
            if not isinstance(value, torch.Tensor):
                raise ValueError(f"{names[parameter]}/{buffer} is a {type(value).__name__}; only tensors can be stored")
            found[f"{names[parameter]}/{buffer}"] = value.detach().clone(memory_format=torch.contiguous_format)
    return found


def load_state_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str], tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimizer the buffers that `state_tensors` returned; going on from there is as never having stopped.

    The buffers are fresh copies, laid out in memory as their parameters are. A parameter of which nothing is given
    starts without buffers.

    Args:
        optimizer: of the same kind and with the same options.
        names: the name of each of its parameters.
        tensors: what `state_tensors` returned, on any device.

    Raises:
        ValueError: a tensor belongs to no parameter here, or its shape is not its parameter's; nothing is changed then.
    """
    owned = {names[p]: p for group in optimizer.param_groups for p in group["params"] if p in names}
    fused = bool(optimizer.defaults.get("fused"))
    restored: dict[nn.Parameter, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, buffer = key.rpartition("/")
        if name not in owned:
            raise ValueError(f"{key} does not belong to a parameter of this optimizer")
        restored.setdefault(owned[name], {})[buffer] = _laid_out(owned[name], key, tensor, fused)
    for parameter in owned.values():
        optimizer.state.pop(parameter, None)
    for parameter, buffers in restored.items():
        optimizer.state[parameter] = buffers


def _laid_out(parameter: nn.Parameter, key: str, tensor: Tensor, fused: bool) -> Tensor:
    if key.endswith("/step"):
        # torch keeps the count of steps on the CPU, except for fused kernels.
        return tensor.detach().clone().to(parameter.device if fused else "cpu")
    if tensor.shape != parameter.shape:
        raise ValueError(f"{key} has shape {tuple(tensor.shape)}, but its parameter has {tuple(parameter.shape)}")
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor.detach())


def zero_masked(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, mask: Tensor) -> None:
    """Set the buffers of `parameter` to exactly 0 where the mask is False, in place.

    Args:
        optimizer: any; buffers of another shape than the parameter's (counts of steps) are left alone.
        parameter: one of its parameters; nothing happens before it has buffers.
        mask: bool, of the parameter's shape and on its device; True is kept.

    Raises:
        ValueError: the mask is not of the parameter's shape, or not bool.

    Example:
        Momentum [0.5, -0.2, 0.1] with mask [True, False, True] becomes [0.5, 0.0, 0.1].
    """
    if mask.shape != parameter.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}; it must be bool of shape {tuple(parameter.shape)}"
        )
    if parameter not in optimizer.state:  # a look would make an empty entry
        return
    pruned = ~mask
    for buffer, value in optimizer.state[parameter].items():
        if buffer != "step" and isinstance(value, torch.Tensor) and value.shape == parameter.shape:
            value.masked_fill_(pruned, 0.0)
