"""The models and their layers: plain PyTorch."""
