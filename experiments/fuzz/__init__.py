"""Damaged and unusual input against what reads it: ``python -m experiments.fuzz``."""
