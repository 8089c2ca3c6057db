"""Photos with masks as annotation tools export them: outlines, run lengths, or pictures beside the photos."""
