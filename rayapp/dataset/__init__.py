"""Ground: lists, manifests, scores, images and what sets share."""
