"""What runs in which order: one file a mode."""
