"""What mosaics of tiles need beside those of frames."""
