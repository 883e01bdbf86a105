"""What runs in which order: one file a mode, and rooms for what frames, tiles and the survey grid need."""
