"""Ray's token: where it is found, and the file that stores it, readable only by its owner.

A Ray cluster without a token runs whatever anyone sends to it. Ray itself writes the file of a new token so that all
users of a machine can read it (2.60 does); here it is made before Ray does, for its owner alone.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.errors import one_line

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
HOW = f"put the cluster's token into a file with mode 0600, then: export {MODE}=token {TOKEN_PATH}=FILE"


def default_file() -> Path:
    """Where Ray looks when no variable names a token."""
    return Path.home() / ".ray" / "auth_token"


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is started here uses a token: unless it is switched off, or a mode other than a token is set."""
    return environ.get(MODE, "token").lower() == "token"


def read_token(environ: Mapping[str, str] = os.environ) -> str | None:
    """The token that Ray would send: of the variables, else of the user's own file where the mode is ``token``.

    Raises:
        UserError: a variable names a file that cannot be read, or is empty.
    """
    if environ.get(TOKEN, "").strip():
        return environ[TOKEN].strip()
    named = environ.get(TOKEN_PATH)
    if named:
        try:
            text = Path(named).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise UserError([Problem(TOKEN_PATH, f"{shown(named)} cannot be read: {one_line(error)}")]) from None
        if not text:
            raise UserError([Problem(TOKEN_PATH, f"{shown(named)} is empty")])
        return text
    # A token of this machine is sent to others only where a token is asked for.
    file = default_file()
    if environ.get(MODE, "").lower() == "token" and file.is_file():
        return file.read_text(encoding="utf-8").strip() or None
    return None


def token_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file that the token is read from; None where it is in a variable, or there is none."""
    if environ.get(TOKEN, "").strip():
        return None
    named = environ.get(TOKEN_PATH)
    file = Path(named) if named else default_file()
    return file if file.is_file() else None


def open_to_others(file: Path) -> bool:
    """Whether others than its owner may read a file."""
    return bool(stat.S_IMODE(file.stat().st_mode) & 0o077)


def make_token() -> None:
    """Make the token that Ray on this machine is started with, where there is none; its file is its owner's alone.

    Where the home cannot be written to, the file lies in a temporary folder that ``$RAY_AUTH_TOKEN_PATH`` names from
    then on, for Ray and the processes that it starts.
    """
    if not wanted() or os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        return
    file = default_file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(secrets.token_hex(32))
    except FileExistsError:
        # Ray made it, for everyone to read.
        if file.stat().st_uid == os.getuid() and open_to_others(file):
            file.chmod(0o600)
    except OSError:
        # A home that is not there, or not one's own to write to.
        folder = tempfile.mkdtemp(prefix="prune-search-token-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        private = Path(folder) / file.name
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(secrets.token_hex(32))
        os.environ[TOKEN_PATH] = str(private)
