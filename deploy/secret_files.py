"""Keys that containers get as files: read where they are needed, never put in a container's
environment, where everything that looks at it could see them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from repertory.errors import BadInput

FILES = {"WANDB_API_KEY_FILE": "WANDB_API_KEY"}
"""Variables that name a file, and the variable of this process that its content becomes."""


def read_secret_files(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set each variable whose file is named and not empty, unless it is set.

    A file that is missing from a folder that is there means none, as an empty one does, and a
    warning says so: Kubernetes mounts an optional secret as an empty folder.

    Raises:
        BadInput: a file is named and cannot be read, or its folder does not exist.
    """
    for pointer, variable in FILES.items():
        file = environment.get(pointer)
        if not file or environment.get(variable):
            continue
        try:
            secret = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, FileNotFoundError) and Path(file).parent.is_dir():
                print(
                    f"repertory: warning: no {variable}: there is no file {file}, which {pointer} "
                    "names",
                    file=sys.stderr,
                )
                continue
            reason = getattr(error, "strerror", None) or "it is not text"
            raise BadInput(f"cannot read {file}, which {pointer} names: {reason}") from error
        if secret:
            environment[variable] = secret
