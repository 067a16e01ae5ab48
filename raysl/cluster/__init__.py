"""Which Ray a command uses, and what of the machine it may take."""
