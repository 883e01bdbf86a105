"""The second coverage pass."""
