"""Star lists, and solvers that are other programs."""
