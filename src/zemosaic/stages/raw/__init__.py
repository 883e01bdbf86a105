"""Raw frames: calibration, the colour filter array."""
