"""Who speaks when: speaker embeddings, clusters, turns; words get speakers by time."""
