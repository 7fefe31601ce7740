"""Checks the address of a Ray cluster before Ray does, which would wait for minutes if nothing is there."""

from __future__ import annotations

import socket

from prune_search.recipe.problems import Problem, UserError
from prune_search.search.ray.token import HOW
from prune_search.storage.files import one_line

ANSWER_S = 10.0


def check_address(address: str) -> None:
    """Find out whether somebody listens at ``HOST:PORT`` or ``ray://HOST:PORT``; other forms are left to Ray.

    Raises:
        UserError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_cluster(address, error) from None


def no_cluster(address: str, error: Exception) -> UserError:
    """That there is no cluster, and why; where somebody listens and does not let us in, what a token needs."""
    text = f"there is no Ray cluster at {address}: {one_line(error)}"
    if "Failed to connect" in text or "uthentication" in text:
        text = (
            f"the Ray cluster at {address} refuses the connection, or is not a Ray cluster ({one_line(error)}): {HOW}"
        )
    return UserError([Problem("--address", text)])
