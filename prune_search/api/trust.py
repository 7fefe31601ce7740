"""Decides whether a search may run the code and use the MLflow server it names: only if this user has allowed it.

A search can come from anywhere: a shared storage, a colleague's archive. Its records are data. But code that it names
would run as the user who resumes it, and the MLflow that it names would be sent that user's credentials. So either this
user has launched exactly this search on this machine (a note in the user's own folder says so), or names both again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.files import StorageError, put_file
from prune_search.storage.places import StoragePath, state_home

if TYPE_CHECKING:
    from pathlib import Path

    from prune_search.api.where import Where
    from prune_search.trial.data_and_network import Factory

logger = logging.getLogger("prune_search")

LAUNCHED = "launched"
CODE_KEYS = ("model", "data")
# What this module and its callers read of search.json, and of which kind it is.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "space": (dict,),
    "text": (str,),
    "source": (str,),
    "task": (dict,),
    "data_root": (str, type(None)),
    "code": (dict,),
    "given": (dict,),
    "tracking_uri": (str,),
    "experiment": (str,),
}


_ABSENT = object()


def checked(definition: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A search's definition, once it is known to hold what one holds.

    Raises:
        UserError: it lacks keys, or they hold other things; all of them at once.
    """
    problems = [
        Problem(key, f"is missing from the search's records or has the wrong type ({shown(definition.get(key))})")
        for key, kinds in _KINDS.items()
        if not isinstance(definition.get(key, {} if key == "given" else _ABSENT), kinds)
    ]
    code = definition.get("code")
    if isinstance(code, dict):
        problems += [
            Problem(f"code.{key}", f"must be package.module:factory (got {shown(code[key])})")
            for key in CODE_KEYS
            if not isinstance(code.get(key), str | None)
        ]
    if problems:
        raise UserError(problems).of(name)
    return definition


def remember(definition: Mapping[str, Any]) -> None:
    """Note that this user launches a search; without the note `resume` asks for the names of its code again."""
    try:
        note = _note(definition)
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        put_file(note, f"{definition['name']}\n".encode())
    except (OSError, StorageError, UserError) as error:
        logger.warning("cannot record that you launched this search (%s): resume will ask for its code", error)


def launched_here(definition: Mapping[str, Any]) -> bool:
    """Whether this user launched exactly this search on this machine."""
    try:
        return _note(definition).is_file()
    except UserError:
        # There is nowhere to note it.
        return False


def _note(definition: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    return state_home() / LAUNCHED / digest


def allowed_code(definition: Mapping[str, Any], where: Where, name: str) -> dict[str, str | Factory | None]:
    """The model and the data of a search that may run: those that the user launched it with, or names again.

    Args:
        definition: content of search.json.
        where: with the model and data that were named now.
        name: of the search.

    Raises:
        UserError: the search names code, and the user does not; or the user names other code.
    """
    from prune_search.search.given_code import settings_digest
    from prune_search.tasks.task import Whole
    from prune_search.tasks.user import name_of

    ours = launched_here(definition)
    used = {key: definition["code"].get(key) for key in CODE_KEYS}
    allowed: dict[str, str | Factory | None] = {}
    problems: list[Problem] = []
    missing: dict[str, str] = {}
    elsewhere: dict[str, str] = {}
    for key, given in where.given_code().items():
        known = used[key]
        of_task = given is not None and getattr(where, key) is None
        if of_task and known is None and any(used.values()):
            # The search takes one of the two from the task, and the other one is registered.
            given = None
        option = "--task" if of_task else f"--{key}"
        if given is not None and (given if isinstance(given, str) else name_of(given)) != known:
            # A registered model is no code: the recipes name it.
            text = f"the search was launched with {shown(known)}" if known else "the search uses no custom code"
            problems.append(Problem(option, f"{text} (got {shown(given)})", name))
        elif (settings := definition.get("given", {}).get(key)) is not None:
            if given is None or isinstance(given, str):
                elsewhere[key] = known or ""
            elif settings_digest(given) != settings:
                text = f"{known} has other arguments than the function that the search was launched with"
                problems.append(Problem(option, text, name))
        elif given is None and known is not None and not ours:
            missing[key] = known
        allowed[key] = known if given is None else given
    for key, known in _by_option(elsewhere).items():
        what = f"a function that cannot be imported as {known} (from a script or notebook, or a partial)"
        text = (
            f"the search was launched from Python with {'a Task' if known == name_of(Whole) else what}: resume it "
            f"there, with prune_search.resume({name!r}, where=prune_search.Where({key}=…))"
        )
        problems.append(Problem(f"--{key}", text, name))
    if missing:
        text = "this search uses custom code and was not launched by you on this machine. Review the code, then pass"
        words = " ".join(f"--{key} {shlex.quote(known)}" for key, known in _by_option(missing).items())
        problems.append(Problem("", f"{text} {words}", name))
    if problems:
        # What a task gives is both: once is enough.
        raise UserError(dict.fromkeys(problems))
    return allowed


def _by_option(named: Mapping[str, str]) -> Mapping[str, str]:
    """What is named as model and as data; as task where that is the same."""
    both = len(named) == len(CODE_KEYS) and len(set(named.values())) == 1
    return {"task": named["data"]} if both else named


def check_tracking(definition: Mapping[str, Any], storage: StoragePath, named: str | None, name: str) -> None:
    """Find out whether what a search reports may be sent to the MLflow that it names.

    It may where that lies in the storage, where the user launched the search, and where ``--tracking-uri`` or
    ``$MLFLOW_TRACKING_URI`` names the same one.

    Raises:
        UserError: it may not; or the user names another one.
    """
    from prune_search.ledger.tracking_uri import absolute_sqlite, default_uri, uri_of
    from prune_search.ledger.uris import masked
    from prune_search.tracking.store import absolute_uri

    uri = uri_of(definition, storage)
    if named is not None:
        if absolute_uri(named, storage) != uri:
            text = f"the search was launched with {masked(uri)}; use prune-search sync to deliver to another server"
            raise UserError([Problem("--tracking-uri", text, name)])
        return
    around = absolute_sqlite(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if uri == default_uri(storage) or (around and around.rstrip("/") == uri) or launched_here(definition):
        return
    shown_uri = masked(uri)
    text = f"this search would report to {shown_uri} with your credentials and was not launched by you on this machine."
    raise UserError([Problem("", f"{text} To allow it, pass --tracking-uri {shlex.quote(shown_uri)}", name)])
