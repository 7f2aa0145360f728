"""Pictures of images: styles, palettes, contrast, text, encoding, and notebook representations.

`compose` is pure: it converts planes and layers to red, green, blue and alpha. `plan` chooses the
planes and layers of an image from a style or from the file's metadata; `picture` reads them. The
package imports the views and `bfbridge.analysis.regions` (regions and resampling); servers,
notebooks and the command line may import it. It never runs code that a style names.
"""
