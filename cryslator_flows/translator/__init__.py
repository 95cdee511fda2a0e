"""The network, its calibration and the model folders: structures in, translations out."""
