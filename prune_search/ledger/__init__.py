"""The ledger: append-only records of a search, their reader, and what is computed from them."""
