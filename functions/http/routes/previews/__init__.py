"""The routes that create and serve previews."""
