"""Training runs as ``fgtrain`` starts them: a run's configuration, its model and trainer, and the folder it writes."""
