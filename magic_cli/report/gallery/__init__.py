"""Every photo of a report with the outlines of its masks: sorted, filtered and enlarged without any script."""
