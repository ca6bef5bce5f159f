"""Training of the networks: needs torch, numpy and scipy once the bank of objects is packed."""
