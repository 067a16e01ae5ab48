"""What a sweep keeps: the ledger, who may write it, and what is read from it."""
