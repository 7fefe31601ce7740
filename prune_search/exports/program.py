"""Opens the program of torch.export in an exported folder as a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prune_search.recipe.problems import Problem, UserError
from prune_search.storage.files import one_line, open_regular
from prune_search.tasks.batches import Inputs, named_tensors


class Program(nn.Module):
    """Takes what the whole network takes: its tensors one by one, one tensor, or `Inputs`; and gives what that gives.

    Attributes:
        network: takes its input tensors one by one.
        names: of these.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, *given: Any, **named: Tensor) -> Any:
        """The output tensor, or a tuple of them, for inputs [B, …]."""
        if len(given) == 1 and isinstance(given[0], Inputs):
            named, given = named_tensors(self, given[0]), ()
        return self.network(*given, *(named[name] for name in self.names[len(given) :]))

    def train(self, mode: bool = True) -> Program:
        """A program is what it was exported as: in evaluation mode. It stays there."""
        self.training = False
        return self


def opened(path: Path, names: Sequence[str]) -> Program:
    """The network of a program. torch.export.load can run code that the file brings: the caller trusts it.

    Args:
        path: of program.pt2.
        names: of its inputs, in their order.

    Raises:
        UserError: it is missing, no regular file, or no program.
    """
    try:
        with open_regular(path) as file:
            network = torch.export.load(file).module()
    except Exception as error:
        raise UserError([Problem("", f"cannot be read as a program: {one_line(error)}", str(path))]) from error
    return Program(network, names).train(False)
