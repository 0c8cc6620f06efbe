"""Mean squared error and its directional derivatives. ``cpu`` binds it."""
