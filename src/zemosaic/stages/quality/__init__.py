"""Whether a frame is good enough: judged by itself, by its session, and by the frames that it overlaps."""
