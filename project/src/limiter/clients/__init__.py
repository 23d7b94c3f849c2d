"""The external services, one file each: wire in, domain out."""
