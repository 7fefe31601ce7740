"""f2: the values of the kept weights before retraining."""
