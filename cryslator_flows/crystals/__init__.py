"""Crystals from template to substituted candidate: reading, checking, substitution, packing."""
