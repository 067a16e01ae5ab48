"""What of ours computes each kind of reference case, one file per family.

A file's `COMPUTE` maps the beginning of case ids (`"01_mec/loss_"`) to a function of the case and its inputs.
"""
