"""Images: where they come from, the splits they fall into, their views, and the feed of batches."""
