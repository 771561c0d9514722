"""Motion: the steerable pyramid, optical flow, magnification."""
