"""Code that the verl and Trinity backbones share for running on Ray."""
