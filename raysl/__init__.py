"""raysl: hyperparameter search and scaling for self-supervised image pretraining, on Ray."""

__version__ = "0.1.0"
