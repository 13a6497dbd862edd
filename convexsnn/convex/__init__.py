"""The road of the convex program, λ paths on it, and distances from its optimum."""
