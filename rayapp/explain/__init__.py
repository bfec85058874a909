"""Room: one picture and all that is known of it, as a page to hand on."""
