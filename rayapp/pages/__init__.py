"""Middle room: self-contained HTML pages, figures and thumbnails; pure, never Ray, no network."""
