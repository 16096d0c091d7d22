"""What an installed package holds: a wheel, unpacked far from the checkout, makes a scenario and reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import orric
from orric.shipped import copied, profile_file, profile_names

pytest.importorskip("hatchling", reason="needs orric[dev]")

from .builders import PROFILES, ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel without a network and unpack it; return the folder that holds the package."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "built")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = (folder / "built").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_is_all_that_a_new_scenario_needs(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import orric; print(orric.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(installed)
    for arguments in (("new", "edge"), ("new", "paper", "--profile", "cifar10c-fog")):
        done = run(installed, tmp_path, "-m", "orric", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "edge/profiles/digits.toml").read_bytes() == (PROFILES / "digits.toml").read_bytes()
    scenario = orric.load_scenario(tmp_path / "edge/scenario.toml")
    models = scenario.profile.models
    assert models is not None
    assert scenario.profile.beside(models.student).is_file()
    done = run(installed, tmp_path, "-m", "orric", "explain", "--method", "no")
    assert (done.returncode, "digits" in done.stderr, "method" in done.stderr) == (2, False, True)
    done = run(installed, tmp_path, "-c", "import orric.shipped as it; print(*it.models_folder().glob('digits-*'))")
    assert len(done.stdout.split()) == 2


def test_a_wheel_holds_all_profiles_and_nothing_beside_the_package(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"orric"}
    held = {path.stem for path in (installed / "orric/traces/profiles").glob("*.toml")}
    assert held == set(profile_names()) == {path.stem for path in PROFILES.glob("*.toml")}


def test_a_missing_extra_says_what_to_type_where_orric_came_from(installed: Path, tmp_path: Path) -> None:
    code = "from orric.exceptions import installing; print(installing('sim'))"
    assert run(installed, tmp_path, "-c", code).stdout == (
        "it comes with orric[sim]: pip install 'FILE.whl[sim]' with orric's wheel, or '.[sim]' in a checkout\n"
    )
    assert run(ROOT, tmp_path, "-c", code).stdout.endswith(f"pip install --editable '{ROOT}[sim]'\n")


def test_profiles_are_given_by_path_or_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert profile_file("digits") == PROFILES / "digits.toml"
    # A file of one's own is meant before one of that name that comes with orric.
    Path("digits").write_text("")
    assert profile_file("digits") == Path("digits")
    for given, expected in (("digit", "did you mean 'digits'"), ("no/where.toml", "no such file"), ("../digits", "no")):
        with pytest.raises(orric.ProfileError, match=expected):
            profile_file(given)


def test_a_copy_holds_what_its_profile_names(tmp_path: Path) -> None:
    assert copied(PROFILES / "digits.toml", tmp_path) == "profiles/digits.toml"
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert names == {
        "profiles/digits.toml",
        "profiles/digits-anchors.npz",
        "models/digits-student.safetensors",
        "models/digits-teacher.safetensors",
    }
