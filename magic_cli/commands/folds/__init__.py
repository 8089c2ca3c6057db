"""Parts of `magic train --folds`."""
