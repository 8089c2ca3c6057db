"""Raw challenge folder -> one prepared dataset: discovery, masks, images, prompts, gold, manifest."""
