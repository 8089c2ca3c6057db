"""From the cases of a raw dataset to a prepared one: photos read, duplicates found, groups formed, splits dealt."""
