"""One module a job: it puts a room's work on Ray, Ray Train or Ray Tune."""
