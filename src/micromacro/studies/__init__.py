"""The experiments of notebooks 01 to 03, and MIMAMO Net's signals that need no training."""
