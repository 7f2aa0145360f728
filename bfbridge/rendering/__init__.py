"""Pictures of images: styles, palettes, contrast, text, encoding, and how notebooks show images.

`compose` is pure: planes and layers in, red, green, blue and alpha out. `plan` chooses the planes
and layers of an image from a style or from the file's own metadata; `picture` reads them. It stands
on the views and on `bfbridge.render` (regions and resampling); servers, notebooks and the command
line may import it. Nothing here runs code that a style names.
"""
