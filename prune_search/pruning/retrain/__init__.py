"""f3: masks during retraining, fixed or moved by a dynamics."""
