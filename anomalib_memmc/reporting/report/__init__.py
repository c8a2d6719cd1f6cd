"""The report: one HTML file that says in words, curves and pictures what a test found."""
