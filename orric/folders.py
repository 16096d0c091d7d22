"""Folders of results: orric replaces and removes the files that it wrote, and nothing else.

A manifest in every such folder names them. A new result is made beside its folder and moved in when it is whole: the
move of `NEW` is the moment from which the new result counts, and whoever is killed after it is followed by another who
brings it to its end (`settle`).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from orric.durable import hold, read_bounded, sync_folder, write_whole
from orric.exceptions import OrricError, ScenarioError, SimulationError

MANIFEST = ".orric.json"
FORMAT = 1
MOST_BYTES = 1 << 24
# A new result that counts already, on its way into the folder.
NEW = ".orric.new"
LOCK, KEY, KEPT, RESULT = "lock", "key", "kept", "result"
ELSEWHERE = "choose another with --output"
# Files that a daemon's store has one of, beside its journal.
STORE_MARKS = ("store.json", "current.json")
# What the operating system says of a disk that takes no more.
UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
Passing = Callable[[str], Any]


@dataclass(frozen=True)
class Former:
    """How a result folder of a version without manifests is known.

    Attributes:
        mark: A file that it has.
        keys: What the table in that file has; empty where the file has no table.
        names: A pattern of the files that orric wrote.
    """

    mark: str
    keys: frozenset[str]
    names: str


_IMAGES = "accuracy_by_slot|budget_split|curve_against_real|accuracy_cost_latency|accuracy_by_stream|latency_by_phase"
FORMER = {
    "run": Former(
        "summary.json",
        frozenset({"scenario", "seed", "command", "results"}),
        r"(result|gpus)\.parquet|events\.jsonl|summary\.json|scenario\.toml|report\.html|"
        rf"({_IMAGES}|gpu_use|prediction_error)\.png|requests/[^/]+-(curve|table|onnx)\.parquet",
    ),
    "sweep": Former(
        ".orric-sweep",
        frozenset(),
        r"runs\.(parquet|csv)|slots\.parquet|sweep\.json|report\.html|(differences|by_axis|pareto)\.(png|svg)|"
        r"cases/point-\d+(-profile-\d+)?\.toml",
    ),
    "value": Former(
        "summary.json",
        frozenset({"dataset", "images", "model", "detection"}),
        r"values\.csv|values_by_epoch\.npz|summary\.json|point_removal\.(png|svg)",
    ),
    "explain": Former(
        "summary.json",
        frozenset({"profile", "corruption", "samples_per_slot", "conclusion"}),
        r"(attention|signals)\.(png|svg)|signals\.csv|summary\.json",
    ),
}


@dataclass(frozen=True)
class Manifest:
    """What orric wrote into a folder.

    Attributes:
        kind: Of the results: "run", "sweep", "value" or "explain".
        files: Their names, relative to the folder, with slashes.
    """

    kind: str
    files: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """Return a folder's manifest, None where it has none.

        Raises:
            ScenarioError: It is damaged, of a newer orric, or names what lies elsewhere.
        """
        path = folder / MANIFEST
        remedy = "mend it, or choose another folder"
        try:
            table = json.loads(read_bounded(path, MOST_BYTES))
            form, kind, files = table["format"], table["kind"], table["files"]
            newer = type(form) is int and form > FORMAT
            known = type(form) is int and form == FORMAT and isinstance(kind, str) and isinstance(files, list)
            if not newer and not (known and all(map(_is_within, files))):
                raise ValueError(kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ScenarioError(str(path), f"cannot be read ({error.strerror})", remedy) from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ScenarioError(str(path), "is no manifest of orric", remedy) from None
        if newer:
            raise ScenarioError(str(path), f"was written by a newer orric (format {form})", "upgrade this one")
        return cls(kind, frozenset(files))

    def written(self) -> bytes:
        """Return what a folder keeps of it."""
        table = {"format": FORMAT, "kind": self.kind, "files": sorted(self.files)}
        return (json.dumps(table, indent=1) + "\n").encode()

    def write(self, folder: Path) -> None:
        """Put it into a folder, whole or not at all."""
        write_whole(folder / MANIFEST, self.written())


def _is_within(name: object) -> bool:
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and path.as_posix() == name and not {"..", "."} & set(path.parts)


def kind_of(folder: Path) -> str | None:
    """Return of which kind of results a folder is, those of versions without manifests included; None of none."""
    manifest = Manifest.read(folder)
    if manifest is not None:
        return manifest.kind
    for kind, former in FORMER.items():
        mark = folder / former.mark
        if mark.is_file() and not mark.is_symlink():
            table: Any = {}
            with suppress(OSError, ValueError, RecursionError):
                table = json.loads(mark.read_bytes()) if former.keys else {}
            if isinstance(table, dict) and former.keys <= set(table):
                return kind
    return None


def result_folder_around(path: Path) -> Path | None:
    """Return the folder of results that a path is, or lies in; None where there is none."""
    path = path.resolve()
    for folder in (path, *path.parents):
        try:
            if (folder / MANIFEST).is_file() or kind_of(folder) is not None:
                return folder
        except (OSError, ScenarioError):
            continue
    return None


def store_around(path: Path) -> Path | None:
    """Return the daemon's store that a path is, or lies in; None where there is none.

    A store has a journal, and beside it a file that tells of a store, or, of before there was one, of versions.
    """
    path = path.resolve()
    for folder in (path, *path.parents):
        with suppress(OSError):
            if (folder / "journal").is_dir() and any((folder / name).is_file() for name in STORE_MARKS):
                return folder
    return None


def owned(folder: Path, kind: str) -> frozenset[str]:
    """Return the names of the files of a folder that orric wrote, whether they are there or not.

    Args:
        folder: Need not be there.
        kind: Of results that are to be written to it.

    Raises:
        ScenarioError: It holds something else, or results of another kind.
    """
    where = f"result folder {folder}"
    if (store := store_around(folder)) is not None:
        raise ScenarioError(where, f"lies in {store}, a daemon's store", ELSEWHERE)
    try:
        if not os.path.lexists(folder):
            return frozenset()
        if not folder.is_dir():
            raise ScenarioError(where, "exists and holds something else", ELSEWHERE)
        found = kind_of(folder)
        if found is None:
            left = [path.name for path in folder.iterdir() if path.name != f".{MANIFEST}.partial"]
            if left:
                first = sorted(left)[0]
                raise ScenarioError(where, f"exists and holds something else ({first!r})", ELSEWHERE)
            return frozenset()
        if found != kind:
            raise ScenarioError(where, f"exists and holds something else: results of orric {found}", ELSEWHERE)
        manifest = Manifest.read(folder)
        if manifest is not None:
            return manifest.files
        names = re.compile(FORMER[kind].names)
        there = [path.relative_to(folder).as_posix() for some in ("*", "*/*") for path in folder.glob(some)]
        return frozenset(name for name in there if names.fullmatch(name))
    except OSError as error:
        raise ScenarioError(where, f"cannot be read ({error.strerror})", ELSEWHERE) from None


def _files(folder: Path) -> list[str]:
    """Return the names of all files within a folder; links are told as they are, and not followed."""
    found = []
    for parent, _, names in os.walk(folder):
        found += [Path(parent, name).relative_to(folder).as_posix() for name in names]
    return found


def parents_are_own(folder: Path, name: str) -> bool:
    """Say whether nothing but folders, and no link, lies between a folder and a file of it."""
    between = [folder / parent for parent in PurePosixPath(name).parents if parent.name]
    return all(not os.path.lexists(one) or (one.is_dir() and not one.is_symlink()) for one in between)


def remove(folder: Path, name: str) -> None:
    """Remove a file that orric wrote, and folders within that are empty then; whatever else has its name stays."""
    path = folder / name
    if not parents_are_own(folder, name) or (path.is_dir() and not path.is_symlink()):
        return
    path.unlink(missing_ok=True)
    for parent in PurePosixPath(name).parents:
        if not parent.name:
            break
        try:
            (folder / parent).rmdir()
        except OSError:
            break


def demand_free(folder: Path, names: Collection[str], own: Collection[str]) -> None:
    """Refuse to write where something lies that orric did not write.

    Args:
        folder: Where files are to be written.
        names: Theirs.
        own: Those of files that orric wrote there.

    Raises:
        ScenarioError: Something is in the way.
    """
    for name in sorted(names):
        path = folder / name
        there = os.path.lexists(path) and (name not in own or (path.is_dir() and not path.is_symlink()))
        if there or not parents_are_own(folder, name):
            remedy = "move it away and give the same command again, or choose another folder with --output"
            raise ScenarioError(str(path), "is not orric's, and stands where results are written", remedy)


def write_more(folder: Path, kind: str, name: str, content: bytes) -> None:
    """Write a file into a folder of results, whole or not at all, and list it.

    Args:
        folder: Of the results.
        kind: Of them.
        name: Of the file.
        content: What it holds.

    Raises:
        ScenarioError: The folder holds something else, or something that orric did not write has the name.
        OSError: It cannot be written.
    """
    own = owned(folder, kind)
    demand_free(folder, [name], own)
    if name not in own or Manifest.read(folder) is None:
        Manifest(kind, own | {name}).write(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_whole(folder / name, content)


@dataclass
class Work:
    """Where a result is made.

    Attributes:
        result: A folder for the files of the result.
        kept: A folder for what an interrupted command leaves to the next one with the same key.
        resumed: Whether an earlier command of the same key left something.
    """

    result: Path
    kept: Path
    resumed: bool = False


@contextmanager
def result_folder(
    target: Path, kind: str, key: str | None = None, *, fresh: bool = False, passing: Passing = lambda name: None
) -> Iterator[Work]:
    """Yield a folder to make a result in, and put its files into the target when the block succeeds.

    Entered before any work is done, so that a target that cannot be written is found at once. Files of an earlier
    result at the target are replaced; whatever else lies beside them stays. Until the new result is whole the
    earlier one stays as it is.

    Args:
        target: The result folder to be.
        kind: Of the results.
        key: Stands for all that the result depends on: what was kept under another one is removed. Without a key
            nothing is kept.
        fresh: Whether to remove what was kept under this one, too.
        passing: Told the name of every step at the end.

    Raises:
        ScenarioError: The target cannot be written, holds something that orric did not write, or another command is
            writing to it.
        SimulationError: The disk is full, or the like.
    """
    where, folder = f"result folder {target}", target.resolve()
    owned(folder, kind)
    made = [parent for parent in folder.parents if not parent.exists()]
    work = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and folder.stat().st_dev != folder.parent.stat().st_dev:
            raise ScenarioError(where, "is a disk of its own", "choose a folder within it with --output")
        lock = _claimed(work, where)
    except OSError as error:
        _remove_empty(made)
        raise ScenarioError(where, f"cannot be written ({error.strerror})", ELSEWHERE) from None
    try:
        keeps = False
        try:
            settle(folder)
            place = _begun(work, key, fresh)
            yield place
            _commit(folder, place.result, kind, passing)
        except BaseException as error:
            unusable = isinstance(error, OrricError) and isinstance(error, ValueError)
            keeps = key is not None and not unusable and any((work / KEPT).rglob("*"))
            raise
        finally:
            with suppress(OSError):
                shutil.rmtree(work / RESULT)
            if not keeps:
                _removed(work)
            lock.close()
            _remove_empty(made)
    except OSError as error:
        if error.errno not in UNWRITTEN:
            raise
        remedy = "make room and give the same command again" + ": what is finished is kept" * keeps
        raise SimulationError(where, f"cannot be written ({error.strerror})", remedy) from None


def _claimed(work: Path, where: str) -> IO[str]:
    """Make the folder of work, and lock it."""
    while True:
        work.mkdir(exist_ok=True)
        there = {path.name for path in work.iterdir()}
        others = there - {LOCK, KEY, f".{KEY}.partial", KEPT, RESULT}
        # The lock is the first that comes and the last that goes.
        if (
            work.is_symlink()
            or others
            or (there and LOCK not in there)
            or any((work / name).is_symlink() for name in there)
        ):
            raise ScenarioError(str(work), "is not orric's, and stands where results are made", "move it away")
        try:
            held = hold(work / LOCK)
        except FileNotFoundError:
            continue  # another command has just removed it
        if held is None:
            raise ScenarioError(where, "another command is writing to it", f"wait for it, or {ELSEWHERE}")
        with suppress(FileNotFoundError):
            if (work / LOCK).stat().st_ino == os.fstat(held.fileno()).st_ino:
                return held
        held.close()


def _begun(work: Path, key: str | None, fresh: bool) -> Work:
    """Remove what was left of other work."""
    shutil.rmtree(work / RESULT, ignore_errors=True)
    try:
        same = key is not None and not fresh and (work / KEY).read_text() == key
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(work / KEPT, ignore_errors=True)
        write_whole(work / KEY, (key or "").encode())
    (work / KEPT).mkdir(exist_ok=True)
    (work / RESULT).mkdir()
    return Work(work / RESULT, work / KEPT, same)


def _removed(work: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(work / KEPT)
    with suppress(OSError):
        (work / KEY).unlink(missing_ok=True)
        (work / LOCK).unlink(missing_ok=True)
        work.rmdir()


def _remove_empty(folders: Collection[Path]) -> None:
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _commit(folder: Path, made: Path, kind: str, passing: Passing) -> None:
    """Let a result that was made count from now on."""
    names = frozenset(_files(made))
    own = owned(folder, kind)
    demand_free(folder, names, own)
    with _undisturbed():
        Manifest(kind, names).write(made)
        for name in names:
            _sync(made / name)
        passing("whole")
        if not folder.exists():
            made.rename(folder)
            passing("named")
            sync_folder(folder.parent)
            return
        if Manifest.read(folder) is None:
            # From now on it is known by its manifest, whatever becomes of the files by which it was known before.
            Manifest(kind, own).write(folder)
            passing("adopted")
        made.rename(folder / NEW)
        passing("counts")
        settle(folder, passing)


def settle(folder: Path, passing: Passing = lambda name: None) -> None:
    """Bring the replacement of a result to its end that somebody who was killed had begun."""
    new = folder / NEW
    if not new.is_dir() or new.is_symlink():
        return
    manifest = Manifest.read(new)
    if manifest is not None:
        sync_folder(folder)
        own = owned(folder, manifest.kind)
        if not all(parents_are_own(new, name) for name in manifest.files):
            raise ScenarioError(str(new), "holds links to folders, which orric did not make", "remove it")
        for name in sorted(own - manifest.files):
            remove(folder, name)
            passing(f"removed {name}")
        demand_free(folder, [name for name in manifest.files if os.path.lexists(new / name)], own)
        for name in sorted(manifest.files):
            if os.path.lexists(new / name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).replace(folder / name)
                passing(f"moved {name}")
        (new / MANIFEST).replace(folder / MANIFEST)
        passing("listed")
        sync_folder(folder)
    shutil.rmtree(new)
    passing("done")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the block is left, which takes a moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
