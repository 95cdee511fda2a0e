"""Savings, ends of relaxations, energies and properties, from documents."""
