"""Training by the convex program, paths over λ, and distances of networks from the optimum."""
