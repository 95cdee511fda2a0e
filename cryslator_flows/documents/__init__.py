"""Documents that jobs exchange and stores keep."""
