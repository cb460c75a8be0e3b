"""A search space of one's own from a YAML file, read through the same door as experiments."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.experiment_file.document import parse, read_text
from search_spaces import load_space
from search_spaces.space import Space, from_dict


def read_space(text: str) -> Space:
    """Return the space that `search.space` names: built in, PATH.py (variable SPACE) or PATH.yaml; raises ConfigError."""
    path = Path(text).expanduser()
    try:
        if path.suffix not in (".yaml", ".yml"):
            return load_space(str(path) if path.suffix == ".py" else text)
        return from_dict(parse(read_text(path), str(path)).values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([f"search.space: {text}: {error}"]) from error
    except Exception as error:  # a user's Python file may fail in any way
        raise ConfigError([f"search.space: {text}: {type(error).__name__}: {error}"]) from error
