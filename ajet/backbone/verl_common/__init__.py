"""What runs in training ranks that use verl, for the verl and Trinity backbones."""
