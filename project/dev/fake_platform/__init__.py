"""A stand-in for the external services: the real contracts over real HTTP, with faults that can be injected."""
