"""The machine below: consoles, worker processes, whole files, stores."""
