"""Training pairs of unrelaxed and relaxed crystals, from any source."""
