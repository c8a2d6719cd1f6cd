"""What memory and encoder levels do in a trained model (not in the paper)."""
