"""The profiles that come with orric: in a checkout, and in an installed package."""

from __future__ import annotations

import shutil
from pathlib import Path

from orric.exceptions import ProfileError, nearest
from orric.profile import Profile


def profiles_folder() -> Path:
    """Return the folder of the profiles that come with orric.

    A wheel holds a copy of the checkout's `traces/profiles` and `traces/models` in the package.
    """
    package = Path(__file__).resolve().parent
    installed = package / "traces" / "profiles"
    return installed if installed.is_dir() else package.parent / "traces" / "profiles"


def models_folder() -> Path:
    """Return the folder of the models that come with orric."""
    return profiles_folder().parent / "models"


def profile_names() -> list[str]:
    """Return the names of the profiles that come with orric."""
    return sorted(path.stem for path in profiles_folder().glob("*.toml"))


def profile_file(given: str) -> Path:
    """Return the file of a profile that is given by a path, or by the name of one that comes with orric.

    Raises:
        ProfileError: There is neither.

    >>> profile_file("digits").name
    'digits.toml'
    """
    if Path(given).is_file():
        return Path(given)
    if Path(given).suffix == ".toml" or len(Path(given).parts) != 1:
        raise ProfileError(
            given, "no such file", f"check the path, or give a name: {', '.join(profile_names()[:5])}, ..."
        )
    path = profiles_folder() / f"{given}.toml"
    if not path.is_file():
        raise ProfileError(given, "no such file, nor a profile that comes with orric", nearest(given, profile_names()))
    return path


def copied(path: Path, folder: Path) -> str:
    """Copy a profile and the models and images that it names into a folder; return its path there.

    So the folder can be moved, the profile in it be changed, and orric be upgraded under it. The two folders lie beside
    each other as they do in `traces`.

    Args:
        path: A profile that comes with orric.
        folder: Where its folders `profiles` and `models` go.
    """
    models = Profile.load(path).models
    named = [] if models is None else [models.student, models.teacher, *([models.anchors] if models.anchors else [])]
    for name in ("", *named):
        source = path if not name else path.parent / name
        target = (folder / "profiles" / (name or path.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return f"profiles/{path.name}"
