"""What every sample of a data set is worth to a network that is trained on it, and which labels look wrong."""

from importlib.util import find_spec

from orric.exceptions import extra

# Told here, for the whole folder, before any of its modules stumbles over it.
with extra("models"):
    if find_spec("torch") is None:
        raise ModuleNotFoundError(name="torch")
