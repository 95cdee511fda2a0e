"""Defaults that several rooms share, each stated once. Imports nothing."""

DEFAULT_MODEL = "cryslator-universal"
