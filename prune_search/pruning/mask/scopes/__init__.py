"""Scopes: how the share that is kept is spread over the layers."""
