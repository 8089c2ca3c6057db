"""What only the segmentation of masks needs: its losses, attention over scales, maps of saliency, and boxes for SAM."""
