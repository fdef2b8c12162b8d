"""Training data: corpora, batches, augmentation."""
