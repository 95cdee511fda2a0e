"""Tests of cuts, hulls and known phases."""
