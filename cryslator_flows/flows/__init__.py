"""Makers that compose jobs into flows."""
