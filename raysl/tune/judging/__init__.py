"""Which trials go on: pure functions of the record."""
