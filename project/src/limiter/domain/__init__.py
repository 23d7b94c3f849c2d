"""The policy as pure functions over values: standard library only, no clock, no I/O."""
