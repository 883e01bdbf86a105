"""Where every frame points."""
