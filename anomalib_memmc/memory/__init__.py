"""Memory of training: what a step takes, before it is tried, and advice where it did not fit."""
