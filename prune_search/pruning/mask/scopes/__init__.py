"""Scopes: how the kept share is distributed over the layers."""
