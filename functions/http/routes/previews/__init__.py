"""The routes that make and serve previews."""
