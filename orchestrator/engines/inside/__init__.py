"""What an engine's own interpreter imports: this folder alone is on its path. Standard library only."""
