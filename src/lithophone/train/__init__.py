"""Training: data, targets, losses and the loop of the recipes."""
