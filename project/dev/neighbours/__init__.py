"""The stand-in's neighbours, one file each: read them to learn what the real ones accept and answer."""
