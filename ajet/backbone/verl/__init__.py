"""verl: the same run on Ray, from one machine to a cluster, with vLLM beside FSDP."""
