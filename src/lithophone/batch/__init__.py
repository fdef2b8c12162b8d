"""Many recordings to files, by one process or several: manifests, URLs, retries."""
