"""Runs of campaigns, here or on a cluster."""
