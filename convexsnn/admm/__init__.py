"""The road of ADMM: a deep network as a splitting, trained block by block."""
