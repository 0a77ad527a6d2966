"""The web page and the report of a run. They read run folders, and run none of their code."""
