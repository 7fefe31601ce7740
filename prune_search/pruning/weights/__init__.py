"""f2: what becomes of the kept weights before retraining."""
