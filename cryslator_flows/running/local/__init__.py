"""Campaigns on this machine."""
