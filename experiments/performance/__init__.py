"""What docs/performance.md says about speed and memory: one section a file, `python -m experiments.performance`."""
