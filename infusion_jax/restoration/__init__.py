"""Images from a part of what is known of them, without any training for it."""
