"""What a model looks at: maps over an image by Shapley values and their kin, and how faithful such maps are."""

from importlib.util import find_spec

from orric.exceptions import extra

# Told here, for the whole folder, before any of its modules stumbles over one of them.
with extra("models"):
    for name in ("captum", "torch"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
