"""What is collected while a file is read, and the placeholder for a value that could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prune_search.recipe.problems import Problem


class UnreadableError(Exception):
    """A value that could not be read was looked into."""


def _looked_into(*_: Any) -> Any:
    raise UnreadableError


class _Bad:
    """What stands for a value that could not be read. It can be told by ``is``; whoever looks into it is stopped."""

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _looked_into
    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = _looked_into
    get = items = keys = values = _looked_into

    def __repr__(self) -> str:
        return "bad"


BAD: Any = _Bad()


@dataclass
class Reading:
    """What is gathered while a file is read.

    Attributes:
        problems: everything that is wrong, in the order of the file.
        outer_optimizer: the canonical optimizer that an optimizer given in part inside a phase is merged over; None
            where it is wrong itself, so that nothing can be said of such a part.
        partial: whether a mapping or list of which a part is wrong is given with BAD in that place, so that more can be
            said of the rest; without, all of it is BAD.
        library: whether it is the call of a library function.
        of_0_1: whether what is left out means what it meant to version 0.1.
    """

    problems: list[Problem] = field(default_factory=list)
    outer_optimizer: Mapping[str, Any] | None = None
    partial: bool = False
    library: bool = False
    of_0_1: bool = False

    def wrong(self, path: str, message: str, form: bool = True) -> Any:
        self.problems.append(Problem(path, message, form=form))
        return BAD
