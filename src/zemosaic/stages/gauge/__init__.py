"""What fixes the constants that differences between frames cannot know."""
