"""Ray's front door: sessions, what a cluster holds, rows mapped over it, what workers post."""
