"""Room: the service that scores images online; its API, limits and doors, without Ray."""
