"""From files to batches: sources, one decoder, the manifest, splits, the pixel cache, augmentation."""
