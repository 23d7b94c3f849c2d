"""The jobs: thin, each in three parts - gather, decide, act."""
