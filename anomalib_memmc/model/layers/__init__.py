"""The layers of the network, one idea a file."""
