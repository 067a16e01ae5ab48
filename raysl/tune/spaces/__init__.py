"""Search spaces: their files, and the run configs they stand for."""
