"""What `orric calibrate --anchors-of` does: draw an anchor set, and name it in the profile."""

from __future__ import annotations

from pathlib import Path

from orric.exceptions import ProfileError
from orric.profile import Profile
from orric.retraining.anchors import Anchors
from orric.vision.datasets import load_dataset


def with_anchors(profile: Profile, where: str, target: Path) -> tuple[Profile, Path, int]:
    """Draw an anchor set from a profile's data set, and write it beside where the profile will lie.

    Args:
        profile: With [models].
        where: Its file.
        target: Where the profile with the anchors will lie.

    Returns:
        That profile, the anchor set's file, and the number of its images.

    Raises:
        ProfileError: The profile names no models.
        OrricError: The data set or the file cannot be used.
    """
    if profile.models is None:
        raise ProfileError(where, "has no [models]", "give a profile made by orric calibrate")
    anchors = Anchors.drawn(load_dataset(profile.models.dataset, profile.data))
    path = target.with_name(f"{target.stem}-anchors.npz")
    anchors.save(path)
    models = profile.models.model_copy(update={"anchors": str(path.resolve())})
    named = profile.model_copy(update={"models": models}).placed_in(profile.beside("."))
    return named.moved(target.parent), path, len(anchors.labels)
