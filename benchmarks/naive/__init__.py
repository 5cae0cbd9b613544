"""What the five source projects do, re-created as they do it; each script is run on its own and
prints its measures as JSON.
"""
