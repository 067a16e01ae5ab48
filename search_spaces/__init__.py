"""Search spaces (package data, installed as `raysl.search_spaces`).

One YAML file per method on the digits, which need no data, and one at its paper's size (`NAME_cifar10`).
"""
