"""Places on the sky: WCS forms, the output grid and its patches, stars of a catalogue or a frame."""
