"""Whether somebody listens at the address of a cluster, before Ray waits for minutes."""

from __future__ import annotations

import socket

import pytest

from prune_search.recipe.problems import UserError
from prune_search.search.ray.address import check_address, no_cluster


def test_an_address_where_somebody_listens_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_address(f"127.0.0.1:{port}")
        check_address(f"ray://127.0.0.1:{port}")
    with pytest.raises(UserError, match=rf"--address: there is no Ray cluster at 127\.0\.0\.1:{port}: "):
        check_address(f"127.0.0.1:{port}")


def test_what_is_no_host_and_port_is_left_to_ray_and_a_wrong_port_is_not() -> None:
    check_address("auto")
    check_address("local")
    for address in ("127.0.0.1:99999", "no-such-host.invalid:6379"):
        with pytest.raises(UserError, match=address):
            check_address(address)


def test_where_somebody_listens_and_refuses_a_token_is_what_is_missing() -> None:
    (problem,) = no_cluster("head:6379", ConnectionError("Failed to connect to GCS")).problems
    assert "refuses the connection, or is not a Ray cluster" in problem.message
    assert "RAY_AUTH_TOKEN_PATH=FILE" in problem.message
    (problem,) = no_cluster("head:6379", ValueError("no\nidea")).problems
    assert problem.message == "there is no Ray cluster at head:6379: no idea"
