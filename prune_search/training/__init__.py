"""Training: the loop, optimizers, schedules, segments of a trajectory, and data-parallel training."""
