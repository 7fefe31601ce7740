"""Tracking URIs as they may be shown: without passwords."""

from __future__ import annotations

import re
from urllib.parse import unquote

_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
# In a text more is hidden rather than less: up to the last @ of the word, for passwords with a slash in them.
_USER_INFO_IN_TEXT = re.compile(r"(?<=://)[^/\s]\S*@")
HIDDEN = "***"
SHORTEST = 4


def without_credentials(uri: str) -> str:
    """`uri` without user and password."""
    return _USER_INFO.sub("", uri)


def masked(text: str, uri: str = "") -> str:
    """`text` with ``***`` for the user and password of every URI in it, and wherever those of `uri` stand alone."""
    text = _USER_INFO_IN_TEXT.sub(f"{HIDDEN}@", text)
    for secret in _secrets(uri):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(uri: str) -> list[str]:
    """What must not be shown of a URI, longest first; too short a password is not looked for in every word."""
    found: set[str] = set()
    for match in _USER_INFO_IN_TEXT.findall(uri):
        whole = match[:-1]
        password = whole.partition(":")[2] or whole
        found |= {whole, password, unquote(whole), unquote(password)}
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)


def has_password(uri: str) -> bool:
    """Whether a URI carries a password, or a user that is a token."""
    users = _USER_INFO.findall(uri)
    return any(":" in user or uri.startswith(("http://", "https://")) for user in users)
