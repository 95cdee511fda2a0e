"""Defaults that several parts share, each stated once; imports nothing."""

DEFAULT_MODEL = "cryslator-universal"
