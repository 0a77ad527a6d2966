"""Records that the layers hand to each other. No behaviour beyond what the data implies."""
