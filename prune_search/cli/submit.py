"""``prune-search submit``: run a search as a job on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prune_search.cli.arguments import examples, read_sets
from prune_search.cli.exits import FAILED, complain
from prune_search.cli.verbs import VERBS, Verb, parsed
from prune_search.recipe.problems import Problem, UserError, shown

if TYPE_CHECKING:
    from prune_search.search.ray.job import JobToSend

EPILOG = examples(
    "prune-search submit quickstart --address http://head:8265 --storage s3://studies/first",
    "prune-search submit my.yaml --address http://head:8265 --storage /shared/store --model net:build "
    "--tracking-uri http://mlflow:5000 --gpus-per-trial 1 --no-wait",
    "prune-search submit my --resume --address http://head:8265 --storage /shared/store",
)


@VERBS.register("submit", facts=Verb(epilog=EPILOG, passes_on=True))
def submit(
    context: typer.Context,
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE", help="Space file or shipped space, as for launch; with --resume, the name of a search."
        ),
    ],
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="URL of the head node's dashboard."
        ),
    ],
    storage: Annotated[
        str,
        typer.Option(
            "--storage", envvar="PRUNE_SEARCH_STORAGE", metavar="PLACE", help="Storage that every node can reach."
        ),
    ],
    working_dir: Annotated[
        Path | None,
        typer.Option(
            "--working-dir",
            metavar="DIR",
            help="Folder to ship to every node. Default: the space file, or the current folder for your own code.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume a search instead of launching one.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the log until the search ends.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the equivalent `ray job submit` command.")
    ] = False,
) -> int:
    """Submit a search to a Ray cluster. It runs on the head node and continues after this terminal closes.

    This package and your code are shipped with it. All options of launch (or resume) are accepted too. The cluster's
    token is read from RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN.
    """
    from prune_search.search.ray.job import SUCCEEDED, Cluster, sent

    extra = list(context.args)
    job = _job(space, address, storage, working_dir, extra, "resume" if resume else "launch")
    if dry_run:
        typer.echo(job.command())
        return 0
    cluster = Cluster(job.address)
    identity = cluster.send(job)
    complain(f"equivalent to: {job.command()}")
    for line in sent(job, identity):
        complain(line)
    if not wait:
        typer.echo(identity)
        return 0
    try:
        status, code = cluster.follow(identity, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        complain("No longer following the log; the search continues.")
        return 0
    complain(f"{identity}: {status}")
    return 0 if status == SUCCEEDED else code or FAILED


def _job(space: str, address: str, storage: str, working_dir: Path | None, extra: list[str], verb: str) -> JobToSend:
    """The job to send, with every mistake found before anything is sent.

    Raises:
        UserError: the address, the storage, an option or the space is wrong.
    """
    from prune_search.search.ray.job import JobToSend, dashboard_address, staged
    from prune_search.search.ray.runtime_env import job_environment, names_code

    where = dashboard_address(address)
    _check_storage(storage)
    parsed = _parsed(verb, [space, *extra])
    folder, written = working_dir, space
    file = Path(space)
    is_file = verb == "launch" and file.is_file()
    if verb == "launch":
        _check_space(space, parsed)
    if folder is None and names_code(parsed):
        folder = Path()
    if folder is not None and not folder.is_dir():
        raise UserError([Problem("--working-dir", f"is not a folder (got {shown(str(folder))})")])
    if folder is None and is_file:
        folder, written = staged(file), file.name
    elif is_file and folder is not None:
        if not file.resolve().is_relative_to(folder.resolve()):
            text = f"{shown(space)} is outside the shipped folder {shown(str(folder.resolve()))}"
            raise UserError([Problem("--working-dir", text)])
        written = str(file.resolve().relative_to(folder.resolve()))
    words = (verb, written, "--address", "auto", "--storage", storage, *extra)
    return JobToSend(where, words, None if folder is None else folder.resolve(), job_environment())


def _check_storage(storage: str) -> None:
    from prune_search.storage.places import place_of

    place = place_of(storage)
    if not place.is_absolute():
        text = (
            f"must be s3://BUCKET/PREFIX or the absolute path of a folder that every node sees (got {shown(storage)})"
        )
        raise UserError([Problem("--storage", text)])


def _parsed(verb: str, words: list[str]) -> dict[str, Any]:
    """Parse the extra options as options of launch or resume, so that mistakes are reported here."""
    if any(word.split("=")[0] in ("--address", "--storage") for word in words):
        raise UserError([Problem("submit", "pass --address and --storage only once")])
    return parsed(verb, words)


def _check_space(space: str, parsed: dict[str, Any]) -> None:
    """Check the space before anything is sent. The user's own code runs only on the cluster.

    Raises:
        UserError: lists every problem.
    """
    from prune_search.api.target import found, read_target

    named = [(f"task.{key}", parsed[key]) for key in ("model", "data") if parsed.get(key)]
    read_target(found(space), [*read_sets(parsed.get("sets")).items(), *named])
