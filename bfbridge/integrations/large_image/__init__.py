"""large_image's tile sources over bfbridge's views; `bfbridge.large_image` is the public name."""
