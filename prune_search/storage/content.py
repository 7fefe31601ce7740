"""The content of a file: bytes, or parts that are written one after another."""

from __future__ import annotations

from collections.abc import Sequence

Content = bytes | Sequence[bytes | memoryview]


def joined(content: Content) -> bytes:
    """The bytes in one piece."""
    return content if isinstance(content, bytes) else b"".join(content)
