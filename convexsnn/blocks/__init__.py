"""The programs of ADMM's blocks; nothing here knows what a network is."""
