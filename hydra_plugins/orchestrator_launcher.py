"""Where Hydra looks for launchers: it instantiates only classes of the ``hydra_plugins`` namespace."""

from orchestrator.launcher import Launcher


class OrchestratorLauncher(Launcher):
    """`orchestrator.launcher.Launcher`, under a name that Hydra accepts."""
