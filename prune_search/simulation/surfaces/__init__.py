"""Surfaces by name, one file each."""
