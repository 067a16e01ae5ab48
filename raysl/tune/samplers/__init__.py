"""Who suggests: a pure function of the record for each sampler."""
