"""Access to the machine: consoles, worker processes, atomic writes, stores."""
