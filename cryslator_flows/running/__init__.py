"""Campaigns that run, here or on a cluster."""
