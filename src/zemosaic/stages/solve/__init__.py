"""Where a frame points: by patterns of stars, by ties to other frames, by pixels."""
