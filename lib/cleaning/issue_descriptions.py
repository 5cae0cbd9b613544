"""What each finding means and what to do about it, in words for people: reason -> (title,
sentence).
"""

from __future__ import annotations

MEANINGS: dict[str, tuple[str, str]] = {
    "not_an_image": ("Not an image", "The bytes are no picture, whatever the name says."),
    "unsupported": (
        "Unsupported format",
        "A picture in a format that is not decoded; convert it to JPEG or PNG.",
    ),
    "too_large": (
        "Too large",
        "The file declares more pixels than anything sensible has; it was not decoded.",
    ),
    "truncated": ("Cut off", "The file ends before the picture does, as after a broken download."),
    "several_frames": (
        "Several frames",
        "An animation or a file of several pages; only the first frame counts.",
    ),
    "corrupted": (
        "Damaged",
        "The bytes are not what was once written; most viewers fill the damage with grey or black.",
    ),
    "crashed": (
        "Crashed its reader",
        "Reading the file ended or hung a worker process; the rest of the scan went on.",
    ),
    "unreadable": (
        "Unreadable",
        "The file could not be read: no permission, or it vanished while we looked.",
    ),
    "missing": ("Missing", "The table names a file that is not there."),
    "link_folder": ("Link to a folder", "Links to folders are not followed, so that loops end."),
    "link_outside": (
        "Link out of the data",
        "A link to a file outside the data set is not followed.",
    ),
    "special": ("Not a plain file", "A pipe, a socket or a device."),
    "name_not_text": (
        "Name is not text",
        "The file's name holds bytes that are not UTF-8; rename it.",
    ),
    "unlabelled": (
        "No label",
        "The file lies in no class folder, or the table says nothing of it.",
    ),
    "two_labels": (
        "One picture, two labels",
        "The same pixels under different labels; at most one of them can be right.",
    ),
    "exact_duplicate": (
        "Exact copy",
        "The same pixels as another file; one of them is kept, that of a test split first.",
    ),
    "near_two_labels": (
        "Near-duplicates, two labels",
        "Nearly the same picture under different labels; look which is right.",
    ),
    "duplicate_across_splits": (
        "Leaks across the source's splits",
        "The same picture in two of the source's own splits; split_method = 'grouped' mends it.",
    ),
    "near_duplicate": (
        "Near-duplicates",
        "Nearly the same picture; a group is never divided between two splits.",
    ),
    "look_alike": (
        "Look-alikes",
        "The same texture or scene in what is another photograph; they are not grouped.",
    ),
    "too_small": ("Too small", "So few pixels that a network has little to see."),
    "odd_aspect": (
        "Odd aspect",
        "Much longer than broad: resizing will change it beyond recognition.",
    ),
    "dark": ("Too dark", "Nearly all pixels are almost black."),
    "bright": ("Too bright", "Nearly all pixels are almost white."),
    "low_contrast": ("Low contrast", "The greys span hardly any of their range."),
    "uniform": ("One colour", "Nearly all pixels have one grey."),
    "blurred": ("Blurred", "Hardly any edge in the whole picture."),
    "wrong_label": (
        "Probably wrong label",
        "A pretrained network's features say another class, learnt from pictures that do not "
        "include this one.",
    ),
    "outlier": (
        "Outlier",
        "Far from the other pictures of its class in a pretrained network's features.",
    ),
    "wrong_extension": (
        "Wrong extension",
        "The name says another format than the bytes; it decodes all the same.",
    ),
    "few": ("Small class", "The class has very few pictures."),
}
