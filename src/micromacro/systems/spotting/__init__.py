"""Spotting micro- and macro-expressions in long videos (Yap et al., 2022)."""
