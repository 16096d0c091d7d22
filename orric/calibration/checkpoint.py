"""What a calibration has measured so far, on disk, so that it can be interrupted and go on."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

# Names of parts, and of those that were cut short.
_OWN = re.compile(r"[0-9a-f]{24}\.[a-z]+|tmp[a-z0-9_]{8}")


class Checkpoint:
    """A folder beside the profile to be, with one file for each finished part.

    A part is known by everything that it depends on: models, data, amounts, versions. What was measured under other
    conditions is therefore never taken for it.

    Args:
        output: The profile to be.
        conditions: What all parts depend on, as plain values.
    """

    def __init__(self, output: Path, conditions: Any) -> None:
        self.folder = output.with_name(f".{output.name}.measured")
        self._conditions = conditions

    def path(self, part: Any, suffix: str = ".json") -> Path:
        """Return where a part is kept.

        Args:
            part: What is measured, as plain values.
            suffix: Of the file.
        """
        told = json.dumps([self._conditions, part], sort_keys=True, default=str)
        return self.folder / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}{suffix}"

    def load(self, part: Any) -> Any:
        """Return what was kept of a part, None where nothing was."""
        try:
            return json.loads(self.path(part).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # never measured, or cut short before files were written whole

    def keep(self, part: Any, measured: Any) -> None:
        """Keep what was measured; the file appears whole or not at all."""
        text = json.dumps(measured, allow_nan=False)
        self.folder.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(self.path(part))

    def remove(self) -> None:
        """Forget everything: the profile is written."""
        with suppress(OSError):
            for path in self.folder.iterdir():
                if _OWN.fullmatch(path.name):
                    path.unlink()
            self.folder.rmdir()
