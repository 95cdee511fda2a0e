"""Pairs from published data sets."""
