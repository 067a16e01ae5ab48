"""What there is and how it compares: runs listed, shown, side by side, and as curves. Nothing here prints."""
