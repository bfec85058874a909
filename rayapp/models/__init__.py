"""Middle room: backbones, losses, heads, calibrators and the detector folder; pure, never Ray."""
