"""Replay: a recording is run through the policy at full speed, to see what would have been done, and why."""
