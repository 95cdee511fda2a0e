"""Makers that relax structures, and what is added to them."""
