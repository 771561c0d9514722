"""Motion: the steerable pyramid, optical flow and what it says, magnification."""
