"""The neighbours, one file each: wire in, domain out."""
