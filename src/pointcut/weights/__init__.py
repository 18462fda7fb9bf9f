"""Names to files to networks: what models there are, where their weights lie, and how they are read."""
