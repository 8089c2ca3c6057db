"""What is on a photo beside skin: a ruler, ink, hair, dark corners, a coloured patch; told by simple rules."""

ARTEFACTS = ("ruler", "pen", "hair", "corners", "patch")
