"""Damaged and unusual files against the readers and data modules: ``python -m experiments.fuzz``."""
