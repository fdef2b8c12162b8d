"""The command line: no logic of its own, nobody imports it."""
