"""Measurements of speed: ours beside the peers, in one run on one machine."""
