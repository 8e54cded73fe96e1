"""Runs that are cut off at a chosen step: the probe, what a loss of power leaves, the points."""
