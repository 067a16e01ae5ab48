"""Room: tune."""
