"""Training: data, targets, losses and the loop that recipes use."""
