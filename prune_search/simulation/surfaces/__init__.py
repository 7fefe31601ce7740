"""Surfaces by name, a file each."""
