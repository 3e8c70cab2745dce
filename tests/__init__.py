"""The tests; `python -m unittest` finds them from the root."""
