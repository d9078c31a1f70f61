"""Keeps keys and tokens out of everything that a run writes."""

from __future__ import annotations

import logging
import os

SECRET_VARIABLES = ("WANDB_API_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SHORTEST = 6
"""Values shorter than this are no secrets, and replacing them would garble the text."""


def without_secrets(text: str) -> str:
    """Return the text with the value of every secret variable replaced by the variable's name."""
    for variable in SECRET_VARIABLES:
        value = os.environ.get(variable, "")
        if len(value) >= _SHORTEST:
            text = text.replace(value, f"<{variable}>")
    return text


class RedactingFormatter(logging.Formatter):
    """Formats records as usual, tracebacks included, and leaves the secrets out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text without secrets."""
        return without_secrets(super().format(record))
