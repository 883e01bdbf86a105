"""From paths to frames that are measured, placed on the sky and graded."""
