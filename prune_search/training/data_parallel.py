"""Trains one trial on several workers: a leader runs it, and followers process their part of every batch.

The leader alone runs the trial: it finds masks, steps the optimizer, measures, stores states and writes records. For a
step it sends its weights to the followers; every worker passes over its part of the batch, and the gradients are summed
at the leader. So each paradigm is data-parallel without knowing of it, nothing that is decided can differ between the
workers, and a follower keeps nothing that could be lost.

A step moves the weights to the followers and the gradients back, about what an all-reduce of the gradients moves. It
does not overlap with the passes.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from prune_search.storage.digests import weights_digest
from prune_search.tasks.fusion import RECORD, records_of, restructured
from prune_search.tasks.structures import examples_in, some_examples
from prune_search.training.loop import Feed, Network, WorkerLostError, seed_layers
from prune_search.training.randomness import derive
from prune_search.training.synced_norms import synced_norms
from prune_search.training.teaching import Teaching

LEADER = 0
# A follower waits while the leader measures, finds a mask, or reads what is stored. One that has died is noticed
# elsewhere: its connection breaks, or whoever started it looks after it.
WAIT_S = 86_400
# By which torch's messages of a broken connection are told from others: not all of them are of a kind of their own.
TRANSPORTS = ("gloo", "NCCL")


@dataclass(frozen=True)
class WorkerGroup:
    """The workers of a trial, after torch.distributed was initialised.

    Attributes:
        rank: of this one; 0 leads.
        size: how many there are.
        words: the group over which the leader tells the others what comes next; on CPUs also with NCCL.
    """

    rank: int
    size: int
    words: Any

    @classmethod
    def joined(cls) -> WorkerGroup:
        """The worker group of this process's default process group."""
        own = dist.get_backend() == "gloo"
        words = None if own else dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=WAIT_S))
        return cls(dist.get_rank(), dist.get_world_size(), words)

    def say(self, what: Any) -> None:
        """Tell the followers what comes next."""
        dist.broadcast_object_list([what], LEADER, group=self.words)

    def hear(self) -> Any:
        """What the leader says comes next."""
        heard: list[Any] = [None]
        dist.broadcast_object_list(heard, LEADER, group=self.words)
        return heard[0]

    def share_state(self, model: nn.Module) -> None:
        """Give the leader's weights and buffers to everybody, bit for bit."""
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for tensor in model.state_dict().values():
            kinds.setdefault(tensor.dtype, []).append(tensor)
        with torch.no_grad():
            for tensors in kinds.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
                dist.broadcast(flat, LEADER)
                if self.rank != LEADER:
                    for tensor, part in zip(tensors, torch.split(flat, [one.numel() for one in tensors]), strict=True):
                        tensor.copy_(part.reshape(tensor.shape))

    def pass_over(self, network: Network, feed: Feed, number: int) -> Tensor:
        """This worker's part of a pass over a batch: the sum over all is there at the leader.

        Returns:
            The loss of the whole batch, at the leader.
        """
        words = ("layers", *feed.words, number)
        # With one worker more, the leader's layers still draw what they drew.
        seed_layers(network.device, derive(feed.seed, *words, *(() if self.rank == LEADER else (self.rank,))))
        inputs, labels = feed(number)
        count = examples_in(inputs)
        # As torch.tensor_split divides: the first ones have one more.
        ends = [(rank * (count // self.size) + min(rank, count % self.size)) for rank in (self.rank, self.rank + 1)]
        own_inputs, own_labels = (some_examples(part, slice(*ends)) for part in (inputs, labels))
        with network.autocast():
            loss = network.loss(network.model(own_inputs), own_labels) * ((ends[1] - ends[0]) / count)
        loss.backward()  # type: ignore[no-untyped-call]
        return self._sum_gradients(list(network.model.parameters()), loss.detach())

    def _sum_gradients(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum the gradients at the leader; a parameter that no worker has one of has none there."""
        has = loss.new_tensor([float(parameter.grad is not None) for parameter in parameters])
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        # torch.cat takes the widest of the types.
        flat = torch.cat([loss.reshape(1), has, *(gradient.reshape(-1) for gradient in gradients)])
        dist.reduce(flat, LEADER)
        if self.rank != LEADER:
            return loss
        sizes = [1, len(parameters), *(parameter.numel() for parameter in parameters)]
        total, count, *sums = torch.split(flat, sizes)
        for parameter, there, summed in zip(parameters, count.tolist(), sums, strict=True):
            if there:
                parameter.grad = torch.empty_like(parameter).copy_(summed.reshape(parameter.shape))
        return total.squeeze(0)


@dataclass
class Leader:
    """What the leader does with its followers.

    Attributes:
        worker_group: all workers.
        broken: whether they no longer wait for a word: this one failed where the others did not.
    """

    worker_group: WorkerGroup
    broken: bool = False
    _asked: tuple[bool, ...] = field(default=())
    _taught: Teaching | None = None
    _fused: tuple[str, ...] = ()

    def _share_structure(self, model: nn.Module) -> None:
        """Tell the followers which layers of the network were fused, where that has changed."""
        found = {f"{name}.{RECORD}": record.cpu() for name, record in records_of(model).items()}
        if (now := tuple(f"{name} {record.tolist()}" for name, record in found.items())) != self._fused:
            self._fused = now
            shapes = {name: tensor.shape for name, tensor in model.state_dict().items() if name not in found}
            self.worker_group.say(("structure", found, shapes))

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What all workers do at the same time.

        Raises:
            WorkerLostError: the connection to one of them broke.
        """
        self.broken = True
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or any(word in str(error) for word in TRANSPORTS):
                lines = str(error).splitlines() or [""]
                raise WorkerLostError(f"a data-parallel worker was lost: {lines[0][:300]}") from error
            raise
        self.broken = False

    def gradients(self, network: Network, feed: Feed, number: int) -> Tensor:
        """The gradients of a batch, by all workers; see `loop.Network.gradients`."""
        # Learned masks ask for gradients of weights that may be frozen otherwise.
        asked = tuple(parameter.requires_grad for parameter in network.model.parameters())
        told = None if asked == self._asked else asked
        self._asked = asked
        with self._together(), synced_norms(network.model):
            if network.teaching is not None and network.teaching is not self._taught:
                self._taught = network.teaching
                self.worker_group.say(("teacher", network.role))
                self.worker_group.share_state(network.teaching.teacher)
            self._share_structure(network.model)
            self.worker_group.say(("pass", feed.words, number, told, network.role))
            self.worker_group.share_state(network.model)
            return self.worker_group.pass_over(network, feed, number)

    def check(self, model: nn.Module, expected: str) -> None:
        """Every worker is given the leader's weights and buffers, and says what it then holds.

        Args:
            model: in its last state.
            expected: the sha256 of that (`digests.weights_digest`).

        Raises:
            WorkerLostError: a worker is gone.
            RuntimeError: some worker holds something else, and so another mask.
        """
        found: list[Any] = [None] * self.worker_group.size
        with self._together():
            self._share_structure(model)
            self.worker_group.say(("check",))
            self.worker_group.share_state(model)
            dist.gather_object(_digest(model), found, LEADER, group=self.worker_group.words)
        if wrong := [rank for rank, digest in enumerate(found) if digest != expected]:
            raise RuntimeError(
                f"workers {wrong} of {self.worker_group.size} have different weights from the trial's result"
            )

    def end(self) -> None:
        """Let the followers go."""
        if not self.broken:
            self.worker_group.say(("end",))


def follow(
    worker_group: WorkerGroup,
    network: Network,
    feeds: Callable[..., Feed],
    networks: Callable[[str], Network] | None = None,
) -> None:
    """Take part in the passes of the leader until it ends.

    Args:
        worker_group: all workers.
        network: the same as the leader's.
        feeds: from the words of a stream to its batches (`setup.TrialSetup.feed`).
        networks: from a role to the network with the loss of that role; None: there is one for all.
    """
    model = network.model
    known: dict[str, Network] = {}

    def in_role(role: str) -> Network:
        if role not in known:
            known[role] = network if networks is None else networks(role)
        return known[role]

    while True:
        match worker_group.hear():
            case ("teacher", role):
                if (teaching := in_role(role).teaching) is not None:
                    worker_group.share_state(teaching.teacher)
            case ("structure", found, shapes):
                restructured(model, {**found, **{name: torch.empty(shape) for name, shape in shapes.items()}})
            case ("pass", words, number, asked, role):
                own = in_role(role)
                if asked is not None:
                    for parameter, wanted in zip(model.parameters(), asked, strict=True):
                        parameter.requires_grad_(wanted)
                model.train()
                worker_group.share_state(model)
                for parameter in model.parameters():
                    parameter.grad = None
                listening = contextlib.nullcontext() if own.teaching is None else own.teaching.listening(model)
                with synced_norms(model), listening:
                    worker_group.pass_over(own, feeds(*words), number)
            case ("check",):
                worker_group.share_state(model)
                dist.gather_object(_digest(model), None, LEADER, group=worker_group.words)
            case _:
                return


def _digest(model: nn.Module) -> str:
    state: Mapping[str, Tensor] = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    return weights_digest(state)
