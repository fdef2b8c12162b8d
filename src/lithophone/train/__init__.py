"""Training: data, augmentation, losses, optimisation, the loop. The recipes that use them are flat files."""
