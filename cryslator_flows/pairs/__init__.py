"""Training pairs of unrelaxed and relaxed crystals, from whatever holds them."""
