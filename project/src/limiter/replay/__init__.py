"""Replay: runs a recording through the policy at full speed, to show what would have been done, and why."""
