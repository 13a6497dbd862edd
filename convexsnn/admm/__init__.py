"""ADMM training: a deep network as a splitting, trained block by block."""
