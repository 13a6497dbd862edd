"""The convex programs of ADMM's blocks; they do not depend on networks."""
