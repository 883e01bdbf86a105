"""What is made of a finished output folder, for people and for other programs."""
