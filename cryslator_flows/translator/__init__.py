"""The network, its training and its evaluation."""
