"""Trinity-RFT where there is no GPU; where there is one, none of this is loaded."""
