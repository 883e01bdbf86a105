"""Where work runs: tasks, bytes, events. Knows no astronomy."""
