"""f3: masks during retraining, held still or moved by a dynamics."""
