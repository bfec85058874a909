"""Lists of images under allowed roots, scored by the predict job while nobody waits."""
