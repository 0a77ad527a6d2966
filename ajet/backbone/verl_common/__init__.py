"""Code for verl's training ranks that the verl and Trinity backbones share."""
