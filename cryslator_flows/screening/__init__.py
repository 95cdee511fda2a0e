"""Selection of candidates: cuts, hulls, acquisition."""
