"""What runs in the ranks that train with verl, whichever backbone drives them."""
