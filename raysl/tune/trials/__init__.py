"""Trials on Ray: processes, gangs, and what crosses between them and the driver."""
