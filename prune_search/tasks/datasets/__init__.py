"""The data sets, one registry entry each. Listing them imports no torch."""

from __future__ import annotations
