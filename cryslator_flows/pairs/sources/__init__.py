"""Pairs from the user's relaxations and crystals."""
