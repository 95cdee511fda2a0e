"""Relaxation engines, step counting and savings."""
