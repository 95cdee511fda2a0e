"""Campaigns on jobflow-remote."""
