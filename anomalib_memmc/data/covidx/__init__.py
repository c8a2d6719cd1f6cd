"""Covid-X."""
