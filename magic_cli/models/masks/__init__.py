"""What only the segmentation of masks needs: its losses."""
