"""Makers that relax structures, and their additions: guard, recorder, pinned k-points."""
