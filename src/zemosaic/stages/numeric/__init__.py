"""Numerical tools that several stages share: robust statistics and one conjugate-gradient loop."""
