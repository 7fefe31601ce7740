"""Tracking URIs for display, with passwords masked."""

from __future__ import annotations

import re
from urllib.parse import unquote

# Up to the last @ of the word: rather too much is hidden than the rest of a password with a slash in it.
_USER_INFO = re.compile(r"(?<=://)[^/\s]\S*@")
_QUERY_SECRET = re.compile(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s]+")
HIDDEN = "***"
SHORTEST = 4


def without_credentials(uri: str) -> str:
    """`uri` without user and password."""
    return _QUERY_SECRET.sub(r"\1", _USER_INFO.sub("", uri))


def masked(text: str, uri: str = "") -> str:
    """`text` with ``***`` for the user and password of every URI in it, and wherever those of `uri` stand alone."""
    text = _QUERY_SECRET.sub(rf"\1{HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))
    for secret in _secrets(uri):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(uri: str) -> list[str]:
    """What must not be shown of a URI, longest first; too short a password is not looked for in every word."""
    found: set[str] = set()
    for match in _USER_INFO.findall(uri):
        whole = match[:-1]
        password = whole.partition(":")[2] or whole
        found |= {whole, password, unquote(whole), unquote(password)}
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)


def has_password(uri: str) -> bool:
    """Whether a URI carries a password, or for a web server any user, who may be a token."""
    users = _USER_INFO.findall(uri)
    named = any(":" in user or uri.startswith(("http://", "https://")) for user in users)
    return named or _QUERY_SECRET.search(uri) is not None
