"""System of the paper, kept as a reference beside the model of today."""
