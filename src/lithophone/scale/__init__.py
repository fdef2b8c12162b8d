"""The server on many processes and machines."""
