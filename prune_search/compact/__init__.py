"""Networks as data: lists of allowed operations, without code."""
