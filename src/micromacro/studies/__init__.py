"""Experiments that train no system: of notebooks 01 to 03, and parts of 04b, 06b and 07b."""
