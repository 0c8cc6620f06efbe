"""Runs as people start them: a configuration, the model and trainer it stands for, and the folder that is left."""
