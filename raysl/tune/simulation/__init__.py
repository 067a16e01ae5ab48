"""Sweeps over recorded curves, on a clock of their own."""
