"""Training runs: the loop, optimisation, checkpoints, ranks."""
