"""`python -m lithophone` is the command line."""

from __future__ import annotations

from lithophone.cli.main import main

if __name__ == "__main__":
    main()
