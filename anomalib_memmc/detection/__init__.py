"""A checkpoint that judges image files: finding and reading them, scores, verdicts; and the command ``predict``."""
