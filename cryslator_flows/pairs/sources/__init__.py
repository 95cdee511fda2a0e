"""Pairs from relaxations and crystals of one's own."""
