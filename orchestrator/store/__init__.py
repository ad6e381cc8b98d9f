"""What is stored of a study. `load` gives all of it as lazy frames."""

from orchestrator.store.frames import Frames, load

__all__ = ["Frames", "load"]
