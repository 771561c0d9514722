"""Multiple spatio-temporal feature fusion: seven emotions from face and voice (ICMI 2018)."""
