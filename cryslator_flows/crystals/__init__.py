"""Templates in, substituted candidates out."""
