"""Training: data, augmentation, losses, schedule, loop, checkpoints. Recipes that use them are flat files in `recipes/`."""
