"""The oracle: checks that compare an operation with torch, with itself and between backends.

The one place in the package that imports torch, and only inside functions. Needs the `test` extra.
"""
